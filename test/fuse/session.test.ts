import test from 'ava';
import { INIT, INIT_OUT, INIT2, OPCODE, OPCODE_COUNT } from '../../fuse/protocol.ts';
import { ERRNO } from '../../src/errors.ts';
import { ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { FakeKernel, node, parseReply, text, u32, u64 } from '../helpers/fuse-requests.ts';
import { Random, seedOf } from '../helpers/random.ts';

function started(): FakeKernel {
  const kernel = new FakeKernel();
  kernel.init();
  return kernel;
}

test('INIT negotiates down to what the kernel offers', (t) => {
  const kernel = new FakeKernel();
  const { errno, body } = kernel.init(
    38,
    INIT.WRITEBACK_CACHE | INIT.MAX_PAGES | INIT.ASYNC_DIO | INIT.INIT_EXT,
    0,
  );
  t.is(errno, 0);
  t.is(body.readUInt32LE(INIT_OUT.minor), 38);
  t.is(body.readUInt32LE(INIT_OUT.flags), INIT.WRITEBACK_CACHE | INIT.MAX_PAGES | INIT.INIT_EXT);
  t.is(body.readUInt32LE(INIT_OUT.maxWrite), 1 << 20);
  t.is(body.readUInt16LE(INIT_OUT.maxPages), 256);
  t.is(body.readUInt32LE(INIT_OUT.timeGranularity), 1);
});

test('INIT leaves alone what it does not want', (t) => {
  const { body } = new FakeKernel().init();
  const flags = body.readUInt32LE(INIT_OUT.flags);
  for (const bit of [
    INIT.ASYNC_DIO,
    INIT.POSIX_LOCKS,
    INIT.FLOCK_LOCKS,
    INIT.AUTO_INVAL_DATA,
    INIT.NO_OPEN_SUPPORT,
  ]) {
    t.is(flags & bit, 0);
  }
  t.is(body.readUInt32LE(INIT_OUT.flags2) & INIT2.SECURITY_CTX, 0);
  // A tree that does not inherit ACLs leaves them and the umask to the kernel.
  t.is(flags & (INIT.POSIX_ACL | INIT.DONT_MASK), 0);
  t.is(body.readUInt32LE(INIT_OUT.minor), 45);
});

test('INIT refuses kernels that are too old and answers newer majors with ours', (t) => {
  const old = new FakeKernel();
  t.not(old.init(30).errno, 0);
  t.regex(old.session.refusal ?? '', /7\.30.*7\.31/);
  const newer = new FakeKernel();
  const { errno, body } = newer.init(0, 0, 0, 8);
  t.is(errno, 0);
  t.is(body.readUInt32LE(INIT_OUT.major), 7);
  t.false(newer.session.initialized);
});

test('a file is created, written, read, renamed and removed', (t) => {
  const kernel = started();
  t.is(kernel.lookup(ROOT_INODE, 'file').inode, 0);
  const { inode, handle } = kernel.create('file');
  t.is(kernel.write(inode, handle, 0, Buffer.from('hello')).body.readUInt32LE(0), 5);
  t.is(kernel.read(0, inode, handle, 1, 100).body.toString(), 'ello');
  t.is(kernel.read(0, inode, handle, 5, 100).body.length, 0);
  kernel.must(
    OPCODE.RENAME2,
    0,
    ROOT_INODE,
    node(0, ROOT_INODE),
    u32(0),
    u32(0),
    text('file'),
    text('other'),
  );
  t.is(kernel.lookup(ROOT_INODE, 'other').inode, inode);
  kernel.must(OPCODE.UNLINK, 0, ROOT_INODE, text('other'));
  t.is(kernel.read(0, inode, handle, 0, 100).body.toString(), 'hello', 'unlinked, and open');
  kernel.must(OPCODE.RELEASE, 0, inode, u64(handle), u32(0), u32(0), u64(0));
  kernel.raw(kernel.encode(OPCODE.FORGET, 0, inode, [u64(2)]));
  t.is(kernel.volume.live.inodeCount, 1);
  t.is(kernel.volume.live.openHandles, 0);
  t.deepEqual(kernel.logged, []);
});

test('negative entries are cached, but not names that may become past states', (t) => {
  const kernel = started();
  t.true(kernel.lookup(ROOT_INODE, 'nothing').valid > 0);
  t.is(kernel.lookup(ROOT_INODE, '@nothing').errno, ERRNO.ENOENT);
  const body = kernel.must(OPCODE.MKDIR, 0, ROOT_INODE, u32(0o755), u32(0), text('d'));
  const below = kernel.lookup(Number(body.readBigUInt64LE(0)), '@nothing');
  t.is(below.errno, 0);
  t.true(below.valid > 0);
});

test('the past is behind doors: own node ids, read-only, held by references', (t) => {
  const kernel = started();
  const { inode, handle } = kernel.create('file');
  kernel.write(inode, handle, 0, Buffer.from('then'));
  kernel.volume.createSnapshot('snap');
  kernel.write(inode, handle, 0, Buffer.from('now!'));
  const root = kernel.lookup(ROOT_INODE, '@snap');
  t.is(root.inode, ROOT_INODE);
  t.true(root.door > 0 && root.valid > 0);
  const old = kernel.lookup(ROOT_INODE, 'file', root.door);
  t.is(old.inode, inode);
  t.is(old.door, root.door);
  const opened = kernel.must(OPCODE.OPEN, root.door, inode, u32(0), u32(0));
  const oldHandle = Number(opened.readBigUInt64LE(0));
  t.is(kernel.read(root.door, inode, oldHandle, 0, 10).body.toString(), 'then');
  t.is(kernel.ask(OPCODE.OPEN, root.door, inode, u32(2), u32(0)).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.MKDIR, root.door, ROOT_INODE, u32(0o755), u32(0), text('d')).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.UNLINK, root.door, ROOT_INODE, text('file')).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.LINK, 0, ROOT_INODE, node(root.door, inode), text('l')).errno, ERRNO.EXDEV);
  const rename = [u32(0), u32(0), text('file'), text('x')];
  t.is(kernel.ask(OPCODE.RENAME2, root.door, ROOT_INODE, node(0, 1), ...rename).errno, ERRNO.EXDEV);
  t.is(kernel.ask(OPCODE.RENAME2, 0, ROOT_INODE, node(root.door, 1), ...rename).errno, ERRNO.EXDEV);
  t.is(kernel.ask(OPCODE.RENAME2, root.door, ROOT_INODE, node(root.door, 1), ...rename).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.RMDIR, 0, ROOT_INODE, text('@snap')).errno, ERRNO.EROFS);
  t.is(
    kernel.ask(OPCODE.RENAME2, 0, ROOT_INODE, node(0, 1), u32(0), u32(0), text('@snap'), text('x')).errno,
    ERRNO.EROFS,
  );
  kernel.must(OPCODE.RELEASE, root.door, inode, u64(oldHandle), u32(0), u32(0), u64(0));
  t.deepEqual(kernel.volume.openDoors, ['@snap']);
  const forgets = [node(root.door, inode), u64(1), node(root.door, ROOT_INODE), u64(1)];
  t.is(kernel.raw(kernel.encode(OPCODE.BATCH_FORGET, 0, 0, [u32(2), u32(0), ...forgets])), undefined);
  t.deepEqual(kernel.volume.openDoors, []);
  t.is(kernel.ask(OPCODE.GETATTR, root.door, ROOT_INODE, u32(0), u32(0), u64(0)).errno, ERRNO.ESTALE);
});

