/**
 * Requests of a hostile kernel to a session over a real store: well-formed ones with numbers, names and handles that
 * need not be, and bytes that are changed at will. Each gets exactly one reply, or none where the protocol wants none;
 * afterwards the store verifies and the session still answers.
 */
import { OPCODE, OPCODE_COUNT, SETXATTR_IN, SMALLEST_BODY } from '../../fuse/protocol.ts';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { FakeKernel, parseReply, text, u32, u64 } from '../helpers/fuse-requests.ts';
import { type FuzzParser, type FuzzSession, find, StepLimit } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

/** Requests without a reply. */
const UNANSWERED = new Set<number>([
  OPCODE.FORGET,
  OPCODE.BATCH_FORGET,
  OPCODE.INTERRUPT,
  OPCODE.NOTIFY_REPLY,
]);
/** Bytes of the store: a full disk is met, too. */
const CAPACITY = 24 * 1024 * 1024;
/** Reads and writes of file data that one request may cause. */
const WORK_MAX = 20_000;

/** What is served; the others are asked for now and then. */
const FREQUENT: readonly number[] = Object.values(OPCODE).filter(
  (opcode) =>
    ![
      OPCODE.INIT,
      OPCODE.DESTROY,
      OPCODE.GETLK,
      OPCODE.SETLK,
      OPCODE.SETLKW,
      OPCODE.BMAP,
      OPCODE.POLL,
      OPCODE.IOCTL,
      OPCODE.SETUPMAPPING,
      OPCODE.REMOVEMAPPING,
      OPCODE.FLUSH,
      OPCODE.INTERRUPT,
      OPCODE.NOTIFY_REPLY,
    ].includes(opcode as 26),
);

const NAMES = [
  'a',
  'b',
  'c',
  'dd',
  '.',
  '..',
  '',
  '@',
  '@latest',
  '@snap',
  '@lsn-64',
  '@lsn-999999999',
  '@2026-11-22',
];
const XATTRS = [
  'user.a',
  'user.b',
  'trusted.x',
  'security.capability',
  'system.posix_acl_access',
  'system.posix_acl_default',
  'bad',
];

/** What a session has given out, and so may be asked about. */
class Pools {
  readonly nodes: [door: number, inode: number][] = [[0, 1]];
  readonly handles: number[] = [1];

  learn(opcode: number, body: Buffer): void {
    if (
      [OPCODE.LOOKUP, OPCODE.MKNOD, OPCODE.MKDIR, OPCODE.SYMLINK, OPCODE.CREATE, OPCODE.TMPFILE].includes(
        opcode as 1,
      )
    ) {
      const id = body.readBigUInt64LE(0);
      if (id !== 0n) this.nodes.push([Number(id >> 40n), Number(id & (2n ** 40n - 1n))]);
    }
    if (opcode === OPCODE.OPEN || opcode === OPCODE.OPENDIR)
      this.handles.push(Number(body.readBigUInt64LE(0)));
    if (opcode === OPCODE.CREATE || opcode === OPCODE.TMPFILE)
      this.handles.push(Number(body.readBigUInt64LE(128)));
  }
}

function name(m: Mutator): Uint8Array {
  const how = m.below(20);
  if (how === 0) return Buffer.concat([Buffer.alloc(m.below(300), 0x6e), Buffer.alloc(1)]);
  if (how === 1) return m.random.bytes(m.below(20));
  if (how === 2) return text('with/slash');
  return text(m.chance(4) ? m.pick(NAMES) : m.pick(['a', 'b', 'c', 'dd']));
}

