/**
 * The process behind a mount: the main thread of the design. It starts the threads that serve (fuse/server.ts),
 * keeps the control socket, turns signals into a clean end, and stays until the mount is gone, whoever took it away.
 *
 * It is the daemon's own process (daemon.ts), or, with `lsnfs mount --foreground`, the command's.
 */
import { writeSync } from 'node:fs';
import { type MountHandle, startMount } from '../fuse/server.ts';
import { LsnfsError } from '../src/errors.ts';
import { isJsonObject, type JsonObject } from '../src/plugin/control-protocol.ts';
import { type ControlServer, startControlServer } from '../src/plugin/control-server.ts';
import { needsFlushedMount } from '../src/plugin/operations.ts';

export interface ServeOptions {
  readonly storePath: string;
  readonly mountpoint: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly nonEmpty: boolean;
  readonly snapdir: 'hidden' | 'visible';
  readonly commitIntervalMs?: number;
}

export type Log = (message: string) => void;

/** Lines with time and process id, written at once: the last one before a crash is the one that matters. */
export function logTo(descriptor: number): Log {
  return (message) => {
    try {
      writeSync(descriptor, `${new Date().toISOString()} [${process.pid}] ${message}\n`);
    } catch {
      // A full disk must not end the daemon because of its log.
    }
  };
}

/** Performs an operation on the store thread, on what programs see at this moment. */
async function execute(
  handle: MountHandle,
  options: ServeOptions,
  operation: string,
  args: JsonObject,
): Promise<unknown> {
  if (needsFlushedMount(operation, args)) await handle.flushKernelCaches();
  const result = await handle.execute(operation, args);
  if (operation !== 'status' || !isJsonObject(result)) return result;
  return { ...result, mountpoint: options.mountpoint, pid: process.pid };
}

/** Takes signals from the moment it is called; `stop` is called for the first and every further one. */
function onSignals(stop: (signal: NodeJS.Signals, count: number) => void): void {
  let count = 0;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => stop(signal, ++count));
  }
  // The terminal where it was started may go.
  process.on('SIGHUP', () => {});
}

/**
 * Mounts, calls `ready`, and returns when the mount is gone and the store closed.
 * @throws LsnfsError when it cannot be mounted, or when the store could not be closed cleanly.
 */
export async function serveMount(
  options: ServeOptions,
  log: Log,
  ready: (notice?: string) => void,
): Promise<void> {
  let handle: MountHandle | undefined;
  let stopRequested = false;
  const unmountFor = (why: string) => {
    log(`${why}: unmounting ${options.mountpoint}`);
    handle?.unmount().catch((error: unknown) => log(`cannot unmount: ${describe(error)}`));
  };
  onSignals((signal) => {
    stopRequested = true;
    unmountFor(signal);
  });
  handle = await startMount({ ...options, log });
  let control: ControlServer | undefined;
  let failure: unknown;
  try {
    const mount = handle;
    control = await startControlServer({
      storePath: options.storePath,
      execute: (operation, args) => execute(mount, options, operation, args),
      onUnexpectedError: (error, operation) => log(`${operation}: ${describe(error)}`),
    });
    log(`mounted ${options.storePath} on ${options.mountpoint}`);
    if (stopRequested) unmountFor('asked to stop meanwhile');
    ready(handle.notice);
  } catch (error) {
    failure = error;
    unmountFor(`the control socket cannot be served (${describe(error)})`);
  }
  try {
    await handle.closed;
    log(`unmounted ${options.mountpoint}; the store is closed`);
  } catch (error) {
    log(`the store was not closed cleanly: ${describe(error)}`);
    failure ??= error;
  }
  await control?.closed(failure);
  if (failure !== undefined) throw failure;
}

/** With the stack for what nobody expected. */
export function describe(error: unknown): string {
  if (error instanceof LsnfsError || !(error instanceof Error))
    return error instanceof Error ? error.message : String(error);
  return error.stack ?? error.message;
}
