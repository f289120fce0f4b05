/** `npm start`: sets up, then shows lsnfs at its main job (demonstration.ts). */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { projectDirectory, setUpOrExit } from './set-up.mjs';

setUpOrExit('start');

const script = join(projectDirectory, 'dist', 'scripts', 'demonstration.js');
const child = spawn(process.execPath, [script, ...process.argv.slice(2)], { stdio: 'inherit' });
// Ctrl-C reaches the whole process group: the demonstration cleans up and ends, and we end with it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (signal !== 'SIGINT') child.kill(signal);
  });
}
child.on('exit', (code) => {
  process.exitCode = code ?? 1;
});
