/**
 * While a checkpoint points copied pages to the places of what it has written, the live line goes on: splits, merges, cut
 * extents, snapshots and rollbacks between any two of its steps. Every state must read as it was.
 */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { isTemporary } from '../../src/encoding/page.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import type { StateReader } from '../../src/store/state.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';

const PAGE_SIZE = 4096;
const KEYS = 3000;
const INODES = 40;
const BLOCKS = 40;
const ROUNDS = 6;

/** What a state holds: values by key, and a byte for each block of each file. */
type Model = Map<string, string>;

function keyOf(number: number): Buffer {
  return Buffer.from(`\0\0\0\0\0\0\0\x01key-${number.toString().padStart(6, '0')}`, 'latin1');
}

function contentOf(state: StateReader): Model {
  const content: Model = new Map();
  for (const { key, value } of state.namespace.entries())
    content.set(key.toString('latin1'), value.toString());
  const bytes = Buffer.alloc(BLOCKS * PAGE_SIZE);
  for (let inode = 1; inode <= INODES; inode++) {
    state.readData(inode, 0, bytes, 0, bytes.length);
    for (let block = 0; block < BLOCKS; block++) {
      const value = bytes[block * PAGE_SIZE + (block % PAGE_SIZE)]!;
      if (value !== 0) content.set(`${inode}/${block}`, String(value));
    }
  }
  return content;
}

/** The first few differences. */
function differences(state: StateReader, model: Model): string[] {
  const content = contentOf(state);
  const keys = [...new Set([...content.keys(), ...model.keys()])];
  return keys
    .filter((key) => content.get(key) !== model.get(key))
    .slice(0, 3)
    .map((key) => `${key}: ${content.get(key)}, expected ${model.get(key)}`);
}

test('the live line changes between the steps of a checkpoint that redirects its pages', async (t) => {
  const random = new Random(seedOf(t, 'redirect'));
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  const store = Store.open(directory, {
    background: 'caller',
    settings: { checkpointIntervalMs: 3_600_000 },
  });
  const model: Model = new Map();
  const states: { lsn: number; model: Model }[] = [];
  const { live } = store;

  const change = (changed: Model): void => {
    live.begin();
    const what = random.below(12);
    const inode = 1 + random.below(INODES);
    const first = random.below(BLOCKS);
    const count = 1 + random.below(Math.min(12, BLOCKS - first));
    if (what < 4) {
      const key = keyOf(random.below(KEYS));
      const value = `${random.below(1e9)} ${'-'.repeat(random.below(300))}`;
      live.put(TREE.namespace, key, Buffer.from(value));
      changed.set(key.toString('latin1'), value);
    } else if (what < 7) {
      // A run of deletions, so that pages merge.
      const start = random.below(KEYS);
      for (let i = start; i < start + 25; i++) {
        live.delete(TREE.namespace, keyOf(i));
        changed.delete(keyOf(i).toString('latin1'));
      }
    } else if (what < 10) {
      const value = 1 + random.below(255);
      const bytes = Buffer.alloc(count * PAGE_SIZE, value);
      live.writeData(inode, first * PAGE_SIZE, bytes, 0, bytes.length);
      for (let block = first; block < first + count; block++) changed.set(`${inode}/${block}`, String(value));
    } else {
      live.unmapData(inode, first, count);
      for (let block = first; block < first + count; block++) changed.delete(`${inode}/${block}`);
    }
    live.commit();
  };

  const transaction = (): void => {
    live.beginTransaction();
    const copy: Model = new Map(model);
    for (let i = random.below(6); i >= 0; i--) change(copy);
    if (random.below(2) === 0) {
      live.rollbackTransaction();
      return;
    }
    live.commitTransaction();
    model.clear();
    for (const [key, value] of copy) model.set(key, value);
  };

  for (let i = 0; i < KEYS; i++) {
    if (i % 50 === 0) live.begin();
    live.put(TREE.namespace, keyOf(i), Buffer.from('x'.repeat(100)));
    model.set(keyOf(i).toString('latin1'), 'x'.repeat(100));
    if (i % 50 === 49) live.commit();
  }
  for (let round = 0; round < ROUNDS; round++) {
    for (let i = 0; i < 300; i++) change(model);
    store.requestCheckpoint();
    let steps = 0;
    for (let state = store.backgroundStep(0); state !== 'idle'; state = store.backgroundStep(0)) {
      for (let i = random.below(4); i > 0; i--) change(model);
      if (random.below(10) === 0) transaction();
      if (random.below(25) === 0) await store.createSnapshot(`s-${round}-${steps}`, '');
      if (random.below(8) === 0) states.push({ lsn: live.lsn, model: new Map(model) });
      if (random.below(12) === 0) t.deepEqual(differences(live, model), [], `round ${round}, step ${steps}`);
      if (state === 'wait') await store.commit();
      if (steps > 150) break;
      steps++;
    }
    await store.checkpoint();
    t.deepEqual(differences(live, model), [], `round ${round}`);
    t.deepEqual(checkStore(store).problems, []);
    t.true(live.trees().every(({ root }) => !isTemporary(root.number)));
    t.is(live.pages.dirtyCount, 0, 'nothing that was written is left in memory');
  }
  await store.commit();
  for (const { lsn, model: expected } of states) {
    if (random.below(3) === 0)
      t.deepEqual(differences(store.openState(lsn), expected), [], `state at ${lsn}`);
  }
  await store.close();
});
