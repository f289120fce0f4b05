/**
 * The process behind a mount: the main thread of the design. It starts the threads that serve (fuse/server.ts),
 * keeps the control socket, turns signals into a clean end, and stays until the mount is gone, whoever took it away.
 *
 * It is the daemon's own process (daemon.ts), or, with `lsnfs mount --foreground`, the command's.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { databaseModule } from '../fuse/database-module.ts';
import type { ShownOwner } from '../fuse/messages.ts';
import { abortConnection } from '../fuse/mount.ts';
import type { MountedDatabaseOptions } from '../fuse/mounted-database.ts';
import { NATIVE_LOSSES } from '../fuse/native/capabilities.ts';
import { startNativeMount } from '../fuse/native/server.ts';
import { type MountHandle, startMount } from '../fuse/server.ts';
import { LsnfsError } from '../src/errors.ts';
import { connectToStore } from '../src/plugin/control-client.ts';
import { isJsonObject, type JsonObject } from '../src/plugin/control-protocol.ts';
import { type ControlServer, startControlServer } from '../src/plugin/control-server.ts';
import { looksAtLeases, needsFlushedMount } from '../src/plugin/operations.ts';
import type { Binding } from './mount-options.ts';

/** How long a store that is in use, but not served, is waited for. */
const IN_USE_PATIENCE_MS = 5000;
const IN_USE_STEP_MS = 100;

export interface ServeOptions {
  readonly storePath: string;
  readonly mountpoint: string;
  readonly readOnly: boolean;
  readonly allowOther: boolean;
  readonly nonEmpty: boolean;
  readonly snapdir: 'hidden' | 'visible';
  /** Default: "kernel". */
  readonly binding?: Binding;
  readonly commitIntervalMs?: number;
  /** Instead of what the store's settings say. */
  readonly atime?: 'relatime' | 'noatime';
  /** Whom all files are shown to belong to, in place of their owner and group in the store. */
  readonly shownOwner: ShownOwner;
  /** What the kernel is told besides: "noexec", "sync", … */
  readonly flags: readonly string[];
  readonly allowPlugins: boolean;
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

function databaseOptions(options: ServeOptions): MountedDatabaseOptions {
  const { storePath, mountpoint, commitIntervalMs, atime, allowPlugins } = options;
  return {
    store: storePath,
    mountpoint,
    allowPlugins,
    ...(commitIntervalMs !== undefined && { commitIntervalMs }),
    ...(atime !== undefined && { atime }),
  };
}

/** Mounts by the binding that was chosen. */
function start(options: ServeOptions, log: Log): Promise<MountHandle> {
  const common = {
    store: options.storePath,
    mountpoint: options.mountpoint,
    readOnly: options.readOnly,
    allowOther: options.allowOther,
    nonEmpty: options.nonEmpty,
    options: options.flags,
    shownOwner: options.shownOwner,
    snapdirVisible: options.snapdir === 'visible',
    databaseOptions: databaseOptions(options),
    log,
  };
  return options.binding === 'fuse-native'
    ? startNativeMount(common)
    : startMount({ ...common, databaseModule: databaseModule() });
}

/** Performs an operation on the store thread, on what programs see at this moment. */
async function execute(
  handle: MountHandle,
  binding: Binding,
  operation: string,
  args: JsonObject,
): Promise<unknown> {
  if (needsFlushedMount(operation, args)) await handle.flushKernelCaches();
  if (looksAtLeases(operation, args)) await handle.dropIdleDoors();
  const result = await handle.execute(operation, args);
  if (operation !== 'status' || !isJsonObject(result)) return result;
  const lacks = binding === 'fuse-native' ? Object.keys(NATIVE_LOSSES) : [];
  return { ...result, mountpoint: handle.mountpoint, pid: process.pid, binding, lacks };
}

/**
 * Ends the mount: kindly first. While programs use it, it is taken out of sight and served until the last of them
 * lets go; asked again, they are cut off, with what they wrote so far saved.
 */
async function endMount(handle: MountHandle, count: number, log: Log): Promise<void> {
  if (count > 1) {
    await handle.flushKernelCaches();
    await handle.execute('commit', {});
    log('cutting off the programs that use it; everything they wrote is committed');
    if (abortConnection(handle.connection)) return;
    // Without fusectl there is no way to cut them off but to end at once (an orderly exit would wait for the thread
    // that reads requests). The next opening of the store replays the log.
    process.kill(process.pid, 'SIGKILL');
    return;
  }
  try {
    await handle.unmount();
  } catch (error) {
    if (!(error instanceof LsnfsError) || error.code !== 'EBUSY') throw error;
    log(`programs use ${handle.mountpoint}: served until they let go, or until the next signal`);
    await handle.unmount({ lazy: true });
  }
}

/** Whether a process answers for the store, as a daemon does; one that was just killed does not. */
async function isServed(storePath: string): Promise<boolean> {
  const client = await connectToStore(storePath);
  if (client === undefined) return false;
  try {
    await client.request('snapshotList');
    return true;
  } catch (error) {
    return !(error instanceof LsnfsError && error.code === 'STORE_CLOSED');
  } finally {
    client.close();
  }
}

/** A store may be in use for a moment by another command, or by a daemon that is ending: that is waited for. */
async function whenNotInUse<Result>(storePath: string, work: () => Promise<Result>): Promise<Result> {
  const deadline = Date.now() + IN_USE_PATIENCE_MS;
  for (;;) {
    try {
      return await work();
    } catch (error) {
      const inUse = error instanceof LsnfsError && error.code === 'STORE_IN_USE';
      if (!inUse || Date.now() > deadline || (await isServed(storePath))) throw error;
    }
    await sleep(IN_USE_STEP_MS);
  }
}

/**
 * Mounts, calls `ready`, and returns when the mount is gone and the store closed. `notice` hears what is said before
 * that: the remains of a crashed mount that were cleaned up, for example.
 * @throws LsnfsError when it cannot be mounted, or when the store could not be closed cleanly.
 */
export async function serveMount(
  options: ServeOptions,
  log: Log,
  notice: Log,
  ready: () => void,
): Promise<void> {
  let handle: MountHandle | undefined;
  let isReady = false;
  let signals = 0;
  const stop = (why: string) => {
    log(`${why}: ending the mount`);
    if (handle === undefined) return;
    endMount(handle, signals, log).catch((error: unknown) => log(`cannot end the mount: ${describe(error)}`));
  };
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      signals++;
      stop(signal);
    });
  }
  // The terminal where it was started may go.
  process.on('SIGHUP', () => {});
  handle = await whenNotInUse(options.storePath, () =>
    start(options, (message) => {
      log(message);
      if (!isReady) notice(message);
    }),
  );
  let control: ControlServer | undefined;
  let failure: unknown;
  try {
    const mount = handle;
    control = await startControlServer({
      storePath: options.storePath,
      execute: (operation, args) => execute(mount, options.binding ?? 'kernel', operation, args),
      onUnexpectedError: (error, operation) => log(`${operation}: ${describe(error)}`),
    });
    log(`mounted ${options.storePath} on ${mount.mountpoint}`);
    isReady = true;
    ready();
    if (signals > 0) stop('a signal came while it was being mounted');
  } catch (error) {
    failure = error;
    stop(`the control socket cannot be served (${describe(error)})`);
  }
  try {
    await handle.ended;
    log(`unmounted ${handle.mountpoint}; the store is closed`);
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
