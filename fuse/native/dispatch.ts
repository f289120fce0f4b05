/**
 * From a call of the native part to an operation, and its answer back: exactly one, whatever happens.
 *
 * A thread of libfuse sleeps until it is answered, and a program with it, which cannot even be killed meanwhile. A second
 * answer would be taken for that of the thread's next request. So an answer is an object that goes out once, and nothing
 * that a handler throws leaves it: deliberate errors become their errno; anything else becomes EIO and is logged with its
 * stack. An answer may be given from within the call: the native part does not look at the thread's state after it.
 */
import { ERRNO, errnoOf, LsnfsError, PosixError } from '../../src/errors.ts';
import type { ShownOwner } from '../messages.ts';
import {
  type Addon,
  type Handler,
  modifyMilliseconds,
  type Operation,
  type Signal,
  type Thread,
} from './addon.ts';
import { STAT_WORDS, StatWriter, statfsWords } from './attributes.ts';
import type { DoorAttributes, Operations } from './operations.ts';

const TWO_32 = 2 ** 32;
const NO_STAT = new Uint32Array(STAT_WORDS);
const NO_STATFS = new Uint32Array(11);

/** A signed number of 64 bits from two halves: exact up to 2^53. */
function wide(low: number, high: number): number {
  return low + (high | 0) * TWO_32;
}

export interface DispatcherOptions {
  readonly addon: Pick<Addon, 'signal'>;
  readonly operations: Operations;
  readonly shownOwner: ShownOwner;
  /** Called when the mount answers: the kernel and libfuse have agreed on how they speak. */
  readonly ready: () => void;
  /** What is logged: an unexpected error with its stack. */
  readonly log: (message: string) => void;
}

interface Request {
  readonly operation: Operation;
  readonly thread: Thread;
  readonly signal: Signal;
  /** What the answer carries if it is an error. */
  readonly failed: readonly unknown[];
  readonly args: readonly unknown[];
}

/** For how long a removal may turn out to be part of a replacement: the time that a thread of libfuse takes to go on. */
const REMOVAL_MS = 5;

/** Sends the result: 0 or a number of bytes, or a negative errno, and what the operation answers besides. */
type Answer = (result: number, ...payload: unknown[]) => void;
/** Does the work; it answers, or throws, or sees to it that the answer is given later. */
type Work<Arguments extends unknown[]> = (answer: Answer, ...args: Arguments) => void;

export class Dispatcher {
  /** Requests by operation. */
  readonly counts: Record<string, number> = {};
  private readonly options: DispatcherOptions;
  private readonly operations: Operations;
  private readonly stat = new Uint32Array(STAT_WORDS);
  private readonly statWriter: StatWriter;
  private ended = false;
  /** The thread whose removal was put off. */
  private removingThread: Thread | undefined;
  private removalTimer: NodeJS.Timeout | undefined;
  /** Requests that wait until it is done. */
  private readonly waiting: (() => void)[] = [];

  constructor(options: DispatcherOptions) {
    this.options = options;
    this.operations = options.operations;
    this.statWriter = new StatWriter(options.shownOwner);
  }

  /** The mount is gone. What libfuse still asks for (it clears names away that it made up) is done already. */
  end(): void {
    this.settle();
    this.ended = true;
  }

  /** Does the removal that was put off, if there is one, and goes on with who waits for it. */
  settle(): void {
    try {
      this.operations.settle();
    } catch (error) {
      this.failure('unlink', error);
    }
    this.resume();
  }

  private resume(): void {
    clearTimeout(this.removalTimer);
    this.removingThread = undefined;
    for (const request of this.waiting.splice(0)) request();
  }

  /** Whether a request waits until it is known what a removal is; one of the thread that removes says it. */
  private waits(operation: Operation, thread: Thread, args: readonly unknown[]): boolean {
    if (this.removingThread === undefined) return false;
    if (this.removingThread !== thread) return true;
    if (operation !== 'rename' || args[1] !== this.operations.removalPath) this.settle();
    return false;
  }

  private rename(thread: Thread, path: string, newPath: string): void {
    const { operations } = this;
    if (operations.putOffRemoval(path, newPath)) {
      this.removingThread = thread;
      this.removalTimer = setTimeout(() => this.settle(), REMOVAL_MS);
      return;
    }
    try {
      operations.rename(path, newPath);
    } finally {
      if (this.removingThread !== undefined) this.resume();
    }
  }