test('an entry of the live root comes before a state of that name', (t) => {
  const kernel = started();
  const { inode } = kernel.create('@types');
  kernel.volume.createSnapshot('types');
  t.deepEqual(
    [kernel.lookup(ROOT_INODE, '@types').door, kernel.lookup(ROOT_INODE, '@types').inode],
    [0, inode],
  );
});

test('what is behind a name that changes its meaning is not cached', (t) => {
  const kernel = started();
  kernel.create('file');
  const latest = kernel.lookup(ROOT_INODE, '@latest');
  t.true(latest.door > 0);
  t.is(latest.valid, 0);
  t.is(kernel.lookup(ROOT_INODE, 'file', latest.door).valid, 0);
  t.is(kernel.lookup(ROOT_INODE, 'none', latest.door).errno, ERRNO.ENOENT);
});

test('"." and ".." are looked up, also out of a past state', (t) => {
  const kernel = started();
  const d = Number(kernel.must(OPCODE.MKDIR, 0, 1, u32(0o755), u32(0), text('d')).readBigUInt64LE(0));
  t.is(kernel.lookup(d, '.').inode, d);
  t.is(kernel.lookup(d, '..').inode, ROOT_INODE);
  const past = kernel.lookup(ROOT_INODE, '@latest');
  t.deepEqual([kernel.lookup(1, '..', past.door).door, kernel.lookup(1, '..', past.door).inode], [0, 1]);
  t.is(kernel.ask(OPCODE.MKDIR, 0, 1, u32(0o755), u32(0), text('..')).errno, ERRNO.EINVAL);
});

