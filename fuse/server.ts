/**
 * The server of a mount, on the main thread: mounts, starts the store thread, passes commands to it, keeps it
 * awake, and does for it what it must not do itself (invalidations, flushing the kernel's caches).
 *
 * The main thread never touches the mount synchronously. Whatever way the process ends, nobody is left hanging on the
 * mount: on a crash of the store thread, and at an exit that did not unmount, the connection is aborted.
 */

import { randomBytes } from 'node:crypto';
import { closeSync, writeSync } from 'node:fs';
import { lstat, open, statfs } from 'node:fs/promises';
import { isAbsolute, join, resolve as resolvePath } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Worker } from 'node:worker_threads';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import {
  fromWire,
  type IdleDoor,
  NEEDS,
  SHARED,
  type ShownOwner,
  type StoreThreadData,
  type ToMain,
  type ToStore,
} from './messages.ts';
import {
  abortConnection,
  type Device,
  type MountOptions,
  openDevice,
  prepareMountpoint,
  setReadahead,
  type UnmountOptions,
  unmount,
  unmountNow,
} from './mount.ts';
import { mountAt } from './mountinfo.ts';
import { WAKE_NAME } from './names.ts';
import { invalidateEntry, invalidateInode, Notifier, wakeUp } from './notify.ts';
import { FUSE_ROOT_ID } from './protocol.ts';
import { type KernelTimes, type RestoredFile, refreshFile } from './refresh.ts';

/** Space for new objects on the store thread: semi-spaces of a third of it. */
const STORE_THREAD_YOUNG_MB = 12;
/** How often the store thread is looked in on when it needs nothing; its timers run then. */
const HEARTBEAT_MS = 1000;
const BACKGROUND_MS = 5;
const EVENT_LOOP_MS = 1;
/** A past state that no request reached for so long is taken back from the kernel. */
const IDLE_DOOR_SECONDS = 300;
/** How often within that time is looked. */
const DOOR_SWEEPS = 5;
/** How often, and how far apart, is looked whether the kernel has given a past state back. */
const FORGET_ATTEMPTS = 4;
const FORGET_PAUSE_MS = 15;
/** How far the kernel reads ahead. */
const READAHEAD_KIBIBYTES = 1024;
/** Files that are flushed at the same time; the thread pool has four threads. */
const FLUSHES_AT_ONCE = 2;

export interface StartOptions extends MountOptions {
  /** Path or file URL of the module that opens the database (see DatabaseModule). */
  readonly databaseModule: string;
  /** Passed to it; must survive structured cloning. */
  readonly databaseOptions?: unknown;
  /** Whether `ls` of the root shows the snapshots. Default: no. */
  readonly snapdirVisible?: boolean;
  /** Whom all files are shown to belong to. Default: as in the store. */
  readonly shownOwner?: ShownOwner;
  /** Counts requests by opcode. Default: no. */
  readonly countRequests?: boolean;
  /** What the server has to say. Default: lines on stderr. */
  readonly log?: (message: string) => void;
  /** Seconds without a request after which a past state is taken back from the kernel. Default: 300. */
  readonly idleDoorSeconds?: number;
}

export interface MountHandle {
  readonly mountpoint: string;
  readonly store: string;
  /** The name of the connection in /sys/fs/fuse/connections. */
  readonly connection: number;
  /** Resolves when the mount is gone and the database closed; rejects when the store thread died or closing failed. */
  readonly ended: Promise<void>;
  /** Runs a command of the database on the store thread; resolves when the kernel knows of its effects. */
  execute(name: string, args: unknown): Promise<unknown>;
  /** Has the kernel write back all that programs have written through the mount, and waits for it. */
  flushKernelCaches(): Promise<void>;
  /** Takes past states that no program uses back from the kernel. Returns how many it let go. */
  dropIdleDoors(idleTicks?: number): Promise<number>;
  /** Requests by opcode since the start, when they are counted. */
  requestCounts(): Promise<Record<string, number>>;
  /** Unmounts and waits until the database is closed. */
  unmount(options?: UnmountOptions): Promise<void>;
}

