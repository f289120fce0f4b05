/** Snapshots that are held, released and renamed: also after recovery, and when it cannot be. */
import test from 'ava';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';

async function makeDatabase(): Promise<{ database: Database; directory: MemoryDirectory }> {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 65_536 });
  return { database: await reopen(directory), directory };
}

/** Nothing happens in the background: what is not in a checkpoint is in the log alone. */
function reopen(directory: MemoryDirectory): Promise<Database> {
  return Database.over(directory, {}, { mountpoint: null, background: 'caller' });
}

test('a held snapshot is not deleted before every tag is released, and recovery knows it', async (t) => {
  const { database, directory } = await makeDatabase();
  await database.put('/a', 'old');
  const made = await database.snapshots.create('nightly', { message: 'why' });
  await database.snapshots.hold('nightly', 'offsite');
  t.like(await database.snapshots.hold('nightly', 'audit'), { holds: ['audit', 'offsite'], lsn: made.lsn });
  await t.throwsAsync(database.snapshots.hold('nightly', 'audit'), { code: 'NAME_TAKEN' });
  await t.throwsAsync(database.snapshots.delete('nightly'), {
    code: 'SNAPSHOT_HELD',
    message: 'the snapshot "nightly" is held by "audit", "offsite": release it first',
  });
  // Without an end: what was answered is in the log.
  const recovered = await reopen(directory);
  t.deepEqual(recovered.snapshots.list(), [{ ...made, holds: ['audit', 'offsite'] }]);
  await recovered.snapshots.release('nightly', 'offsite');
  await t.throwsAsync(recovered.snapshots.release('nightly', 'offsite'), {
    message: '"offsite" does not hold the snapshot "nightly": it is held by audit',
  });
  await t.throwsAsync(recovered.snapshots.delete('nightly'), { code: 'SNAPSHOT_HELD' });
  t.deepEqual(await recovered.snapshots.release('nightly', 'audit'), made);
  await recovered.store.checkpoint();
  t.deepEqual(checkStore(recovered.store).problems, []);
  await recovered.snapshots.delete('nightly');
  t.deepEqual(recovered.snapshots.list(), []);
  await recovered.close();
});

test('a renamed snapshot is the same state, under the new name only', async (t) => {
  const { database, directory } = await makeDatabase();
  await database.put('/a', 'old');
  const made = await database.snapshots.create('before');
  await database.snapshots.create('other');
  await database.snapshots.hold('before', 'audit');
  await database.put('/a', 'new');
  const announced: string[] = [];
  database.volume.onSnapshotChange((name) => announced.push(name));
  await t.throwsAsync(database.snapshots.rename('before', 'other'), { code: 'NAME_TAKEN' });
  await t.throwsAsync(database.snapshots.rename('before', 'lsn-7'), { code: 'NAME_RESERVED' });
  await t.throwsAsync(database.snapshots.rename('none', 'some'), { code: 'NO_SUCH_SNAPSHOT' });
  t.deepEqual(await database.snapshots.rename('before', 'after'), {
    ...made,
    name: 'after',
    holds: ['audit'],
  });
  t.deepEqual(announced, ['before', 'after']);
  const recovered = await reopen(directory);
  const view = recovered.at('after');
  t.is(view.get('/a')?.toString(), 'old');
  view.close();
  t.throws(() => recovered.at('before'), { code: 'NO_SUCH_SNAPSHOT' });
  t.deepEqual(
    recovered.snapshots.list().map(({ name }) => name),
    ['after', 'other'],
  );
  await recovered.store.checkpoint();
  t.deepEqual(checkStore(recovered.store).problems, []);
  await recovered.close();
});

test('tags that are none, and more of them than a page holds, are refused and change nothing', async (t) => {
  const { database } = await makeDatabase();
  await database.snapshots.create('s', { message: 'm'.repeat(1024) });
  for (const tag of ['', 'a\nb', 'x'.repeat(65), '\ud800']) {
    t.throws(() => database.history.holdSnapshot('s', tag), { code: 'INVALID_INPUT' }, JSON.stringify(tag));
  }
  let held = 0;
  const error = await t.throwsAsync(async () => {
    for (; held < 100; held++) await database.snapshots.hold('s', String(held).padStart(64, 'x'));
  });
  t.regex(error.message, /does not fit a page/);
  t.true(held > 0);
  t.is(database.snapshots.list()[0]!.holds?.length, held);
  await database.put('/still', 'works');
  await database.store.checkpoint();
  t.deepEqual(checkStore(database.store).problems, []);
  await database.close();
});

test('a snapshot is listed from the moment on from which it can be opened', async (t) => {
  const { database } = await makeDatabase();
  await database.put('/a', 'old');
  const made = database.snapshots.create('soon');
  t.deepEqual(database.snapshots.list(), [], 'it is not durable');
  t.throws(() => database.at('@soon'), { code: 'NO_SUCH_SNAPSHOT' });
  await t.throwsAsync(database.snapshots.create('soon'), { code: 'NAME_TAKEN' });
  const { lsn } = await made;
  t.deepEqual(
    database.snapshots.list().map((row) => row.lsn),
    [lsn],
  );
  t.is(database.at('@soon').lsn, lsn);
  await database.close();
});