test('listings: small buffers, attributes, references, snapshots', (t) => {
  const kernel = new FakeKernel({ snapdirVisible: true });
  kernel.init();
  const names = Array.from({ length: 50 }, (_, i) => `file-${i}`);
  for (const name of names) kernel.create(name);
  kernel.volume.createSnapshot('one');
  kernel.volume.createSnapshot('two');
  for (const plus of [false, true]) {
    const handle = Number(kernel.must(OPCODE.OPENDIR, 0, 1, u32(0), u32(0)).readBigUInt64LE(0));
    const found: string[] = [];
    for (let cookie = 0, more = true; more; ) {
      const fixed = [u64(handle), u64(cookie), u32(512), u32(0), u64(0), u32(0), u32(0)];
      const body = kernel.must(plus ? OPCODE.READDIRPLUS : OPCODE.READDIR, 0, 1, ...fixed);
      more = body.length > 0;
      t.true(body.length <= 512);
      for (let at = 0; at < body.length; ) {
        const entry = at;
        if (plus) at += 128;
        cookie = Number(body.readBigUInt64LE(at + 8));
        const length = body.readUInt32LE(at + 16);
        const name = body.toString('latin1', at + 24, at + 24 + length);
        found.push(name);
        if (plus && name.startsWith('file')) t.is(body.readBigUInt64LE(entry), body.readBigUInt64LE(at));
        else if (plus) t.is(body.readBigUInt64LE(entry), 0n);
        at += (24 + length + 7) & ~7;
      }
    }
    kernel.must(OPCODE.RELEASEDIR, 0, 1, u64(handle), u32(0), u32(0), u64(0));
    t.deepEqual(found.sort(), ['.', '..', '@one', '@two', ...names].sort());
  }
  // One for CREATE, one for READDIRPLUS.
  t.is(kernel.volume.live.referencesOf(kernel.lookup(1, 'file-7').inode), 3);
});

test('fsync and synchronous writes are answered when the log is durable', (t) => {
  const kernel = started();
  const { inode, handle } = kernel.create('file');
  kernel.durableLsn = 0;
  const fsync = kernel.encode(OPCODE.FSYNC, 0, inode, [u64(handle), u32(0), u32(0)]);
  t.is(kernel.raw(fsync), undefined);
  const [first] = kernel.deferred;
  t.is(first!.lsn, kernel.volume.live.lsn);
  t.is(parseReply(fsync, first!.ok).errno, 0);
  t.is(parseReply(fsync, first!.failure).errno, ERRNO.EIO);
  const bytes = Buffer.from('durable');
  const fixed = [u64(handle), u64(0), u32(bytes.length), u32(0), u64(0), u32(0o10000), u32(0)];
  const write = kernel.encode(OPCODE.WRITE, 0, inode, [...fixed, bytes]);
  t.is(kernel.raw(write), undefined);
  t.is(parseReply(write, kernel.deferred[1]!.ok).body.readUInt32LE(0), bytes.length);
  t.is(kernel.read(0, inode, handle, 0, 10).body.toString(), 'durable', 'others are served meanwhile');
  kernel.durableLsn = Number.MAX_SAFE_INTEGER;
  t.is(kernel.ask(OPCODE.FSYNC, 0, inode, u64(handle), u32(0), u32(0)).errno, 0);
  t.is(kernel.deferred.length, 2);
});