  /** What the native part calls. */
  handlers(): Record<Operation, Handler> {
    return { ...this.attributeHandlers(), ...this.nameHandlers(), ...this.contentHandlers() };
  }

  private attributeHandlers() {
    const o = this.operations;
    return {
      init: this.plain('init', () => this.options.ready()),
      statfs: this.handler('statfs', [NO_STATFS], (answer) => answer(0, statfsWords(o.statfs()))),
      getattr: this.handler('getattr', [NO_STAT], (answer, path: string) =>
        this.answerStat(answer, o.getattr(path)),
      ),
      fgetattr: this.handler('fgetattr', [NO_STAT], (answer, _path: string, handle: number) =>
        this.answerStat(answer, o.fgetattr(handle)),
      ),
      chmod: this.plain('chmod', (path: string, mode: number) => o.chmod(path, mode)),
      chown: this.plain('chown', (path: string, uid: number, gid: number) => o.chown(path, uid, gid)),
      truncate: this.plain('truncate', (path: string, low: number, high: number) =>
        o.truncate(path, wide(low, high)),
      ),
      ftruncate: this.plain('ftruncate', (_path: string, handle: number, low: number, high: number) =>
        o.ftruncate(handle, wide(low, high)),
      ),
      utimens: this.withThread('utimens', (thread, path: string, low: number, high: number) =>
        o.utimens(path, wide(low, high), modifyMilliseconds(thread, low, high)),
      ),
      setxattr: this.withBuffer(
        'setxattr',
        2,
        (answer, path: string, name: string, value: Buffer, _position: number, flags: number) => {
          o.setxattr(path, name, value, flags);
          answer(0);
        },
      ),
      getxattr: this.withBuffer('getxattr', 2, (answer, path: string, name: string, room: Buffer) =>
        answer(fill(room, o.getxattr(path, name))),
      ),
      listxattr: this.withBuffer('listxattr', 1, (answer, path: string, room: Buffer) =>
        answer(fill(room, o.listxattr(path))),
      ),
      removexattr: this.plain('removexattr', (path: string, name: string) => o.removexattr(path, name)),
    };
  }

  private nameHandlers() {
    const o = this.operations;
    return {
      readdir: this.handler('readdir', [[], []], (answer, path: string) => {
        const { names, stats } = o.readdir(path);
        answer(0, names, stats);
      }),
      readlink: this.handler('readlink', [''], (answer, path: string) => answer(0, o.readlink(path))),
      mknod: this.plain('mknod', (path: string, mode: number, device: number) => o.mknod(path, mode, device)),
      mkdir: this.plain('mkdir', (path: string, mode: number) => o.mkdir(path, mode)),
      symlink: this.plain('symlink', (target: string, path: string) => o.symlink(target, path)),
      link: this.plain('link', (path: string, newPath: string) => o.link(path, newPath)),
      unlink: this.plain('unlink', (path: string) => o.unlink(path)),
      rmdir: this.plain('rmdir', (path: string) => o.rmdir(path)),
      rename: this.withThread('rename', (thread, path: string, newPath: string) =>
        this.rename(thread, path, newPath),
      ),
    };
  }

  private contentHandlers() {
    const o = this.operations;
    return {
      open: this.handler('open', [0], (answer, path: string, flags: number) =>
        answer(0, o.open(path, flags)),
      ),
      create: this.handler('create', [0], (answer, path: string, mode: number) =>
        answer(0, o.create(path, mode)),
      ),
      release: this.plain('release', (_path: string, handle: number) => o.release(handle)),
      read: this.withBuffer(
        'read',
        2,
        (answer, _path: string, handle: number, into: Buffer, length: number, ...offset: [number, number]) =>
          answer(o.read(handle, into, length, wide(...offset))),
      ),
      write: this.withBuffer(
        'write',
        2,
        (answer, _path: string, handle: number, from: Buffer, length: number, ...offset: [number, number]) =>
          answer(o.write(handle, from, length, wide(...offset))),
      ),
      fsync: this.handler('fsync', [], (answer, _path: string, _dataOnly: number, handle: number) =>
        this.answerWhenDurable('fsync', answer, o.fsync(handle)),
      ),
      fsyncdir: this.handler('fsyncdir', [], (answer, path: string) =>
        this.answerWhenDurable('fsyncdir', answer, o.fsyncdir(path)),
      ),
    };
  }

