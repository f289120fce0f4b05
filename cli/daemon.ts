/**
 * The entry of the detached process that `lsnfs mount` starts.
 *
 * Options come as JSON in the first argument; standard error is the log. How the start went is told once over the
 * IPC channel, which is then closed so that the command can end.
 */
import { errorToWire, type WireError } from '../src/plugin/control-protocol.ts';
import { EXIT } from './exit-codes.ts';
import { describe, logTo, type ServeOptions, serveMount } from './serve.ts';

/** What the command hears. */
export type DaemonMessage =
  | { readonly ready: true; readonly notices: readonly string[] }
  | { readonly failed: WireError };

const log = logTo(2);
const options = JSON.parse(process.argv[2] ?? 'null') as ServeOptions;
const notices: string[] = [];
let told = false;

function tell(message: DaemonMessage): void {
  if (told || !process.connected) return;
  told = true;
  process.send?.(message, () => {
    if (process.connected) process.disconnect();
  });
}

// The command was ended before the mount was ready: then nobody wants it.
process.on('disconnect', () => {
  if (!told) process.kill(process.pid, 'SIGTERM');
});
// A bug on this thread must not take the mount down: the threads that serve do not depend on it.
process.on('uncaughtException', (error) => log(`unexpected: ${describe(error)}`));

try {
  await serveMount(
    options,
    log,
    (notice) => notices.push(notice),
    () => tell({ ready: true, notices }),
  );
} catch (error) {
  if (!told) log(`cannot mount: ${describe(error)}`);
  tell({ failed: errorToWire(error) });
  process.exitCode = EXIT.failed;
}