test('who fsyncs alone is answered at once, when that is quick', (t) => {
  const kernel = new FakeKernel({
    syncNow: (lsn) => {
      if (quick) kernel.durableLsn = lsn;
      return quick;
    },
  });
  let quick = true;
  kernel.init();
  const { inode, handle } = kernel.create('file');
  const fsync = (process: number): boolean => {
    kernel.process = process;
    kernel.durableLsn = 0;
    const request = kernel.encode(OPCODE.FSYNC, 0, inode, [u64(handle), u32(0), u32(0)]);
    const reply = kernel.raw(request);
    if (reply !== undefined) t.is(parseReply(request, reply).errno, 0);
    return reply !== undefined;
  };
  t.deepEqual([fsync(1), fsync(1), fsync(1), fsync(1)], [false, false, true, true]);
  t.is(kernel.deferred.length, 2);
  quick = false;
  t.false(fsync(1));
  t.is(kernel.deferred.length, 3);
  quick = true;
  t.deepEqual([fsync(2), fsync(1), fsync(2), fsync(1)], [false, false, false, false]);
});

test('SEEK_DATA of a file that is being written waits for the write-back', (t) => {
  const asked: [number, number][] = [];
  const kernel = new FakeKernel({ writeBack: (ticket, inode) => asked.push([ticket, inode]) });
  kernel.init();
  const { inode, handle } = kernel.create('file');
  const seek = kernel.encode(OPCODE.LSEEK, 0, inode, [u64(handle), u64(0), u32(3), u32(0)]);
  t.is(kernel.raw(seek), undefined);
  kernel.write(inode, handle, 8192, Buffer.from('data'));
  t.is(asked[0]![1], inode);
  const length = kernel.session.resume(asked[0]![0]);
  const reply = Buffer.from(kernel.session.replyBytes.subarray(0, length));
  t.is(parseReply(seek, reply).body.readBigUInt64LE(0), 8192n);
  t.is(kernel.session.resume(asked[0]![0]), 0, 'once');
});

test('the kernel is told when a write takes setuid away', (t) => {
  const kernel = started();
  const { inode, handle } = kernel.create('file');
  kernel.volume.live.setattr(ROOT_CALLER, inode, { mode: 0o4755 });
  const bytes = Buffer.from('x');
  const write = (kill: number) =>
    kernel.must(
      OPCODE.WRITE,
      0,
      inode,
      ...[u64(handle), u64(0), u32(1), u32(kill), u64(0), u32(0), u32(0), bytes],
    );
  kernel.uid = 1000;
  write(0);
  t.deepEqual(kernel.notified, []);
  write(4);
  t.is(kernel.notified.length, 1);
  t.is(kernel.notified[0]!.readBigUInt64LE(16), BigInt(inode));
  t.is(kernel.notified[0]!.readBigInt64LE(24), -1n, 'attributes alone');
  write(4);
  t.is(kernel.notified.length, 1);
});

test('extended attributes: lengths, ranges, values', (t) => {
  const kernel = started();
  const { inode } = kernel.create('file');
  const value = Buffer.from('value');
  const set = (name: string, bytes: Uint8Array, size: number, flags = 0) =>
    kernel.ask(OPCODE.SETXATTR, 0, inode, u32(size), u32(flags), u32(0), u32(0), text(name), bytes).errno;
  t.is(set('user.a', value, 5), 0);
  t.is(set('user.a', value, 5, 1), ERRNO.EEXIST);
  t.is(set('user.a', value, 6), ERRNO.EINVAL, 'a value longer than the request');
  const get = (size: number, name = 'user.a') =>
    kernel.ask(OPCODE.GETXATTR, 0, inode, u32(size), u32(0), text(name));
  t.is(get(0).body.readUInt32LE(0), 5);
  t.is(get(4).errno, ERRNO.ERANGE);
  t.is(get(100).body.toString(), 'value');
  t.is(get(100, 'user.b').errno, ERRNO.ENODATA);
  t.is(kernel.ask(OPCODE.LISTXATTR, 0, inode, u32(100), u32(0)).body.toString(), 'user.a\0');
});