/** A body for an opcode: numbers where numbers stand, then what has a length of its own. */
function bodyOf(opcode: number, pools: Pools, m: Mutator): Buffer {
  const handle = (): bigint => BigInt(m.chance(6) ? m.below(100) : m.pick(pools.handles));
  const offset = (): bigint => (m.chance(3) ? m.edge() : BigInt(m.below(60_000)));
  const word = (): number => (m.chance(2) ? m.below(8) : Number(m.edge() & 0xffffffffn));
  const node = (): bigint => {
    const [door, inode] = m.chance(2) ? pools.nodes[0]! : m.pick(pools.nodes);
    return m.chance(8) ? m.edge() : (BigInt(door) << 40n) | BigInt(inode);
  };
  // SETXATTR has its longer form, which the session has agreed to.
  const body = Buffer.alloc(opcode === OPCODE.SETXATTR ? SETXATTR_IN.SIZE : (SMALLEST_BODY[opcode] ?? 0));
  for (let at = 0; at + 4 <= body.length; at += 4) body.writeUInt32LE(m.chance(2) ? 0 : word(), at);
  const put = (at: number, value: bigint): void => {
    if (at + 8 <= body.length) body.writeBigUInt64LE(BigInt.asUintN(64, value), at);
  };
  const tail: Uint8Array[] = [];
  switch (opcode) {
    case OPCODE.READ:
    case OPCODE.READDIR:
    case OPCODE.READDIRPLUS:
      put(0, handle());
      put(8, offset());
      if (!m.chance(4)) body.writeUInt32LE(m.below(70_000), 16);
      break;
    case OPCODE.WRITE: {
      put(0, handle());
      put(8, offset());
      const size = m.chance(6) ? word() : m.below(m.chance(3) ? 60_000 : 2000);
      body.writeUInt32LE(size, 16);
      tail.push(Buffer.alloc(Math.min(size, 60_000), m.below(256)));
      break;
    }
    case OPCODE.SETATTR:
      body.writeUInt32LE(m.below(0x1000), 0);
      put(8, handle());
      put(16, m.chance(2) ? offset() : BigInt(m.below(30_000)));
      break;
    case OPCODE.FALLOCATE:
      put(0, handle());
      put(8, offset());
      put(16, offset());
      if (m.chance(2)) body.writeUInt32LE(m.pick([0, 1, 3, 0x10, 0x11]), 24);
      break;
    case OPCODE.COPY_FILE_RANGE:
    case OPCODE.COPY_FILE_RANGE_64:
      put(0, handle());
      put(8, offset());
      put(16, node());
      put(24, handle());
      put(32, offset());
      put(40, offset());
      put(48, 0n);
      break;
    case OPCODE.CREATE:
    case OPCODE.TMPFILE:
      body.writeUInt32LE(m.pick([0, 1, 2, 0o102, 0o1002, 0o2001]), 0);
      body.writeUInt32LE(0o100644, 4);
      break;
    case OPCODE.MKNOD:
      body.writeUInt32LE(m.pick([0o100644, 0o10644, 0o20666, 0o60600, 0o140777, 0o40755, word()]), 0);
      break;
    case OPCODE.MKDIR:
      body.writeUInt32LE(m.chance(4) ? word() : 0o755, 0);
      break;
    case OPCODE.OPEN:
      body.writeUInt32LE(m.pick([0, 1, 2, 3, 0o1002, 0o2002]), 0);
      break;
    case OPCODE.RENAME:
    case OPCODE.LINK:
      put(0, node());
      break;
    case OPCODE.RENAME2:
      put(0, node());
      body.writeUInt32LE(m.pick([0, 0, 1, 2, 4, 0xffffffff]), 8);
      break;
    case OPCODE.SETXATTR: {
      const size = m.chance(4) ? word() : m.below(6000);
      body.writeUInt32LE(size, 0);
      body.writeUInt32LE(m.below(4), 4);
      tail.push(text(m.pick(XATTRS)), m.random.bytes(Math.min(size, 70_000)));
      break;
    }
    case OPCODE.GETXATTR:
    case OPCODE.LISTXATTR:
      break;
    case OPCODE.BATCH_FORGET: {
      const count = m.chance(3) ? word() : m.below(4);
      body.writeUInt32LE(count, 0);
      for (let i = 0; i < Math.min(count, 4); i++) {
        const one = Buffer.alloc(16);
        one.writeBigUInt64LE(node(), 0);
        one.writeBigUInt64LE(m.chance(4) ? m.edge() : BigInt(m.below(3)), 8);
        tail.push(one);
      }
      break;
    }
    default:
      if (body.length >= 8 && m.chance(2)) put(0, handle());
      if (body.length >= 16 && m.chance(2)) put(8, offset());
  }
  if (opcode === OPCODE.GETXATTR || opcode === OPCODE.REMOVEXATTR) tail.push(text(m.pick(XATTRS)));
  else if (opcode === OPCODE.SYMLINK)
    tail.push(name(m), text('target'.repeat(1 + m.below(m.chance(5) ? 900 : 5))));
  else if (opcode === OPCODE.RENAME || opcode === OPCODE.RENAME2) tail.push(name(m), name(m));
  else if (
    [
      OPCODE.LOOKUP,
      OPCODE.MKNOD,
      OPCODE.MKDIR,
      OPCODE.UNLINK,
      OPCODE.RMDIR,
      OPCODE.LINK,
      OPCODE.CREATE,
    ].includes(opcode as 1)
  ) {
    tail.push(name(m));
  }
  return Buffer.concat([body, ...tail]);
}

