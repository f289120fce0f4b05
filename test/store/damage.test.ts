/** What is left of a store of which a page is damaged: each case is one that the laboratories found. */
import test from 'ava';
import { decodeControl } from '../../src/encoding/control.ts';
import { inodeKey, namespaceKey, TREE } from '../../src/encoding/keys.ts';
import { CorruptPageError, LsnfsError } from '../../src/errors.ts';
import { Database, type OpenOptions } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { segmentName } from '../../src/wal/segment.ts';

const SEGMENT_SIZE = 1024 * 1024;

function open(directory: MemoryDirectory, options: OpenOptions = {}): Promise<Database> {
  return Database.over(directory, { warn: () => {}, ...options }, { mountpoint: null, background: 'caller' });
}

async function make(): Promise<{ directory: MemoryDirectory; database: Database }> {
  const directory = new MemoryDirectory();
  Store.initialize(directory, { segmentSize: SEGMENT_SIZE });
  return { directory, database: await open(directory) };
}

/** Garbles a page of the data file. */
function damagePage(directory: MemoryDirectory, page: number): void {
  directory.open('data').write(page * 4096 + 100, Buffer.from('damage'), 0, 6);
}

test('a commit between a checkpoint and its record is not lost with the end of the log', async (t) => {
  const { directory, database } = await make();
  const { store } = database;
  await database.put('/a', 'before the seal');
  const { lsn } = await database.snapshots.create('sealed');
  // Made after the seal and before the checkpoint is written: it lies behind the sealed LSN and before the record.
  await database.put('/b', 'acknowledged');
  while (store.checkpointLsn < lsn) if (store.backgroundStep(50) === 'wait') await store.commit();
  const killed = directory.clone();
  await database.store.log.close();
  const control = Buffer.alloc(8192);
  killed.open('control').read(0, control, 0, control.length);
  const slots = [control.subarray(0, 4096), control.subarray(4096)].map(decodeControl);
  const { checkpoint } = slots.sort((a, b) => b.sequence - a.sequence)[0]!;
  t.true(checkpoint.position > checkpoint.lsn);
  const log = killed.open(segmentName(0, SEGMENT_SIZE));
  const zeros = Buffer.alloc(SEGMENT_SIZE - checkpoint.lsn);
  log.write(checkpoint.lsn, zeros, 0, zeros.length);
  const error = await t.throwsAsync(open(killed), { instanceOf: LsnfsError, code: 'CORRUPT_LOG' });
  t.is((error as LsnfsError).details.file, segmentName(0, SEGMENT_SIZE));
  t.is((error as LsnfsError).details.offset, checkpoint.lsn);
});

test('a damaged page of the inodes takes down what it holds, and no more', async (t) => {
  const { directory, database } = await make();
  for (let i = 0; i < 200; i++) await database.put(`/${String(i).padStart(3, '0')}`, `content ${i}`);
  await database.snapshots.create('before');
  await database.close();
  const pristine = await open(directory.clone());
  t.true(pristine.store.live.inodes.find(inodeKey(1)));
  const first = pristine.store.live.inodes.page.number;
  await pristine.close();
  damagePage(directory, first);
  const warnings: string[] = [];
  const again = await open(directory, { warn: (message) => warnings.push(message) });
  // The root's record is in it, and those of the first files.
  t.throws(() => again.stat('/'), { instanceOf: CorruptPageError });
  t.throws(() => again.get('/000'), { instanceOf: CorruptPageError });
  t.is(again.get('/150')?.toString(), 'content 150');
  t.is(again.snapshots.list().length, 1);
  t.true(warnings.some((message) => message.includes(`page ${first}`)));
  await again.store.log.close();
});

test('a store whose free tree is damaged is read, and takes no changes', async (t) => {
  const { directory, database } = await make();
  await database.put('/a', 'content');
  await database.store.checkpoint();
  await database.put('/b', Buffer.alloc(20 * 4096, 7));
  const page = database.store.inspect().catalog.free.root.number;
  t.true(page > 0);
  const killed = directory.clone();
  await database.close();
  damagePage(killed, page);
  const warnings: string[] = [];
  const again = await open(killed, { warn: (message) => warnings.push(message) });
  t.is(again.get('/a')?.toString(), 'content');
  t.is(again.get('/b')?.length, 20 * 4096);
  t.regex((await again.status()).failure ?? '', /free space is damaged/);
  t.true(warnings.length > 0);
  await t.throwsAsync(again.put('/c', 'x'), { code: 'STORE_FAILED' });
  await t.throwsAsync(again.close(), { code: 'STORE_FAILED' });
  const readOnly = await open(killed, { readOnly: true });
  t.is(readOnly.get('/a')?.toString(), 'content');
  await readOnly.close();
});

