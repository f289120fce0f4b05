/** Collections: what a dry run counts is what comes free, and settings that change count at once. */
import test from 'ava';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { KEEP_NOTHING } from '../helpers/retention-settings.ts';

async function openDatabase(settings: object): Promise<{ database: Database; directory: MemoryDirectory }> {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 65_536 });
  // The test alone says when something goes: nothing happens in the background.
  const server = { mountpoint: null, background: 'caller' as const };
  return { database: await Database.over(directory, { settings }, server), directory };
}

test('a dry run counts exactly what a collection gives back, whatever is deleted, named and open', async (t) => {
  const random = new Random(seedOf(t, 'collection'));
  const { database } = await openDatabase({ ...KEEP_NOTHING, keepLast: 2 });
  const { store } = database;
  const views: { close(): void }[] = [];
  const names: string[] = [];
  let reclaimed = 0;
  for (let round = 0; round < 25; round++) {
    for (let i = random.below(6); i >= 0; i--) {
      const path = `/f${random.below(8)}`;
      if (random.below(4) === 0) await database.delete(path);
      else await database.put(path, Buffer.alloc(random.below(60_000), round + 1));
      if (random.below(3) === 0) await store.checkpoint();
    }
    if (random.below(3) === 0) {
      names.push(`s${round}`);
      await database.snapshots.create(`s${round}`);
    }
    if (random.below(3) === 0) views.push(database.at(database.lsn));
    if (names.length > 0 && random.below(3) === 0)
      await database.snapshots.delete(names.splice(random.below(names.length), 1)[0]!);
    if (views.length > 0 && random.below(3) === 0) views.splice(random.below(views.length), 1)[0]!.close();
    await store.checkpoint();
    const expected = await database.collections.preview();
    const before = store.reclaimed.pages;
    const done = await database.collections.start(random.below(2) === 0).done;
    t.like(done, { versions: expected.versions, pages: expected.pages, applied: true }, `round ${round}`);
    t.is(store.reclaimed.pages - before, done.pages);
    t.like(await database.collections.preview(), { versions: 0, pages: 0 }, `after round ${round}`);
    t.deepEqual(checkStore(store).problems, []);
    reclaimed += done.pages;
  }
  t.true(reclaimed > 100, `${reclaimed} pages reclaimed in all`);
  for (const view of views) view.close();
  await database.close();
});

test('whoever asks for a second collection waits for the first', async (t) => {
  const { database } = await openDatabase(KEEP_NOTHING);
  await database.put('/a', Buffer.alloc(400_000, 1));
  await database.store.checkpoint();
  await database.delete('/a');
  const first = database.collections.start(true);
  t.is(database.collections.start(false), first);
  t.true((await first.done).pages >= 100);
  t.true(first.isEnded);
  t.not(database.collections.start(true), first);
  await database.close();
});

test('a closed store ends a collection', async (t) => {
  const { database } = await openDatabase(KEEP_NOTHING);
  await database.close();
  await t.throwsAsync(database.collections.start(true).done, { code: 'STORE_CLOSED' });
});

test('a setting that changes is in force at once and in the file, unless it waits for the next opening', async (t) => {
  const { database, directory } = await openDatabase({});
  const { store } = database;
  store.changeSetting('keepHourly', 3);
  store.changeSetting('atime', 'noatime');
  t.like(store.settings, { keepHourly: 3, atime: 'relatime' });
  t.like(store.savedSettings(), { keepHourly: 3, atime: 'noatime' });
  t.throws(() => store.changeSetting('keepHourly', -1), { code: 'INVALID_INPUT' });
  t.like(store.savedSettings(), { keepHourly: 3 });
  await database.close();
  t.throws(() => store.changeSetting('keepHourly', 4), { code: 'STORE_CLOSED' });
  const again = Store.open(directory, { readOnly: true });
  t.like(again.settings, { keepHourly: 3, atime: 'noatime' });
  t.throws(() => again.changeSetting('keepHourly', 4), { code: 'READ_ONLY' });
  await again.close();
});

test('a crash while a setting is written leaves the old file', async (t) => {
  const { database, directory } = await openDatabase({});
  const { store } = database;
  store.changeSetting('keepDaily', 5);
  for (const operation of ['write', 'sync', 'rename'] as const) {
    directory.fault = (what, name) => {
      if (what === operation && name.startsWith('lsnfs.json')) throw new Error('the power fails');
    };
    t.throws(() => store.changeSetting('keepDaily', 6), { message: 'the power fails' }, operation);
    directory.fault = undefined;
    t.is(store.settings.keepDaily, 5, operation);
    t.is(store.savedSettings().keepDaily, 5, operation);
  }
  store.changeSetting('keepDaily', 6);
  t.is(store.savedSettings().keepDaily, 6);
  await database.close();
});
