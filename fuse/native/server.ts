/**
 * A mount that libfuse 2 serves, through fuse-native: the second binding, for where the kernel protocol cannot be spoken
 * over a descriptor of one's own.
 *
 * libfuse's threads hand their requests to this process's main thread, which has the engine: the database is open on it as in
 * a program that uses the library, and checkpoints and the like run between requests on its event loop. The log has its
 * thread, so that nothing waits for the disk. Therefore nothing here may touch the mount synchronously, ever: this thread is
 * the one to answer.
 *
 * libfuse does not say when a mount ends. Its descriptor of /dev/fuse does: it is closed when the last request was
 * answered and the mount is gone, whoever took it away. It serves for messages to the kernel as well: after a change that did not
 * come through the mount the names at its root are taken back, and with them all that is below; files that are open are opened
 * once more, which makes the kernel drop what it has of their content.
 */
import { constants, readdirSync, readlinkSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join, resolve as resolvePath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { LsnfsError, systemErrorCode } from '../../src/errors.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import { type Database, openServed } from '../../src/plugin/database.ts';
import { executeOperation, type OperationName } from '../../src/plugin/operations.ts';
import { ThreadedLog } from '../../src/wal/threaded-log.ts';
import { closeAtExec } from '../descriptor-passing.ts';
import type { ShownOwner } from '../messages.ts';
import {
  abortConnection,
  FUSE_DEVICE,
  type MountOptions,
  prepareMountpoint,
  setReadahead,
  type UnmountOptions,
  unmount,
  unmountNow,
} from '../mount.ts';
import type { MountedDatabaseOptions } from '../mounted-database.ts';
import { MOUNT_SUBTYPE, mountAt } from '../mountinfo.ts';
import { invalidateEntry, invalidateInode, Notifier } from '../notify.ts';
import { FUSE_ROOT_ID } from '../protocol.ts';
import type { MountHandle } from '../server.ts';
import { Addon, type NativeMount } from './addon.ts';
import { describeLosses } from './capabilities.ts';
import { Dispatcher } from './dispatch.ts';
import { Operations } from './operations.ts';

/** How often is looked whether the mount has ended. */
const END_POLL_MS = 50;
/** How far the kernel reads ahead. */
const READAHEAD_KIBIBYTES = 1024;
/** For how long the kernel may go by what a name led to. */
const ENTRY_SECONDS = 1;
/** Files that are opened through the mount at the same time; the thread pool has four threads. */
const OPENS_AT_ONCE = 2;
/** For files that are opened only to be closed. */
const OPEN_FLAGS = constants.O_RDONLY | constants.O_NONBLOCK | constants.O_NOFOLLOW;
/** How long libfuse may take from the mount to its first request. */
const READY_WITHIN_MS = 20_000;

export interface NativeStartOptions extends MountOptions {
  readonly databaseOptions: MountedDatabaseOptions;
  /** Whether `ls` of the root shows the snapshots. Default: no. */
  readonly snapdirVisible?: boolean;
  /** Whom all files are shown to belong to. Default: as in the store. */
  readonly shownOwner?: ShownOwner;
  /** What the server has to say. Default: lines on stderr. */
  readonly log?: (message: string) => void;
}

/**
 * Mounts a store through fuse-native and serves it, on this thread, until it is unmounted.
 * @throws LsnfsError MOUNT_REFUSED when it cannot be mounted, also for want of fuse-native or libfuse; errors of opening the store
 */
export async function startNativeMount(options: NativeStartOptions): Promise<MountHandle> {
  const log = options.log ?? ((message: string) => process.stderr.write(`lsnfs: ${message}\n`));
  const addon = new Addon();
  const store = resolvePath(options.store);
  const mountpoint = await prepareMountpoint({ ...options, store }, log);
  const { databaseOptions } = options;
  const database = await openDatabase(databaseOptions, options.readOnly === true, log);
  const server = new NativeServer({ ...options, store, mountpoint }, addon, database, log);
  try {
    await server.start();
  } catch (error) {
    await server.giveUp();
    throw error;
  }
  log(describeLosses());
  return server;
}

async function openDatabase(
  options: MountedDatabaseOptions,
  readOnly: boolean,
  log: (message: string) => void,
): Promise<Database> {
  const { store, mountpoint, commitIntervalMs, atime, allowPlugins } = options;
  const database = await openServed(
    store,
    {
      readOnly,
      allowPlugins: allowPlugins === true,
      warn: log,
      ...(commitIntervalMs !== undefined && { commitIntervalMs }),
    },
    {
      mountpoint,
      openLog: (logOptions) => new ThreadedLog(logOptions),
      vfs: { checkPermissions: false, ...(atime !== undefined && { atime }) },
    },
  );
  const { recovered } = database.store;
  if (recovered.transactions > 0) {
    log(
      `replayed ${recovered.transactions} transactions from the log, up to LSN ${recovered.endLsn}, where it ends: ${recovered.reason}`,
    );
  }
  return database;
}

/** Descriptors of /dev/fuse that this process has. */
function fuseDescriptors(): number[] {
  const link = (descriptor: string): string => {
    try {
      return readlinkSync(`/proc/self/fd/${descriptor}`);
    } catch (error) {
      // The one that the listing itself had.
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      return '';
    }
  };
  return readdirSync('/proc/self/fd')
    .filter((descriptor) => link(descriptor) === FUSE_DEVICE)
    .map(Number);
}

/** An option's value, with what separates options escaped. */
function escaped(value: string): string {
  return value.replace(/[\\,]/g, '\\$&');
}

function libfuseOptions({ store, readOnly, allowOther, options }: MountOptions): string[] {
  return [
    `fsname=${escaped(store)}`,
    `subtype=${MOUNT_SUBTYPE}`,
    'default_permissions',
    'nosuid',
    'nodev',
    ...(allowOther === true ? ['allow_other'] : []),
    readOnly === true ? 'ro' : 'rw',
    ...(options ?? []),
    // Whether the directory is empty was looked at. For other users than root fusermount mounts, which does not know the option.
    ...(process.geteuid!() === 0 ? ['nonempty'] : []),
    'use_ino',
    'big_writes',
    `entry_timeout=${ENTRY_SECONDS}`,
    // Two names of a file are two files to libfuse and the kernel, and what changes by one of them is not known of the other.
    'attr_timeout=0',
    'negative_timeout=0',
  ];
}

class NativeServer implements MountHandle {
  readonly mountpoint: string;
  readonly store: string;
  connection = -1;
  readonly ended: Promise<void>;
  private readonly options: NativeStartOptions;
  private readonly addon: Addon;
  private readonly database: Database;
  private readonly operations: Operations;
  private readonly dispatcher: Dispatcher;
  private readonly log: (message: string) => void;
  private native: NativeMount | undefined;
  private descriptor = -1;
  private notifier: Notifier | undefined;
  /** Resolves when the kernel knows of all changes that were made behind its back. */
  private told: Promise<void> = Promise.resolve();
  private isReady = false;
  private onReady: () => void = () => {};
  private mounted = false;
  private finished = false;
  private timer: NodeJS.Timeout | undefined;
  private settle!: { resolve: () => void; reject: (error: unknown) => void };

  constructor(options: NativeStartOptions, addon: Addon, database: Database, log: (message: string) => void) {
    this.options = options;
    this.mountpoint = options.mountpoint;
    this.store = options.store;
    this.addon = addon;
    this.database = database;
    this.log = log;
    const shownOwner = options.shownOwner ?? {};
    this.operations = new Operations({
      volume: database.volume,
      durable: (lsn) => database.store.log.sync(lsn),
      owner: { uid: process.geteuid!(), gid: process.getegid!() },
      allowOther: options.allowOther === true,
      shownOwner,
      snapdirVisible: options.snapdirVisible === true,
    });
    this.dispatcher = new Dispatcher({
      addon,
      operations: this.operations,
      shownOwner,
      ready: () => {
        this.isReady = true;
        this.onReady();
      },
      log,
    });
    this.ended = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Whoever does not ask how it ended is not to be killed by it.
    this.ended.catch(() => {});
  }

  async start(): Promise<void> {
    const before = new Set(fuseDescriptors());
    process.on('exit', this.atExit);
    this.native = this.addon.mount(this.mountpoint, libfuseOptions(this.options), this.dispatcher.handlers());
    this.mounted = true;
    this.descriptor = fuseDescriptors().find((descriptor) => !before.has(descriptor)) ?? -1;
    if (this.descriptor < 0) throw new LsnfsError('IO', 'libfuse has mounted, and has no descriptor for it');
    this.connection = mountAt(this.mountpoint)?.deviceMinor ?? -1;
    this.timer = setInterval(this.look, END_POLL_MS);
    await this.keepDescriptorPrivate();
    if (!this.isReady) await this.untilReady();
    if (this.connection >= 0) setReadahead(this.connection, READAHEAD_KIBIBYTES);
    this.notifier = new Notifier(this.descriptor);
    this.database.onChange(() => this.tellEverything());
    this.database.volume.onSnapshotChange((name) =>
      this.tell([invalidateEntry(0, FUSE_ROOT_ID, Buffer.from(`@${name}`))]),
    );
  }

  /** Programs that this process starts would keep the connection alive after its end, with nobody who answers. */
  private async keepDescriptorPrivate(): Promise<void> {
    try {
      await closeAtExec(this.descriptor);
    } catch (error) {
      this.log(`programs that the server starts inherit its descriptor of ${FUSE_DEVICE}: ${String(error)}`);
    }
  }

  private async untilReady(): Promise<void> {
    const ready = new Promise<'ready'>((resolve) => {
      this.onReady = () => resolve('ready');
    });
    const outcome = await Promise.race([
      ready,
      this.ended.then(() => 'ended' as const),
      sleep(READY_WITHIN_MS, 'late' as const, { ref: false }),
    ]);
    if (outcome === 'ready') return;
    const why = outcome === 'ended' ? 'was unmounted before it was ready' : 'gets no request from the kernel';
    throw new LsnfsError('MOUNT_REFUSED', `${this.mountpoint} ${why}`, { mountpoint: this.mountpoint });
  }

  /** Undoes a start that failed. */
  async giveUp(): Promise<void> {
    if (this.mounted) {
      this.abort();
      await unmount(this.mountpoint, { lazy: true }).catch((error) => this.log(String(error)));
      await this.ended.catch(() => {});
    } else await this.finish();
  }

  async execute(name: string, args: unknown): Promise<unknown> {
    if (this.finished) throw new LsnfsError('STORE_CLOSED', `${this.mountpoint} is not mounted any more`);
    if (typeof args !== 'object' || args === null)
      throw new LsnfsError('INVALID_INPUT', 'arguments are an object');
    this.dispatcher.settle();
    const result = await executeOperation(this.database, name as OperationName, args as JsonObject);
    // The kernel is to know of what the command changed before anybody hears that it is done.
    await this.told;
    return result;
  }

  async flushKernelCaches(): Promise<void> {
    await this.openAll(this.operations.files.paths(true));
  }

  /** The kernel keeps no past state: a path is looked up anew with each request. */
  dropIdleDoors(): Promise<number> {
    return Promise.resolve(0);
  }

  requestCounts(): Promise<Record<string, number>> {
    return Promise.resolve({ ...this.dispatcher.counts });
  }

  async unmount(options: UnmountOptions = {}): Promise<void> {
    if (!this.finished) await unmount(this.mountpoint, options);
    await this.ended;
  }

  /** Something changed that did not come through the mount. */
  private tellEverything(): void {
    const names = [...this.operations.paths.rootNames];
    this.operations.paths.rootNames.clear();
    const messages = names.map((name) => invalidateEntry(0, FUSE_ROOT_ID, Buffer.from(name)));
    this.tell([...messages, invalidateInode(0, FUSE_ROOT_ID)], true);
  }

  private tell(messages: readonly Uint8Array[], all = false): void {
    this.told = this.told.then(async () => {
      try {
        await this.notifier?.send(messages);
        if (all) await this.openAll(this.operations.files.paths(false));
      } catch (error) {
        this.log(`an invalidation failed: ${String(error)}`);
      }
    });
  }

  /**
   * Opens live files through the mount and closes them: open(2) makes the kernel drop what it has of the content, unless it is
   * to be written, stat(2) asks for the size, and close(2) writes back what programs have changed, also in mappings.
   */
  private async openAll(paths: string[]): Promise<void> {
    const openers: Promise<void>[] = [];
    for (let i = 0; i < OPENS_AT_ONCE; i++) openers.push(this.openSome(paths));
    await Promise.all(openers);
  }

  private async openSome(paths: string[]): Promise<void> {
    for (let path = paths.pop(); path !== undefined; path = paths.pop()) {
      try {
        // Whatever else has the path by now: it is not waited for.
        const file = await open(join(this.mountpoint, path), OPEN_FLAGS);
        try {
          await file.stat();
        } finally {
          await file.close();
        }
      } catch (error) {
        // Gone or closed meanwhile, or the mount is.
        if (systemErrorCode(error) === undefined) throw error;
        this.log(`${path} could not be opened through the mount: ${String(error)}`);
      }
    }
  }

  /** Whether the mount has ended: libfuse has closed its descriptor. */
  private readonly look = (): void => {
    let link: string;
    try {
      link = readlinkSync(`/proc/self/fd/${this.descriptor}`);
    } catch (error) {
      if (systemErrorCode(error) !== 'ENOENT') throw error;
      link = '';
    }
    if (link === FUSE_DEVICE) return;
    this.mounted = false;
    this.finish().catch((error: unknown) => this.log(String(error)));
  };

  /** Ends everything else. */
  private async finish(): Promise<void> {
    if (this.finished) return;
    this.finished = true;
    clearInterval(this.timer);
    process.off('exit', this.atExit);
    await this.notifier?.end();
    this.dispatcher.end();
    try {
      await this.removeDead();
      this.operations.end();
      await this.database.close();
      this.settle.resolve();
    } catch (error) {
      this.settle.reject(error);
    } finally {
      this.native?.release();
    }
  }

  /** An aborted connection leaves its mount behind, which answers nobody. */
  private async removeDead(): Promise<void> {
    if (this.connection < 0 || mountAt(this.mountpoint)?.deviceMinor !== this.connection) return;
    this.log(`the connection of ${this.mountpoint} was aborted`);
    await unmount(this.mountpoint, { lazy: true }).catch((error) => this.log(String(error)));
  }

  private abort(): void {
    if (this.connection < 0) this.connection = mountAt(this.mountpoint)?.deviceMinor ?? -1;
    if (this.connection >= 0) abortConnection(this.connection);
  }

  /** The process ends without having unmounted: nobody is to hang. Only what does not wait can be done here. */
  private readonly atExit = (): void => {
    if (!this.mounted) return;
    this.abort();
    unmountNow(this.mountpoint);
  };
}
