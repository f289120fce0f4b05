/** The binding fuse-native without a mount: one answer to each call, and numbers of 32 bits. */
import test from 'ava';
import type { Handler, Operation, Signal, Thread } from '../../fuse/native/addon.ts';
import { modifyMilliseconds } from '../../fuse/native/addon.ts';
import { STAT_WORDS, StatWriter, shownInode, statfsWords } from '../../fuse/native/attributes.ts';
import { Dispatcher } from '../../fuse/native/dispatch.ts';
import { Operations } from '../../fuse/native/operations.ts';
import { LsnfsError } from '../../src/errors.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { FakeLiveState } from '../helpers/fake-live-state.ts';
import { Clock, vfsOptions } from '../helpers/vfs-fixture.ts';

interface Answered {
  readonly operation: Operation;
  readonly thread: Thread;
  readonly result: number;
  readonly payload: unknown[];
}

class World {
  readonly answers: Answered[] = [];
  readonly logged: string[] = [];
  readonly live = new LiveFileSystem(new FakeLiveState({ rollback: false }), vfsOptions(new Clock()));
  readonly dispatcher: Dispatcher;
  durable: (lsn: number) => Promise<void> = () => Promise.resolve();
  /** Makes the native part refuse what it is given. */
  refuses = false;
  private readonly handlers: Record<Operation, Handler>;

  constructor() {
    const operations = new Operations({
      volume: {
        live: this.live,
        door: () => undefined,
        doorByNumber: () => {
          throw new Error('no doors');
        },
        snapshotNames: () => [],
        onSnapshotChange: () => {},
      },
      durable: (lsn) => this.durable(lsn),
      owner: { uid: 0, gid: 0 },
      allowOther: false,
      shownOwner: {},
      snapdirVisible: false,
    });
    this.dispatcher = new Dispatcher({
      addon: {
        signal:
          (operation): Signal =>
          (thread, result, ...payload) => {
            if (this.refuses && result >= 0) throw new TypeError('not a buffer');
            this.answers.push({ operation, thread, result, payload });
          },
      },
      operations,
      shownOwner: {},
      ready: () => {},
      log: (message) => this.logged.push(message),
    });
    this.handlers = this.dispatcher.handlers();
  }

  /** Calls a handler as the native part does. Returns what it has answered by then. */
  call(operation: Operation, thread: Thread, ...args: unknown[]): Answered | undefined {
    const count = this.answers.length;
    this.handlers[operation](thread, 0, ...(args as never[]));
    return this.answers[count];
  }
}

const THREAD = Buffer.alloc(400);
const OTHER = Buffer.alloc(400);

test('whatever a handler throws, there is one answer, and what is unexpected is logged with its stack', (t) => {
  const world = new World();
  t.is(world.call('mkdir', THREAD, '/d', 0o755)?.result, 0);
  t.is(world.call('mkdir', THREAD, '/d', 0o755)?.result, -17);
  t.deepEqual(world.logged, []);
  world.live.mkdir = () => {
    throw new TypeError('a bug');
  };
  t.is(world.call('mkdir', THREAD, '/e', 0o755)?.result, -5);
  world.live.getattr = () => {
    throw new LsnfsError('CORRUPT_PAGE', 'page 5 is not what it should be');
  };
  const failed = world.call('getattr', THREAD, '/');
  t.is(failed?.result, -5);
  t.is((failed!.payload[0] as Uint32Array).length, STAT_WORDS);
  t.is(world.answers.length, 4);
  t.is(world.logged.length, 2);
  t.regex(world.logged[0]!, /mkdir failed: TypeError: a bug\n\s+at /);
});

test('an answer that the native part does not take is EIO instead, and never a second one', (t) => {
  const world = new World();
  world.refuses = true;
  t.is(world.call('statfs', THREAD)?.result, -5);
  t.is(world.answers.length, 1);
  t.regex(world.logged[0]!, /not a buffer/);
});

test('an fsync is answered when what it waits for is durable, or EIO when that fails', async (t) => {
  const world = new World();
  const handle = world.call('create', THREAD, '/f', 0o644)!.payload[0];
  let settle!: { resolve: () => void; reject: (error: Error) => void };
  world.durable = () =>
    new Promise((resolve, reject) => {
      settle = { resolve, reject };
    });
  t.is(world.call('fsync', THREAD, '/f', 0, handle), undefined);
  settle.resolve();
  await new Promise(setImmediate);
  t.like(world.answers.at(-1), { operation: 'fsync', result: 0 });
  world.call('fsync', OTHER, '/f', 0, handle);
  settle.reject(new LsnfsError('STORE_FAILED', 'the log has failed'));
  await new Promise(setImmediate);
  t.like(world.answers.at(-1), { operation: 'fsync', thread: OTHER, result: -5 });
  t.is(world.answers.length, 3);
});

test('memory of libfuse goes back with every answer, and xattrs that do not fit are ERANGE', (t) => {
  const world = new World();
  world.call('create', THREAD, '/f', 0o644);
  const value = Buffer.from('value');
  t.deepEqual(world.call('setxattr', THREAD, '/f', 'user.a', value, 0, 0)?.payload, [value.buffer]);
  for (const [size, result] of [
    [0, 5],
    [4, -34],
    [5, 5],
  ] as const) {
    const room = Buffer.alloc(size);
    const answer = world.call('getxattr', THREAD, '/f', 'user.a', room, 0);
    t.is(answer?.result, result);
    t.is(answer?.payload[0], room.buffer);
    if (size === 5) t.is(room.toString(), 'value');
  }
  t.is(world.call('getxattr', THREAD, '/f', 'system.posix_acl_access', Buffer.alloc(9), 0)?.result, -95);
  const missing = world.call('read', THREAD, '/f', 99, value, 5, 0, 0);
  t.deepEqual([missing?.result, missing?.payload], [-9, [0, value.buffer]]);
});

