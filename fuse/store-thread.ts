/**
 * The store thread: a worker that opens the database and serves the mount in a blocking loop.
 *
 * Between two requests it takes messages of the main thread, does a bounded piece of background work when it is
 * due, and, while a command's promise is under way, leaves the loop for one turn of the event loop. Work that nobody
 * waits for gets what requests leave over: after a piece of work the thread sends itself a wake-up, which queues
 * behind the requests that wait already. When that arrives and no request came in between, the next piece follows at
 * once; otherwise requests come first, and background work gets a fixed share of the time.
 */
import { writeSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { type MessagePort, parentPort, receiveMessageOnPort, workerData } from 'node:worker_threads';
import { systemErrorCode } from '../src/errors.ts';
import type { DatabaseModule, MountedDatabase } from './database.ts';
import { runLoop, sendReply } from './loop.ts';
import { NEEDS, SHARED, type StoreThreadData, type ToMain, type ToStore, toWire } from './messages.ts';
import type { KnownToKernel } from './notify.ts';
import { invalidateEntry, invalidateInode, invalidationMessages, NOTHING_KNOWN, wakeUp } from './notify.ts';
import { FUSE_ROOT_ID, OPCODE_NAMES } from './protocol.ts';
import { Session } from './session.ts';

/** How long one piece of background work may take. */
const BACKGROUND_BUDGET_MS = 1;
/** While requests come, background work waits for this many times as long as its last piece took. */
const BACKGROUND_PAUSE = 3;
/**
 * While requests come, reclaiming rests at least so long between two pieces: a piece hits one request, which may be as short as
 * 0.05 ms, and fewer than one in a hundred are to notice.
 */
const SERVING_REST_MS = 8;
/** A piece that took less did nothing: it waits for something, and asking again at once would only burn time. */
const WAITING_MS = 0.05;
/** While a command is under way, the event loop turns after this much time of serving. */
const EVENT_LOOP_EVERY_MS = 0.5;
/** Between two looks whether the mount is made. */
const UNATTACHED_PAUSE_MS = 1;

class StoreThread {
  private readonly data: StoreThreadData;
  private readonly port: MessagePort;
  private readonly shared: Int32Array;
  private readonly wake = wakeUp();
  private database!: MountedDatabase;
  private session!: Session;
  private commandsSeen = 0;
  /** Commands whose promises are under way. */
  private pending = 0;
  private announced = false;
  private leave = false;
  private lastTurn = 0;
  private nextWork = 0;
  private servedAtWork = 0;
  private wakingMyself = false;
  /** Told by the main thread: true to serve, false to give up. */
  private toServe: boolean | undefined;
  private onToServe: () => void = () => {};

  constructor(data: StoreThreadData, port: MessagePort) {
    this.data = data;
    this.port = port;
    this.shared = new Int32Array(data.shared);
    // What arrives while the event loop turns; while it does not, `takeMessages` takes it.
    port.on('message', (message: ToStore) => this.take(message));
  }

  async run(): Promise<void> {
    const { data } = this;
    try {
      const module = (await import(data.databaseModule)) as DatabaseModule;
      this.database = await module.openMountedDatabase(data.databaseOptions, {
        readOnly: data.readOnly,
        wake: { descriptor: data.descriptor, bytes: this.wake },
        log: this.log,
      });
    } catch (error) {
      this.tell({ kind: 'open-failed', error: toWire(error) });
      this.port.close();
      return;
    }
    this.startSession();
    this.tell({ kind: 'opened' });
    if (this.toServe === undefined)
      await new Promise<void>((resolve) => {
        this.onToServe = resolve;
      });
    await this.serve();
    await this.close();
  }

  private readonly log = (text: string): void => this.tell({ kind: 'log', text });

  private tell(message: ToMain): void {
    this.port.postMessage(message);
  }

  private startSession(): void {
    const { database, data } = this;
    this.session = new Session({
      volume: database.volume,
      durableLsn: () => database.durableLsn(),
      ...(database.syncNow !== undefined && { syncNow: database.syncNow }),
      deferReply: (lsn, ok, failure) => database.deferReply(lsn, data.descriptor, ok, failure),
      writeBack: (ticket, inode) => this.tell({ kind: 'write-back', ticket, inode }),
      notify: (message) => this.write(message),
      log: this.log,
      inheritsAcls: database.inheritsAcls === true,
      snapdirVisible: data.snapdirVisible,
      shownOwner: data.shownOwner,
      token: data.token,
      countRequests: data.countRequests,
    });
    database.askedBy?.(this.session.context.caller);
    database.volume.onSnapshotChange((name) => {
      const bytes = Buffer.from(name);
      const messages: Uint8Array[] = [
        invalidateEntry(0, FUSE_ROOT_ID, Buffer.concat([Buffer.from('@'), bytes])),
      ];
      if (data.snapdirVisible) messages.push(invalidateInode(0, FUSE_ROOT_ID));
      this.tell({ kind: 'notify', messages });
    });
    database.onInvalidate?.((invalidation) => {
      const known = invalidation.everything === true ? this.knownToKernel() : NOTHING_KNOWN;
      this.tell({ kind: 'notify', messages: invalidationMessages(invalidation, known) });
      const { open = [], directories = [] } = invalidation;
      if (open.length === 0 && directories.length === 0) return;
      for (const { inode } of open) this.session.context.refreshes.begin(inode);
      this.tell({ kind: 'refresh', files: open, directories });
    });
  }

  private async serve(): Promise<void> {
    while (this.toServe === true) {
      const end = runLoop(this.data.descriptor, this.session, this.between);
      if (end === 'unattached') {
        await sleep(UNATTACHED_PAUSE_MS);
        continue;
      }
      if (end !== 'turn') {
        this.session.end();
        this.tell({ kind: 'unmounted', aborted: end === 'aborted' });
        return;
      }
      await new Promise<void>((resolve) => setImmediate(resolve));
      this.lastTurn = performance.now();
    }
  }

  /** After every request; see the module comment. Returns whether the event loop is to turn. */
  private readonly between = (): boolean => {
    const { shared, session } = this;
    const { context } = session;
    this.leave = false;
    if (!this.announced) this.announce();
    const woken = context.woken;
    if (woken) {
      context.woken = false;
      this.wakingMyself = false;
      this.leave = true;
      Atomics.store(shared, SHARED.WAKING, 0);
    }
    if (Atomics.load(shared, SHARED.COMMANDS) !== this.commandsSeen) this.takeMessages();
    const busy = this.database.hasBackgroundWork();
    if (busy) this.work(woken);
    const works = busy || this.database.hasWorkLater?.() === true;
    const needs = this.pending > 0 ? NEEDS.EVENT_LOOP : works ? NEEDS.BACKGROUND : NEEDS.HEARTBEAT;
    if (Atomics.load(shared, SHARED.NEEDS) !== needs) {
      Atomics.store(shared, SHARED.NEEDS, needs);
      if (needs !== NEEDS.HEARTBEAT) this.tell({ kind: 'needs' });
    }
    if (this.pending > 0 && !this.leave)
      this.leave = performance.now() - this.lastTurn >= EVENT_LOOP_EVERY_MS;
    return this.leave;
  };

  private announce(): void {
    const { session } = this;
    if (session.refusal !== undefined) this.tell({ kind: 'refused', reason: session.refusal });
    else if (session.context.negotiated !== undefined) {
      this.tell({ kind: 'ready', minor: session.context.negotiated.minor });
    } else return;
    this.announced = true;
  }

  private work(woken: boolean): void {
    const { session } = this;
    const start = performance.now();
    // The wake-up itself was served too.
    const idle = woken && session.served - this.servedAtWork <= 1;
    if (!idle && start < this.nextWork) return;
    this.database.backgroundStep(BACKGROUND_BUDGET_MS, idle ? 0 : SERVING_REST_MS);
    const end = performance.now();
    this.nextWork = end + (end - start) * BACKGROUND_PAUSE;
    this.servedAtWork = session.served;
    if (end - start >= WAITING_MS && !this.wakingMyself) this.wakeMyself();
  }

  /** The next read returns at once, after the requests that wait already. */
  private wakeMyself(): void {
    this.wakingMyself = this.write(this.wake);
  }

  /** Writes a message to the kernel that it does not wait over. Returns whether it was taken. */
  private write(message: Uint8Array): boolean {
    try {
      writeSync(this.data.descriptor, message, 0, message.length, null);
      return true;
    } catch (error) {
      const code = systemErrorCode(error);
      // The node is forgotten, or the mount is about to go: the read says so.
      if (code === 'ENODEV' || code === 'ENOTCONN' || code === 'ECONNABORTED' || code === 'ENOENT')
        return false;
      throw error;
    }
  }

  private takeMessages(): void {
    this.commandsSeen = Atomics.load(this.shared, SHARED.COMMANDS);
    for (;;) {
      const received = receiveMessageOnPort(this.port) as { message: ToStore } | undefined;
      if (received === undefined) return;
      this.take(received.message);
    }
  }

  private take(message: ToStore): void {
    const { session } = this;
    const { context } = session;
    switch (message.kind) {
      case 'execute':
        this.execute(message.id, message.name, message.args);
        break;
      case 'writers':
        this.tell({ kind: 'result', id: message.id, value: [...context.writers.keys()] });
        break;
      case 'known':
        this.tell({ kind: 'result', id: message.id, value: this.knownToKernel() });
        break;
      case 'counts':
        this.tell({ kind: 'result', id: message.id, value: this.counts() });
        break;
      case 'idle-doors':
        this.tell({ kind: 'result', id: message.id, value: context.doors.idle(message.ticks) });
        break;
      case 'open-doors':
        this.tell({
          kind: 'result',
          id: message.id,
          value: message.numbers.filter((number) => context.doors.isOpen(number)),
        });
        break;
      case 'written-back': {
        const length = session.resume(message.ticket);
        if (length !== 0) sendReply(this.data.descriptor, session.replyBytes, length);
        break;
      }
      case 'refreshed':
        context.refreshes.end(message.inode, message.times);
        break;
      case 'serve':
      case 'cancel':
        this.toServe = message.kind === 'serve';
        this.onToServe();
        break;
    }
  }

  private execute(id: number, name: string, args: unknown): void {
    const failed = (error: unknown) => this.tell({ kind: 'failed', id, error: toWire(error) });
    try {
      const result = this.database.execute(name, args);
      if (!(result instanceof Promise)) {
        this.tell({ kind: 'result', id, value: result });
        return;
      }
      this.pending++;
      this.leave = true;
      result
        .then((value) => this.tell({ kind: 'result', id, value }))
        .catch(failed)
        .finally(() => {
          this.pending--;
        });
    } catch (error) {
      failed(error);
    }
  }

  private knownToKernel(): KnownToKernel {
    const { context } = this.session;
    const openInodes = new Set<number>();
    for (const file of context.openFiles.values()) openInodes.add(file.inode);
    return {
      minor: context.negotiated?.minor ?? 0,
      rootNames: [...context.rootNames].map((name) => Buffer.from(name, 'latin1')),
      openInodes: [...openInodes],
    };
  }

  private counts(): Record<string, number> {
    const counts: Record<string, number> = {};
    this.session.counts?.forEach((count, opcode) => {
      if (count > 0) counts[OPCODE_NAMES[opcode] || `opcode ${opcode}`] = count;
    });
    return counts;
  }

  private async close(): Promise<void> {
    try {
      await this.database.close();
      this.tell({ kind: 'closed' });
    } catch (error) {
      this.tell({ kind: 'closed', error: toWire(error) });
    }
    this.port.close();
  }
}

if (parentPort === null) throw new Error('store-thread is started by server.ts as a worker');
await new StoreThread(workerData as StoreThreadData, parentPort).run();