/** Mounts a store and serves it until it is unmounted. @throws LsnfsError MOUNT_REFUSED, … */
export async function startMount(options: StartOptions): Promise<MountHandle> {
  const log = options.log ?? ((message: string) => process.stderr.write(`lsnfs: ${message}\n`));
  const store = resolvePath(options.store);
  const mountpoint = await prepareMountpoint({ ...options, store }, log);
  const device = await openDevice(mountpoint);
  const server = new MountServer({ ...options, store, mountpoint }, device, log);
  try {
    await server.start();
  } catch (error) {
    await server.giveUp();
    throw error;
  } finally {
    device.endMounting();
  }
  return server;
}

interface Waiting {
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

function moduleUrl(path: string): string {
  return isAbsolute(path) ? pathToFileURL(path).href : path;
}

class MountServer implements MountHandle {
  readonly mountpoint: string;
  readonly store: string;
  connection = -1;
  readonly ended: Promise<void>;
  private readonly options: StartOptions;
  private readonly device: Device;
  private readonly descriptor: number;
  private readonly log: (message: string) => void;
  private readonly shared = new SharedArrayBuffer(SHARED.COUNT * 4);
  private readonly words = new Int32Array(this.shared);
  private readonly wakeMessage = wakeUp();
  private readonly notifier: Notifier;
  private readonly token = randomBytes(16).toString('hex');
  private readonly waiting = new Map<number, Waiting>();
  private lastId = 0;
  private worker: Worker | undefined;
  private timer: NodeJS.Timeout | undefined;
  private sweeper: NodeJS.Timeout | undefined;
  /** Why it ended, if not by an unmount. */
  private failure: Error | undefined;
  private mounted = false;
  private finished = false;
  private settle!: { resolve: () => void; reject: (error: Error) => void };
  private opened!: { resolve: () => void; reject: (error: Error) => void };
  private ready!: { resolve: () => void; reject: (error: Error) => void };
  /** Resolves when all refreshes that were asked for are done. */
  private refreshed: Promise<void> = Promise.resolve();
  /** Whether the kernel knows the file of the wake-up; otherwise a statfs of the mount point does it. */
  private wakesByRetrieval = false;

  constructor(options: StartOptions, device: Device, log: (message: string) => void) {
    this.options = options;
    this.mountpoint = options.mountpoint;
    this.store = options.store;
    this.device = device;
    this.descriptor = device.descriptor;
    this.log = log;
    this.notifier = new Notifier(this.descriptor);
    this.ended = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Whoever does not ask how it ended is not to be killed by it.
    this.ended.catch(() => {});
  }

  async start(): Promise<void> {
    const { options } = this;
    const opened = new Promise<void>((resolve, reject) => {
      this.opened = { resolve, reject };
    });
    const ready = new Promise<void>((resolve, reject) => {
      this.ready = { resolve, reject };
    });
    ready.catch(() => {});
    const workerData: StoreThreadData = {
      descriptor: this.descriptor,
      shared: this.shared,
      databaseModule: moduleUrl(options.databaseModule),
      databaseOptions: options.databaseOptions,
      readOnly: options.readOnly === true,
      snapdirVisible: options.snapdirVisible === true,
      shownOwner: options.shownOwner ?? {},
      token: this.token,
      countRequests: options.countRequests === true,
    };
    const script = import.meta.url.endsWith('.ts') ? './store-thread.ts' : './store-thread.js';
    // Requests leave little behind: a small young generation keeps the process small, and is no slower.
    const resourceLimits = { maxYoungGenerationSizeMb: STORE_THREAD_YOUNG_MB };
    const worker = new Worker(new URL(script, import.meta.url), { workerData, resourceLimits });
    this.worker = worker;
    worker.on('message', (message: ToMain) => this.take(message));
    worker.on('error', (error) => this.crashed(error));
    worker.on('exit', () => this.exited());
    process.on('exit', this.atExit);
    await opened;
    await this.device.mount(this.mountpoint, options, () => this.post({ kind: 'serve' }));
    this.mounted = true;
    this.connection = mountAt(this.mountpoint)?.deviceMinor ?? -1;
    await ready;
    if (this.connection >= 0) setReadahead(this.connection, READAHEAD_KIBIBYTES);
    await this.prepareWake();
    this.beatAfter(HEARTBEAT_MS);
    const idleMs = (options.idleDoorSeconds ?? IDLE_DOOR_SECONDS) * 1000;
    this.sweeper = setInterval(this.sweepDoors, idleMs / DOOR_SWEEPS);
  }