test('an unexpected error is EIO and logged, and the session goes on', (t) => {
  const kernel = started();
  kernel.volume.live.statfs = () => {
    throw new TypeError('a bug');
  };
  t.is(kernel.ask(OPCODE.STATFS, 0, 1).errno, ERRNO.EIO);
  t.regex(kernel.logged[0] ?? '', /STATFS.*TypeError: a bug\n.*at /s);
  t.is(kernel.ask(OPCODE.GETATTR, 0, 1, u32(0), u32(0), u64(0)).errno, 0);
});

test('a file system that inherits ACLs gets the umask with the caller', (t) => {
  for (const inheritsAcls of [true, false]) {
    const kernel = new FakeKernel({ inheritsAcls });
    const flags = kernel.init().body.readUInt32LE(INIT_OUT.flags);
    const both = INIT.POSIX_ACL | INIT.DONT_MASK;
    t.is(flags & both, inheritsAcls ? both : 0);
    const umasks: (number | undefined)[] = [];
    const { live } = kernel.volume;
    const { mkdir, create } = live;
    live.mkdir = (caller, ...rest) => {
      umasks.push(caller.umask);
      return mkdir.call(live, caller, ...rest);
    };
    live.create = (caller, ...rest) => {
      umasks.push(caller.umask);
      return create.call(live, caller, ...rest);
    };
    kernel.must(OPCODE.MKDIR, 0, 1, u32(0o755), u32(0o27), text('d'));
    kernel.create('f');
    t.deepEqual(umasks, inheritsAcls ? [0o27, 0o22] : [undefined, undefined]);
  }
});

test('the server reaches live files by number, nobody else does', (t) => {
  const kernel = started();
  const { inode } = kernel.create('file');
  const direct = kernel.lookup(1, `@secret-${inode}`);
  t.deepEqual([direct.inode, direct.door, direct.valid], [inode, 0, 0]);
  t.is(kernel.lookup(1, `@public-${inode}`).errno, ERRNO.ENOENT);
  t.is(kernel.lookup(1, '@secret-1').errno, ERRNO.EINVAL, 'a directory');
  t.is(kernel.lookup(1, '@secret-0x5').errno, ERRNO.ENOENT);
  t.is(kernel.lookup(1, '@secret-999').errno, ERRNO.ESTALE);
  t.is(kernel.lookup(1, '@secret-wake').errno, 0);
});

const UNANSWERED = new Set<number>([
  OPCODE.FORGET,
  OPCODE.BATCH_FORGET,
  OPCODE.INTERRUPT,
  OPCODE.NOTIFY_REPLY,
]);

