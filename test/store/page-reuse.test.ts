/** Buffers of replaced pages serve new ones: only of pages that nobody else holds, and without a trace for those who go on reading. */
import test from 'ava';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { put } from '../helpers/store-content.ts';

const KEYS = 5000;

function openStore(): Store {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  const settings = { checkpointIntervalMs: 3_600_000, cacheSizeBytes: 8 * 1024 * 1024 };
  return Store.open(directory, { background: 'caller', settings });
}

async function checkpoint(store: Store): Promise<void> {
  store.requestCheckpoint();
  for (let state = store.backgroundStep(5); state !== 'idle'; state = store.backgroundStep(5)) {
    if (state === 'wait') await store.commit();
  }
}

function valueIn(number: number, round: number): string {
  return `${number} in round ${round} `.padEnd(120, '-');
}

test('a replaced page that was only borrowed is given up, and one that was got stays as it is', async (t) => {
  const store = openStore();
  for (let i = 0; i < KEYS; i++) put(store, i, valueIn(i, 0));
  await checkpoint(store);
  const { pages, namespace } = store.live;
  const { number, lsn, checksum } = namespace.root;
  const borrowed = pages.borrow(number, lsn, checksum);
  for (let i = 0; i < KEYS; i += 10) put(store, i, valueIn(i, 1));
  t.is(borrowed.bytes.length, 0);

  await checkpoint(store);
  const root = { ...namespace.root };
  const got = pages.get(root.number, root.lsn, root.checksum);
  const was = Buffer.from(got.bytes);
  for (let i = 0; i < KEYS; i += 10) put(store, i, valueIn(i, 2));
  t.not(namespace.root.number, root.number);
  t.deepEqual(got.bytes, was);
  await store.close();
});

test('readers of past states and cursors of the live one go on while pages are replaced', async (t) => {
  const random = new Random(seedOf(t, 'page reuse'));
  const store = openStore();
  const rounds = new Array<number>(KEYS).fill(0);
  for (let i = 0; i < KEYS; i++) put(store, i, valueIn(i, 0));
  await checkpoint(store);
  for (let round = 1; round <= 8; round++) {
    const past = store.openState(store.live.lsn);
    const before = rounds.slice();
    const pastEntries = past.namespace.entries();
    const cursor = store.live.namespace.cursor();
    for (let i = 0, has = cursor.first(); i < KEYS; i++, has = cursor.next()) {
      t.true(has);
      const isSame = cursor.refresh() && cursor.value.toString() === valueIn(i, rounds[i]!);
      if (!isSame) t.fail(`round ${round}: the live cursor reads something else at ${i}`);
      const { value } = pastEntries.next();
      if (!(value instanceof Object) || value.value.toString() !== valueIn(i, before[i]!))
        t.fail(`round ${round}: the past state reads something else at ${i}`);
      const changed = random.below(KEYS);
      if (random.below(50) === 0) {
        store.live.beginTransaction();
        for (let j = 0; j < 20; j++) put(store, random.below(KEYS), 'undone');
        store.live.rollbackTransaction();
      }
      put(store, changed, valueIn(changed, round));
      rounds[changed] = round;
      if (random.below(1500) === 0) await checkpoint(store);
    }
  }
  await store.close();
});