  /** Undoes a start that failed. */
  async giveUp(): Promise<void> {
    if (this.mounted) {
      this.abort();
      await unmount(this.mountpoint, { lazy: true }).catch((error) => this.log(String(error)));
    } else if (this.worker !== undefined && !this.finished) this.post({ kind: 'cancel' });
    if (this.worker === undefined) this.finish();
    else await this.ended.catch(() => {});
  }

  async execute(name: string, args: unknown): Promise<unknown> {
    const result = await this.ask((id) => ({ kind: 'execute', id, name, args }));
    // Invalidations that the command caused were told before its result: the kernel has followed them now.
    await this.notifier.send([]);
    await this.refreshed;
    return result;
  }

  /** Gives the kernel what no invalidation does: see refresh.ts. */
  private async refresh(files: readonly RestoredFile[], directories: readonly Uint8Array[]): Promise<void> {
    await this.notifier.send([]);
    for (const restored of files) {
      const { inode } = restored;
      let times: KernelTimes | undefined;
      try {
        times = await refreshFile(join(this.mountpoint, `@${this.token}-${inode}`), restored);
      } catch (error) {
        this.log(
          `what programs see of the restored inode ${inode}, which is open, may be old: ${String(error)}`,
        );
      } finally {
        if (!this.finished) this.post({ kind: 'refreshed', inode, times });
      }
    }
    for (const path of directories) {
      // Gone again meanwhile, or the mount is: then there is no name to have back.
      await lstat(Buffer.concat([Buffer.from(this.mountpoint), path])).catch(() => {});
    }
  }

  async requestCounts(): Promise<Record<string, number>> {
    return (await this.ask((id) => ({ kind: 'counts', id }))) as Record<string, number>;
  }

  async flushKernelCaches(): Promise<void> {
    const inodes = (await this.ask((id) => ({ kind: 'writers', id }))) as number[];
    const flushers: Promise<void>[] = [];
    for (let i = 0; i < FLUSHES_AT_ONCE; i++) flushers.push(this.flushSome(inodes));
    await Promise.all(flushers);
  }

  private async flushSome(inodes: number[]): Promise<void> {
    for (let inode = inodes.pop(); inode !== undefined; inode = inodes.pop()) await this.flushInode(inode);
  }

  /**
   * Opens a live file by its number and closes it: close(2) makes the kernel write back the dirty pages of the
   * inode, whoever wrote them, shared mappings included, and waits. Nothing is dropped from its cache.
   */
  private async flushInode(inode: number): Promise<void> {
    try {
      const file = await open(join(this.mountpoint, `@${this.token}-${inode}`), 'r');
      await file.close();
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      // Gone meanwhile; not ours to open; or the mount was taken out of sight (umount -l) and is still in use. An
      // invalidation writes back too, at the price of the cached pages, and minds none of that.
      await this.notifier.send([invalidateInode(0, inode)]);
    }
  }

