/**
 * A store whose disk has failed, as programs and people see it: changes are EROFS and not a wrong EIO, an fsync of what is
 * not durable is EIO, reading goes on, and `lsnfs status` says why.
 */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { OPCODE } from '../../fuse/protocol.ts';
import { ERRNO, LsnfsError } from '../../src/errors.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import { startControlServer } from '../../src/plugin/control-server.ts';
import { Database } from '../../src/plugin/database.ts';
import { executeOperation, type OperationName } from '../../src/plugin/operations.ts';
import { type DiskOperation, SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { Store } from '../../src/store/store.ts';
import { ROOT_INODE } from '../../src/vfs/file-system.ts';
import { lsnfs, lsnfsOutput } from '../helpers/command-line.ts';
import { FakeKernel, parseReply, text, u32, u64 } from '../helpers/fuse-requests.ts';

interface Served {
  readonly disk: SimulatedDisk;
  readonly database: Database;
  readonly kernel: FakeKernel;
  /** The next reply that was deferred. */
  deferred(): Buffer;
  readonly directory: string;
}

/** A database over a simulated disk, served to a kernel that the test plays. */
async function serve(t: ExecutionContext): Promise<Served> {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lsnfs-failed-'));
  const replies = path.join(directory, 'replies');
  const descriptor = fs.openSync(replies, 'a');
  const disk = new SimulatedDisk({ name: directory });
  Store.initialize(disk, { segmentSize: 65536 });
  const database = await Database.over(
    disk,
    { commitIntervalMs: 3_600_000, warn: () => {} },
    { mountpoint: null, background: 'caller', vfs: { checkPermissions: false, kernelHandles: true } },
  );
  const { log } = database.store;
  const kernel = new FakeKernel({
    volume: database.volume,
    durableLsn: () => log.durableLsn,
    deferReply: (lsn, ok, failure) => log.writeWhenDurable(lsn, descriptor, ok, failure),
  });
  kernel.init();
  t.teardown(async () => {
    await database.close().catch((error: unknown) => {
      if (!(error instanceof LsnfsError)) throw error;
    });
    fs.closeSync(descriptor);
    fs.rmSync(directory, { recursive: true, force: true });
  });
  let read = 0;
  const deferred = (): Buffer => {
    const bytes = fs.readFileSync(replies);
    const reply = bytes.subarray(read, read + bytes.readUInt32LE(read));
    read += reply.length;
    return reply;
  };
  return { disk, database, kernel, deferred, directory };
}

function failing(which: (operation: DiskOperation) => boolean, errno = 'EIO') {
  return (operation: DiskOperation) => (which(operation) ? { errno } : undefined);
}

/** FSYNC; returns the errno of its reply, which may come later. */
async function fsync({ kernel, deferred }: Served, inode: number, handle: number): Promise<number> {
  const request = kernel.encode(OPCODE.FSYNC, 0, inode, [u64(handle), u32(0), u32(0)]);
  const reply = kernel.raw(request);
  if (reply !== undefined) return parseReply(request, reply).errno;
  for (let turn = 0; turn < 5; turn++) await new Promise((resolve) => setImmediate(resolve));
  return parseReply(request, deferred()).errno;
}

test('after a failed fsync programs get EROFS for changes and EIO for fsync, and reading goes on', async (t) => {
  const served = await serve(t);
  const { disk, kernel } = served;
  const { inode, handle } = kernel.create('file');
  kernel.write(inode, handle, 0, Buffer.from('durable'));
  t.is(await fsync(served, inode, handle), 0);
  kernel.write(inode, handle, 0, Buffer.from('volatile'));
  disk.fault = failing(({ kind }) => kind === 'sync');
  t.is(await fsync(served, inode, handle), ERRNO.EIO);
  disk.fault = undefined;
  t.is(await fsync(served, inode, handle), ERRNO.EIO, 'a second fsync does not say that it is well');
  t.is(kernel.write(inode, handle, 0, Buffer.from('more')).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.MKDIR, 0, ROOT_INODE, u32(0o755), u32(0), text('d')).errno, ERRNO.EROFS);
  t.is(kernel.ask(OPCODE.UNLINK, 0, ROOT_INODE, text('file')).errno, ERRNO.EROFS);
  t.is(kernel.read(0, inode, handle, 0, 100).body.toString(), 'volatile');
  t.is(kernel.lookup(ROOT_INODE, 'file').inode, inode);
  t.deepEqual(kernel.logged, []);
});

test('a page that cannot be read is EIO for that read, and nothing is remembered of it', async (t) => {
  const { disk, database, kernel } = await serve(t);
  const { inode, handle } = kernel.create('file');
  kernel.write(inode, handle, 0, Buffer.alloc(40_000, 'x'));
  await database.store.checkpoint();
  disk.fault = failing(({ kind }) => kind === 'read');
  t.is(kernel.read(0, inode, handle, 0, 4096).errno, ERRNO.EIO);
  disk.fault = undefined;
  t.is(kernel.read(0, inode, handle, 0, 4096).body.toString(), 'x'.repeat(4096));
  t.is(kernel.write(inode, handle, 0, Buffer.from('on')).errno, 0);
});

test('lsnfs status of a store that has failed gives the reason, and changing commands do', async (t) => {
  const served = await serve(t);
  const { disk, database, kernel, directory } = served;
  const server = await startControlServer({
    storePath: directory,
    execute: (name, args: JsonObject) => executeOperation(database, name as OperationName, args),
  });
  t.teardown(() => server.closed());
  t.notRegex(await lsnfsOutput('status', directory), /Failed/);
  const { inode, handle } = kernel.create('file');
  disk.fault = failing(({ kind, name }) => kind === 'sync' && name.startsWith('wal/'), 'EDQUOT');
  t.is(await fsync(served, inode, handle), ERRNO.EIO);
  disk.fault = undefined;
  const said = await lsnfsOutput('status', directory);
  t.regex(said, /^Failed: {5}.*sync of wal\/0000000000000000 failed: the disk quota is used up/m);
  const status = JSON.parse(await lsnfsOutput('status', directory, '--json')) as { failure: string };
  t.true(said.includes(status.failure));
  const refused = await lsnfs('snapshot', 'create', directory, 'name');
  t.is(refused.code, 1);
  t.regex(refused.stderr, /takes no more changes.*disk quota is used up/);
});