test('a page that replay needs is damaged: read-only, the state before that is shown, with a warning', async (t) => {
  const { directory, database } = await make();
  for (let i = 0; i < 300; i++) await database.put(`/d/${String(i).padStart(3, '0')}-${'x'.repeat(60)}`, 'y');
  await database.store.checkpoint();
  await database.put('/d/000-first', 'in the log');
  const { lsn } = database;
  await database.put('/d/299-last', 'in the log, and its page is damaged');
  const killed = directory.clone();
  await database.store.log.close();
  // The last leaf of the namespace, as the checkpoint wrote it.
  const version = database.store.versionBefore(database.lsn)!;
  const state = database.store.openState(version.lsn);
  const cursor = state.namespace.cursor();
  t.true(cursor.last());
  damagePage(killed, cursor.page.number);
  await t.throwsAsync(open(killed.clone()), { instanceOf: CorruptPageError });
  const warnings: string[] = [];
  const readOnly = await open(killed, { readOnly: true, warn: (message) => warnings.push(message) });
  t.is(readOnly.lsn, lsn);
  t.regex(warnings.join(), new RegExp(`state at that LSN.*page ${cursor.page.number}`));
  t.is(readOnly.get('/d/000-first')?.toString(), 'in the log');
  await readOnly.close();
});

test('a change that failed and cannot be undone is not shown: the live state is lost until it is opened again', async (t) => {
  const { directory, database } = await make();
  await database.put('/a', 'whole');
  const { live } = database.store;
  live.begin();
  live.put(TREE.namespace, namespaceKey(1, Buffer.from('half')), Buffer.from([0x81, 1]));
  directory.fault = (operation, name) => {
    if (operation === 'read' && name.startsWith('wal/')) throw new LsnfsError('IO', 'the disk is gone');
  };
  t.throws(() => live.rollback(), { code: 'STORE_FAILED', message: /could not be undone.*the disk is gone/ });
  directory.fault = undefined;
  t.throws(() => database.get('/a'), { code: 'STORE_FAILED' });
  t.throws(() => live.namespace.find(namespaceKey(1, Buffer.from('half'))), { code: 'STORE_FAILED' });
  await t.throwsAsync(database.put('/b', 'x'), { code: 'STORE_FAILED' });
  await t.throwsAsync(database.close(), { code: 'STORE_FAILED' });
  const again = await open(directory);
  t.is(again.get('/a')?.toString(), 'whole');
  t.is(again.get('/half'), undefined);
  await again.store.checkpoint();
  t.deepEqual(checkStore(again.store).problems, []);
  await again.close();
});

test('a snapshot that does not fit a page leaves nothing in the log that cannot be applied', async (t) => {
  const { directory, database } = await make();
  await database.put('/a', 'content');
  await t.throwsAsync(database.snapshots.create('s', { message: 'm'.repeat(1025) }), {
    code: 'INVALID_INPUT',
  });
  await t.throwsAsync(database.store.createSnapshot('s', 'm'.repeat(4000)), { code: 'INVALID_INPUT' });
  const name = 'n'.repeat(254);
  await database.snapshots.create(name, { message: 'm'.repeat(1024) });
  const killed = directory.clone();
  await database.store.log.close();
  const again = await open(killed);
  t.deepEqual(
    again.snapshots.list().map((snapshot) => snapshot.name),
    [name],
  );
  t.is(again.get('/a')?.toString(), 'content');
  await again.close();
});

test('a snapshot whose deletion meets a damaged page is there, also after a crash', async (t) => {
  const { directory, database } = await make();
  for (let i = 0; i < 40; i++) {
    await database.put('/a', `${i}`);
    await database.snapshots.create(`${String(i).padStart(3, '0')}${'n'.repeat(120)}`);
  }
  await database.close();
  const before = await open(directory, { readOnly: true });
  const cursor = before.store.live.registry.cursor();
  cursor.first();
  const first = cursor.page.number;
  while (cursor.page.number === first) cursor.next();
  const second = cursor.page.number;
  await before.close();
  damagePage(directory, second);
  const damaged = await open(directory);
  // Deleting most of the first leaf's rows makes the tree look at the second, to merge them.
  let failed = '';
  for (let i = 0; failed === '' && i < 40; i++) {
    const name = `${String(i).padStart(3, '0')}${'n'.repeat(120)}`;
    await damaged.snapshots.delete(name).catch((error: unknown) => {
      t.true(error instanceof CorruptPageError);
      failed = name;
    });
  }
  t.not(failed, '');
  const key = Buffer.from(failed);
  t.true(damaged.store.live.registry.find(key));
  await damaged.commit();
  const killed = directory.clone();
  await damaged.store.log.close();
  const again = await open(killed);
  t.true(again.store.live.registry.find(key));
  await again.store.log.close();
});

test('nothing is sealed amid a transaction', async (t) => {
  const { database } = await make();
  const { store } = database;
  const attempts: Promise<unknown>[] = [];
  await database.transaction((transaction) => {
    transaction.put('/half', 'x');
    attempts.push(database.snapshots.create('s'), store.checkpoint(), store.deleteSnapshot('s'));
    transaction.put('/whole', 'x');
    for (const attempt of attempts) attempt.catch(() => {});
  });
  for (const attempt of attempts) await t.throwsAsync(attempt, { code: 'INVALID_INPUT' });
  t.is(database.snapshots.list().length, 0);
  await database.close();
});
