/**
 * After `npm install -g` by root: `lsnfs setup`, which npm cannot do by itself. Anywhere else it does nothing, and it
 * never makes an installation fail: lsnfs works without what it puts in place.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const command = fileURLToPath(new URL('../dist/bundle/lsnfs.js', import.meta.url));
const isGlobal = process.env.npm_config_global === 'true';
if (isGlobal && process.platform === 'linux' && process.getuid?.() === 0 && existsSync(command)) {
  const { status } = spawnSync(process.execPath, [command, 'setup'], { stdio: 'inherit' });
  if (status !== 0) process.stderr.write("lsnfs: 'lsnfs setup' can be run later\n");
}