  async dropIdleDoors(idleTicks = 0): Promise<number> {
    const idle = (await this.ask((id) => ({ kind: 'idle-doors', id, ticks: idleTicks }))) as IdleDoor[];
    if (idle.length === 0) return 0;
    await this.notifier.send(idle.map((door) => invalidateEntry(0, FUSE_ROOT_ID, door.name)));
    const numbers = idle.map((door) => door.number);
    let open = new Set<number>(numbers);
    // The kernel gives nodes back one by one, and files that were just closed a little later.
    for (let attempt = 0; attempt < FORGET_ATTEMPTS && open.size > 0; attempt++) {
      if (attempt > 0) await sleep(FORGET_PAUSE_MS);
      open = new Set((await this.ask((id) => ({ kind: 'open-doors', id, numbers }))) as number[]);
    }
    for (const door of idle) {
      // A program has its working directory there: looked up again, the directory has its name back.
      if (open.has(door.number))
        await lstat(Buffer.concat([Buffer.from(`${this.mountpoint}/`), door.name])).catch(() => {});
    }
    return idle.length - open.size;
  }

  async unmount(options: UnmountOptions = {}): Promise<void> {
    if (!this.finished) await unmount(this.mountpoint, options);
    await this.ended;
  }

  private ask(message: (id: number) => ToStore): Promise<unknown> {
    if (this.finished)
      return Promise.reject(new LsnfsError('STORE_CLOSED', `${this.mountpoint} is not mounted any more`));
    return new Promise((resolve, reject) => {
      const id = ++this.lastId;
      this.waiting.set(id, { resolve, reject });
      this.post(message(id));
    });
  }

  private post(message: ToStore): void {
    this.worker!.postMessage(message);
    Atomics.add(this.words, SHARED.COMMANDS, 1);
    if (this.mounted) this.wake();
  }

  /** Ends the store thread's blocking read. */
  private wake(): void {
    if (this.wakesByRetrieval) {
      // One that is under way and was not seen will be seen after what it is for.
      if (Atomics.compareExchange(this.words, SHARED.WAKING, 0, 1) !== 0) return;
      try {
        writeSync(this.descriptor, this.wakeMessage, 0, this.wakeMessage.length, null);
        return;
      } catch (error) {
        Atomics.store(this.words, SHARED.WAKING, 0);
        const code = systemErrorCode(error);
        // Unmounted: the read has ended, or is about to.
        if (code === 'ENODEV' || code === 'ENOTCONN' || code === 'ECONNABORTED') return;
        this.wakesByRetrieval = false;
        // ENOENT: it was forgotten under memory pressure, or with everything else in an invalidation.
        if (code === 'ENOENT') void this.prepareWake();
        else
          this.log(`the kernel refuses the wake-up by notification (${code}); a statfs does it from now on`);
      }
    }
    // It reaches the server every time; a failure says that the mount is gone.
    statfs(this.mountpoint).catch(() => {});
  }

  /** Lets the kernel know the file of the wake-up. Never rejects. */
  private async prepareWake(): Promise<void> {
    try {
      await lstat(`${this.mountpoint}/@${this.token}-${WAKE_NAME}`);
      this.wakesByRetrieval = true;
    } catch (error) {
      // ENOENT: the mount is being taken away, or is out of sight already (umount -l).
      if (!this.mounted || systemErrorCode(error) === 'ENOENT') return;
      this.log(`the wake-up by notification cannot be had (${String(error)}); a statfs does it`);
    }
  }

  /** Looks in on the store thread, as often as it needs it. */
  private readonly beat = (): void => {
    this.wake();
    const needs = Atomics.load(this.words, SHARED.NEEDS);
    this.beatAfter(
      needs === NEEDS.EVENT_LOOP ? EVENT_LOOP_MS : needs === NEEDS.BACKGROUND ? BACKGROUND_MS : HEARTBEAT_MS,
    );
  };

  private beatAfter(milliseconds: number): void {
    clearTimeout(this.timer);
    if (!this.finished) this.timer = setTimeout(this.beat, milliseconds);
  }

  private readonly sweepDoors = (): void => {
    this.dropIdleDoors(DOOR_SWEEPS).catch((error) => {
      if (!this.finished) this.log(`taking unused past states back from the kernel failed: ${String(error)}`);
    });
  };