function corpus(kernel: FakeKernel): Buffer[] {
  const { inode, handle } = kernel.create('seed');
  const directory = Number(kernel.must(OPCODE.OPENDIR, 0, 1, u32(0), u32(0)).readBigUInt64LE(0));
  const io = [u64(handle), u64(0), u32(64), u32(0), u64(0), u32(0), u32(0)];
  const list = [u64(directory), u64(0), u32(4096), u32(0), u64(0), u32(0), u32(0)];
  const of = (opcode: number, on: number, ...fields: Parameters<FakeKernel['encode']>[3]) =>
    kernel.encode(opcode, 0, on, fields);
  return [
    of(OPCODE.LOOKUP, 1, text('seed')),
    of(OPCODE.LOOKUP, 1, text('@latest')),
    of(OPCODE.GETATTR, inode, u32(0), u32(0), u64(0)),
    of(OPCODE.SETATTR, inode, u32(0xfff), u32(0), u64(handle), u64(100), new Uint8Array(64)),
    of(OPCODE.SYMLINK, 1, text('s'), text('target')),
    of(OPCODE.MKNOD, 1, u32(0o100644), u32(0), u32(0), u32(0), text('n')),
    of(OPCODE.MKDIR, 1, u32(0o755), u32(0), text('d')),
    of(OPCODE.UNLINK, 1, text('n')),
    of(OPCODE.RMDIR, 1, text('d')),
    of(OPCODE.RENAME2, 1, node(0, 1), u32(0), u32(0), text('s'), text('t')),
    of(OPCODE.LINK, 1, node(0, inode), text('l')),
    of(OPCODE.OPEN, inode, u32(2), u32(0)),
    of(OPCODE.CREATE, 1, u32(2), u32(0o644), u32(0), u32(0), text('c')),
    of(OPCODE.READ, inode, ...io),
    of(OPCODE.WRITE, inode, ...io, new Uint8Array(64)),
    of(OPCODE.READDIR, 1, ...list),
    of(OPCODE.READDIRPLUS, 1, ...list),
    of(OPCODE.SETXATTR, inode, u32(4), u32(0), u32(0), u32(0), text('user.x'), new Uint8Array(4)),
    of(OPCODE.GETXATTR, inode, u32(64), u32(0), text('user.x')),
    of(OPCODE.FALLOCATE, inode, u64(handle), u64(0), u64(4096), u32(0), u32(0)),
    of(
      OPCODE.COPY_FILE_RANGE,
      inode,
      u64(handle),
      u64(0),
      node(0, inode),
      u64(handle),
      u64(0),
      u64(10),
      u64(0),
    ),
    of(OPCODE.LSEEK, inode, u64(handle), u64(0), u32(3), u32(0)),
    of(OPCODE.BATCH_FORGET, 0, u32(1), u32(0), node(0, inode), u64(1)),
    of(OPCODE.STATX, inode, new Uint8Array(24)),
  ];
}

test('hostile requests: exactly one reply each, never a throw', (t) => {
  const generator = new Random(seedOf(t, 'requests'));
  const random = (limit: number): number => generator.below(limit);
  const kernel = started();
  const seeds = corpus(kernel);
  for (let round = 0; round < 30_000; round++) {
    let bytes: Buffer;
    if (random(4) === 0) {
      bytes = Buffer.alloc(random(300));
      for (let i = 0; i < bytes.length; i++) bytes[i] = random(256);
      if (bytes.length >= 8 && random(4) > 0) bytes.writeUInt32LE(random(OPCODE_COUNT + 4), 4);
    } else {
      bytes = Buffer.from(seeds[random(seeds.length)]!);
      if (random(3) === 0) bytes = bytes.subarray(0, random(bytes.length + 1));
      const interesting = [0, 1, 0x7f, 0x80, 0xff, 0x2f, random(256)];
      for (let n = random(6); n > 0 && bytes.length > 0; n--) {
        bytes[random(bytes.length)] = interesting[random(interesting.length)]!;
      }
    }
    if (bytes.length >= 4 && random(8) > 0) bytes.writeUInt32LE(bytes.length, 0);
    const reply = kernel.raw(bytes);
    const opcode = bytes.length >= 40 ? bytes.readUInt32LE(4) : 0;
    if (bytes.length < 40 || UNANSWERED.has(opcode)) t.is(reply, undefined);
    else parseReply(bytes, reply!);
  }
  const bugs = kernel.logged.filter(
    (line) =>
      !line.includes('too short for its header') &&
      !line.includes('kernel speaks') &&
      // A write-back that is refused is logged, whoever sent it.
      !/^WRITE of inode \d+ \(door \d+\) failed: PosixError: \w+$/.test(line),
  );
  t.deepEqual(bugs.slice(0, 3), []);
  t.is(kernel.ask(OPCODE.GETATTR, 0, 1, u32(0), u32(0), u64(0)).errno, 0);
  t.truthy(kernel.volume.live.getattr(ROOT_CALLER, ROOT_INODE));
});