  /** A handler whose failure carries `failed` as its payload. */
  private handler<Arguments extends unknown[]>(
    operation: Operation,
    failed: readonly unknown[],
    work: Work<Arguments>,
  ): Handler {
    const signal = this.options.addon.signal(operation);
    this.counts[operation] = 0;
    return (thread: Thread, _operation: number, ...args: never[]) =>
      this.serve({ operation, thread, signal, failed, args }, (answer) =>
        work(answer, ...(args as unknown as Arguments)),
      );
  }

  /** A handler that answers with success when the work is done. */
  private plain<Arguments extends unknown[]>(
    operation: Operation,
    work: (...args: Arguments) => void,
  ): Handler {
    return this.handler(operation, [], (answer, ...args: Arguments) => {
      work(...args);
      answer(0);
    });
  }

  /** The same, of work that looks into the thread's state. */
  private withThread<Arguments extends unknown[]>(
    operation: Operation,
    work: (thread: Thread, ...args: Arguments) => void,
  ): Handler {
    const signal = this.options.addon.signal(operation);
    this.counts[operation] = 0;
    return (thread: Thread, _operation: number, ...args: never[]) =>
      this.serve({ operation, thread, signal, failed: [], args }, (answer) => {
        work(thread, ...(args as unknown as Arguments));
        answer(0);
      });
  }

  /**
   * A handler that has been given memory of libfuse, as argument number `at`. Every answer hands it back: it is detached, so
   * that nobody can reach it afterwards.
   */
  private withBuffer<Arguments extends unknown[]>(
    operation: Operation,
    at: number,
    work: Work<Arguments>,
  ): Handler {
    const signal = this.options.addon.signal(operation);
    this.counts[operation] = 0;
    // Two numbers come before it in the answers of read and write, of which the first is the result.
    const between = operation === 'read' || operation === 'write' ? [0] : [];
    return (thread: Thread, _operation: number, ...args: never[]) => {
      const { buffer } = args[at] as unknown as Buffer;
      this.serve({ operation, thread, signal, failed: [...between, buffer], args }, (answer) =>
        work((result) => answer(result, ...between, buffer), ...(args as unknown as Arguments)),
      );
    };
  }

  /** Has the work done and sees to it that there is one answer; see the module comment. */
  private serve(request: Request, work: (answer: Answer) => void): void {
    const { operation, thread, signal, failed, args } = request;
    if (this.waits(operation, thread, args)) {
      this.waiting.push(() => this.serve(request, work));
      return;
    }
    this.counts[operation]!++;
    let isAnswered = false;
    const answer: Answer = (result, ...payload) => {
      if (isAnswered) throw new Error('a second answer');
      // If it throws, it has not answered: the native part looks at what it is given first.
      signal(thread, result, ...(result < 0 ? failed : payload));
      isAnswered = true;
    };
    try {
      if (this.ended) answer(operation === 'unlink' ? 0 : -ERRNO.ENOTCONN);
      else work(answer);
    } catch (error) {
      const result = this.failure(operation, error);
      if (!isAnswered) answer(result);
    }
  }

  /** What an error is for the program. */
  private failure(operation: Operation, error: unknown): number {
    if (!(error instanceof LsnfsError) || (errnoOf(error) === ERRNO.EIO && !(error instanceof PosixError))) {
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.options.log(`${operation} failed: ${text}`);
    }
    return -errnoOf(error);
  }

  private answerStat(answer: Answer, { door, attributes }: DoorAttributes): void {
    answer(0, this.statWriter.write(this.stat, door, attributes));
  }

  private answerWhenDurable(operation: Operation, answer: Answer, durable: Promise<void> | undefined): void {
    if (durable === undefined) {
      answer(0);
      return;
    }
    durable.then(
      () => answer(0),
      (error: unknown) => {
        this.failure(operation, error);
        // Whatever the reason: what was to be durable is not.
        answer(-ERRNO.EIO);
      },
    );
  }
}

/** A value into the room that there is for it. Returns its length; where there is no room at all, that is what was asked for. @throws PosixError ERANGE */
function fill(room: Buffer, value: Uint8Array): number {
  if (room.length === 0) return value.length;
  if (value.length > room.length) throw new PosixError('ERANGE');
  room.set(value);
  return value.length;
}