  private take(message: ToMain): void {
    switch (message.kind) {
      case 'opened':
        this.opened.resolve();
        break;
      case 'open-failed': {
        const error = fromWire(message.error);
        this.opened.reject(error);
        this.ready.reject(error);
        break;
      }
      case 'needs':
        this.beatAfter(EVENT_LOOP_MS);
        break;
      case 'ready':
        this.ready.resolve();
        break;
      case 'refused':
        this.ready.reject(new LsnfsError('MOUNT_REFUSED', message.reason, { mountpoint: this.mountpoint }));
        break;
      case 'result':
        this.answered(message.id)?.resolve(message.value);
        break;
      case 'failed':
        this.answered(message.id)?.reject(fromWire(message.error));
        break;
      case 'notify':
        this.notifier
          .send(message.messages)
          .catch((error) => this.log(`an invalidation failed: ${String(error)}`));
        break;
      case 'refresh':
        this.refreshed = this.refreshed.then(() => this.refresh(message.files, message.directories));
        break;
      case 'write-back':
        this.writeBack(message.ticket, message.inode);
        break;
      case 'log':
        this.log(message.text);
        break;
      case 'unmounted':
        this.mounted = false;
        this.stopTimers();
        this.ready.reject(
          new LsnfsError('NOT_MOUNTED', `${this.mountpoint} was unmounted before it was ready`),
        );
        if (message.aborted) this.log(`the connection of ${this.mountpoint} was aborted`);
        break;
      case 'closed':
        if (message.error !== undefined) this.failure ??= fromWire(message.error);
        break;
    }
  }

  private answered(id: number): Waiting | undefined {
    const waiting = this.waiting.get(id);
    this.waiting.delete(id);
    return waiting;
  }

  private writeBack(ticket: number, inode: number): void {
    this.notifier
      .send([invalidateInode(0, inode)])
      .catch((error) => this.log(`writing back inode ${inode} failed: ${String(error)}`))
      .finally(() => {
        if (!this.finished) this.post({ kind: 'written-back', ticket });
      });
  }

  /** The store thread died of an error: nobody answers any more, so nobody may be left waiting. */
  private crashed(error: Error): void {
    this.log(`the store thread died: ${error.stack ?? error.message}`);
    this.failure ??= error;
    this.abort();
  }

  private exited(): void {
    const why = this.failure ?? new LsnfsError('NOT_MOUNTED', `${this.mountpoint} is not mounted any more`);
    this.opened.reject(why);
    this.ready.reject(why);
    if (this.mounted) {
      // It ended without the mount having ended.
      this.mounted = false;
      this.abort();
      unmount(this.mountpoint, { lazy: true })
        .catch((error) => this.log(String(error)))
        .finally(() => this.finish());
    } else this.finish();
  }

  private stopTimers(): void {
    clearTimeout(this.timer);
    clearInterval(this.sweeper);
  }

  /** The store thread is gone: ends everything else. */
  private finish(): void {
    if (this.finished) return;
    this.finished = true;
    this.stopTimers();
    process.off('exit', this.atExit);
    const why = this.failure ?? new LsnfsError('STORE_CLOSED', `${this.mountpoint} is not mounted any more`);
    for (const waiting of this.waiting.values()) waiting.reject(why);
    this.waiting.clear();
    // A notification under way in the thread pool still uses the descriptor.
    this.notifier
      .end()
      .finally(() => closeSync(this.descriptor))
      .then(
        () => (this.failure === undefined ? this.settle.resolve() : this.settle.reject(this.failure)),
        this.settle.reject,
      );
  }

  private abort(): void {
    if (this.connection < 0) this.connection = mountAt(this.mountpoint)?.deviceMinor ?? -1;
    if (this.connection >= 0) abortConnection(this.connection);
  }

  /**
   * The process ends without having unmounted. The store thread may be in its blocking read, in which it could not
   * be ended: the abort ends the read. Only what does not wait can be done here.
   */
  private readonly atExit = (): void => {
    if (!this.mounted) return;
    this.abort();
    unmountNow(this.mountpoint);
  };
}