test('an open file that is replaced: others wait until it is known what its removal is', async (t) => {
  const world = new World();
  const hidden = '/.fuse_hidden0000000200000001';
  world.call('create', THREAD, '/new', 0o644);
  const handle = world.call('create', THREAD, '/f', 0o644)?.payload[0];
  t.is(world.call('rename', THREAD, '/f', hidden)?.result, 0);
  // Another thread looks for the name in between: it hears of it when the rename is done.
  t.is(world.call('getattr', OTHER, '/f'), undefined);
  world.call('rename', THREAD, '/new', '/f');
  t.deepEqual(
    world.answers.slice(-2).map(({ operation, result }) => [operation, result]),
    [
      ['getattr', 0],
      ['rename', 0],
    ],
  );
  t.is(world.call('getattr', THREAD, '/new')?.result, -2);
  t.is(world.call('fgetattr', THREAD, hidden, handle)?.result, 0);
  t.is(world.call('unlink', THREAD, hidden)?.result, 0);
  t.is(world.call('getattr', THREAD, hidden)?.result, -2);

  // And one that is removed: at the latest after some milliseconds.
  world.call('open', THREAD, '/f', 0);
  world.call('rename', THREAD, '/f', `${hidden}`.replace('1', '2'));
  t.is(world.call('getattr', OTHER, '/f'), undefined);
  while (world.answers.at(-1)?.operation !== 'getattr')
    await new Promise((resolve) => setTimeout(resolve, 1));
  t.is(world.answers.at(-1)?.result, -2);
  // A replacement that fails leaves the file.
  world.call('create', THREAD, '/g', 0o644);
  world.call('rename', THREAD, '/g', `${hidden}`.replace('1', '3'));
  t.is(world.call('rename', THREAD, '/missing', '/g')?.result, -2);
  t.is(world.call('getattr', THREAD, '/g')?.result, 0);
  t.deepEqual(world.logged, []);
});

test('names that are not UTF-8 are not taken for others', (t) => {
  const world = new World();
  t.is(world.call('mkdir', THREAD, '/\ufffd', 0o755)?.result, -22);
  t.is(world.call('symlink', THREAD, '\ufffd', '/l')?.result, -22);
  t.is(world.call('getattr', THREAD, '/\ufffd')?.result, -2);
  t.is(world.call('unlink', THREAD, '/\ufffd')?.result, -2);
  world.live.mkdir({ uid: 0, gid: 0, pid: 0 }, 1, Buffer.from([0xff]), 0o755);
  t.is(world.call('rmdir', THREAD, '/\ufffd')?.result, -2);
  t.deepEqual(world.call('readdir', THREAD, '/')?.payload[0], ['.', '..', '\ufffd']);
});

test('after the end nothing is done any more', (t) => {
  const world = new World();
  world.dispatcher.end();
  t.is(world.call('unlink', THREAD, '/.fuse_hidden0000000200000001')?.result, 0);
  t.is(world.call('mkdir', THREAD, '/d', 0o755)?.result, -107);
});

test('inode numbers of 32 bits tell a file from its past, and files of one state from each other', (t) => {
  for (const inode of [1, 2, 1000, 2 ** 31 - 1]) {
    const numbers = new Set([0, 1, 2, 3, 500, 2 ** 22].map((door) => shownInode(door, inode)));
    t.is(numbers.size, 6, `${inode}`);
    for (const number of numbers) t.true(Number.isInteger(number) && number > 0 && number < 2 ** 32);
    t.is(shownInode(0, inode), inode);
  }
  t.not(shownInode(0, 2 ** 31), 0);
  t.not(shownInode(7, 5), shownInode(7, 6));
});

test('times, sizes and blocks are cut to what the native part takes', (t) => {
  const attributes = new World().live.getattr({ uid: 0, gid: 0, pid: 0 }, 1);
  const words = new StatWriter({ uid: 7 }).write(new Uint32Array(STAT_WORDS), 0, {
    ...attributes,
    size: 2 ** 40 + 5,
    accessSeconds: -5,
    modifySeconds: 1_800_000_000,
    modifyNanoseconds: 123_999_999,
  });
  t.deepEqual([words[1], words[3], words[4]], [7, 5, 256]);
  t.deepEqual([words[12], words[13]], [0, 0]);
  t.is(words[14]! + words[15]! * 2 ** 32, 1_800_000_000_123);
  const [blockSize, unit, blocks] = statfsWords({
    blockSize: 4096,
    blocks: 2 ** 40,
    blocksFree: 2 ** 39,
    blocksAvailable: 1,
    files: 2 ** 40,
    filesFree: 5,
    nameMax: 255,
  });
  t.deepEqual([blockSize, unit! * blocks!], [4096, 4096 * 2 ** 40]);
});

test('the time of modification is taken from where it is, and from nowhere else', (t) => {
  const thread = Buffer.alloc(400);
  thread.writeBigInt64LE(-1500n, 104);
  thread.writeBigInt64LE(2n ** 40n, 112);
  t.is(modifyMilliseconds(thread, thread.readUInt32LE(104), thread.readUInt32LE(108)), 2 ** 40);
  t.throws(() => modifyMilliseconds(thread, 5, 0), { message: /2\.2\.6/ });
  t.throws(() => modifyMilliseconds(Buffer.alloc(50), 0, 0), { message: /2\.2\.6/ });
});