/** One request's bytes. */
function requestOf(kernel: FakeKernel, pools: Pools, m: Mutator): Buffer {
  const opcode = m.chance(8) ? m.below(OPCODE_COUNT + 4) : m.pick(FREQUENT);
  const known = m.chance(2) ? pools.nodes[0]! : m.pick(pools.nodes);
  const [door, inode] = m.chance(15) ? [m.below(2 ** 23), m.below(100)] : known;
  kernel.uid = m.chance(4) ? 1000 : 0;
  const bytes = kernel.encode(
    opcode === OPCODE.INIT && !m.chance(50) ? OPCODE.GETATTR : opcode,
    door,
    inode,
    [bodyOf(opcode, pools, m)],
  );
  const how = m.below(12);
  if (how > 1) return bytes;
  const changed = how === 0 ? m.mutate(bytes) : Buffer.from(bytes);
  if (how === 1) m.scribble(changed, 16);
  if (changed.length >= 4 && !m.chance(5)) changed.writeUInt32LE(changed.length, 0);
  return changed;
}

const FUSE: FuzzParser = {
  name: 'fuse',
  batch: 400,
  share: 22,
  async start(): Promise<FuzzSession> {
    const directory = new MemoryDirectory('fuzzed', CAPACITY);
    Store.initialize(directory, { segmentSize: 1024 * 1024 });
    const limit = new StepLimit(WORK_MAX);
    const warn = (message: string): void => find(`a warning: ${message}`);
    const server = {
      mountpoint: null,
      background: 'caller',
      vfs: { checkPermissions: false, kernelHandles: true },
    } as const;
    const database = await Database.over(directory, { warn, commitIntervalMs: 3_600_000 }, server);
    const { store } = database;
    const { readData, writeData } = store.live;
    store.live.readData = (...given) => {
      limit.count('reads of data');
      readData.apply(store.live, given);
    };
    store.live.writeData = (...given) => {
      limit.count('writes of data');
      return writeData.apply(store.live, given);
    };
    const kernel = new FakeKernel({
      volume: database.volume,
      durableLsn: () => store.durableLsn,
      snapdirVisible: true,
      inheritsAcls: true,
    });
    kernel.init();
    await database.snapshots.create('snap');
    const pools = new Pools();
    return {
      step(m) {
        limit.reset();
        if (m.chance(50)) store.backgroundStep(1);
        const bytes = requestOf(kernel, pools, m);
        if (bytes.length > kernel.session.requestBytes.length) return;
        const deferred = kernel.deferred.length;
        const reply = kernel.raw(bytes);
        const opcode = bytes.length >= 40 ? bytes.readUInt32LE(4) : 0;
        const bug = kernel.logged.find((line) => !/too short for its header|kernel speaks/.test(line));
        if (bug !== undefined) find(`logged: ${bug}`);
        kernel.logged.length = 0;
        kernel.notified.length = 0;
        if (bytes.length < 40 || UNANSWERED.has(opcode)) {
          if (reply !== undefined) find('a reply that nobody reads');
        } else if (reply === undefined) {
          if (kernel.deferred.length === deferred) find(`no reply to opcode ${opcode}`);
        } else {
          const { errno, body } = parseReply(bytes, reply);
          if (errno === 0 && body.length > 0) pools.learn(opcode, body);
        }
      },
      async end() {
        const { errno } = kernel.ask(OPCODE.GETATTR, 0, 1, u32(0), u32(0), u64(0));
        if (errno !== 0) find(`the root is gone: errno ${errno}`);
        const problems = checkFileSystem(store.live).map(
          ({ inode, message }) => `inode ${inode}: ${message}`,
        );
        if (problems.length > 0) find(problems.join('\n'));
        directory.capacity = Number.POSITIVE_INFINITY;
        await store.checkpoint();
        const damage = checkStore(store).problems.map((problem) => JSON.stringify(problem));
        if (damage.length > 0) find(damage.join('\n'));
        kernel.session.end();
        await database.close();
      },
    };
  },
};

export const FUSE_PARSERS: readonly FuzzParser[] = [FUSE];
