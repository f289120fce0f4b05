/** Cursors: both directions, ranges, and a tree that changes below them. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import { compareBytes } from '../../src/encoding/bytes.ts';
import { namespaceKey, TREE } from '../../src/encoding/keys.ts';
import { NO_PAGE } from '../../src/encoding/page.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';
import { seedOf } from '../helpers/random.ts';
import { equalEntries, Model, Random, randomKey } from './helpers.ts';

function filled(random: Random, count: number): { tree: BTree; model: Model; space: MemoryPageSpace } {
  const space = new MemoryPageSpace();
  const tree = new BTree(space, TREE.namespace, NO_PAGE, 0);
  const model = new Model();
  for (let i = 0; i < count; i++) {
    const key = randomKey(random, 3000);
    const value = random.bytes(random.below(40));
    tree.put(key, value);
    model.put(key, value);
  }
  return { tree, model, space };
}

test('seek, seekBefore, next and previous against a sorted list', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  const { tree, model } = filled(random, 3000);
  const list = model.entries();
  const cursor = tree.cursor();
  const expectAt = (index: number, ok: boolean): void => {
    const entry = list[index];
    if (entry === undefined) {
      if (ok || cursor.valid) t.fail('the cursor stands on an entry where none is');
      return;
    }
    if (!ok || !cursor.valid || !cursor.key.equals(entry.key) || !cursor.value.equals(entry.value)) {
      t.fail(`the cursor is not at ${index}`);
    }
    if (cursor.keyLength !== entry.key.length || cursor.compare(entry.key) !== 0) t.fail('its key differs');
    if (!cursor.startsWith(entry.key.subarray(0, random.below(entry.key.length + 1)))) t.fail('startsWith');
    const copy = Buffer.alloc(entry.key.length + 3);
    if (cursor.copyKey(copy, 3) !== entry.key.length || !copy.subarray(3).equals(entry.key))
      t.fail('copyKey');
  };
  for (let round = 0; round < 2000; round++) {
    const key = random.below(2) === 0 ? list[random.below(list.length)]!.key : randomKey(random, 3000);
    const first = list.findIndex((entry) => compareBytes(entry.key, key) >= 0);
    let at = first < 0 ? list.length : first;
    if (random.below(2) === 0) {
      expectAt(at, cursor.seek(key));
    } else {
      at--;
      expectAt(at, cursor.seekBefore(key));
    }
    for (let steps = random.below(60); steps > 0 && at >= 0 && at < list.length; steps--) {
      const forward = random.below(3) > 0 === round % 2 > 0;
      at += forward ? 1 : -1;
      expectAt(at, forward ? cursor.next() : cursor.previous());
    }
  }
  expectAt(0, cursor.first());
  expectAt(-1, cursor.previous());
  expectAt(-1, cursor.next());
  expectAt(list.length - 1, cursor.last());
  expectAt(list.length, cursor.next());
  t.pass();
});

test('ranges', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  const { tree, model } = filled(random, 1500);
  const list = model.entries();
  for (let round = 0; round < 200; round++) {
    const pick = (): Buffer =>
      random.below(2) === 0 ? list[random.below(list.length)]!.key : randomKey(random, 3000);
    const lowKey = pick();
    const highKey = pick();
    const low = [{}, { gt: lowKey }, { gte: lowKey }][random.below(3)]!;
    const high = [{}, { lt: highKey }, { lte: highKey }][random.below(3)]!;
    const reverse = random.below(2) === 0;
    const expected = list.filter(
      ({ key }) =>
        (!('gt' in low) || compareBytes(key, lowKey) > 0) &&
        (!('gte' in low) || compareBytes(key, lowKey) >= 0) &&
        (!('lt' in high) || compareBytes(key, highKey) < 0) &&
        (!('lte' in high) || compareBytes(key, highKey) <= 0),
    );
    if (reverse) expected.reverse();
    t.true(equalEntries([...tree.entries({ ...low, ...high, reverse })], expected));
  }
});

test('a cursor goes on from its key whatever happens to the tree', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  for (let round = 0; round < 20; round++) {
    const { tree, model, space } = filled(random, 500);
    const forward = round % 2 === 0;
    const cursor = tree.cursor();
    let ok = forward ? cursor.first() : cursor.last();
    let lsn = 1;
    while (ok) {
      const at = cursor.key;
      for (let i = random.below(4); i > 0; i--) {
        const key =
          random.below(3) === 0
            ? Buffer.concat([at, Buffer.from([random.below(3)])])
            : randomKey(random, 3000);
        if (random.below(3) > 0) {
          tree.delete(key);
          model.delete(key);
        } else if (model.size < 3000) {
          const value = random.bytes(20);
          tree.put(key, value);
          model.put(key, value);
        }
      }
      if (random.below(3) === 0) {
        tree.delete(at);
        model.delete(at);
      }
      if (random.below(50) === 0) {
        space.seal();
        if (random.below(2) === 0 && tree.root.number !== 0) {
          tree.root = space.persist(tree.root, ++lsn);
          space.evict();
        }
      }
      const present = model.get(at);
      t.is(cursor.refresh(), present !== undefined);
      if (present !== undefined) t.deepEqual(cursor.value, present);
      t.deepEqual(cursor.key, at);
      const rest = model
        .entries()
        .filter(({ key }) => compareBytes(key, at) > 0 === forward && !key.equals(at));
      const expected = forward ? rest[0] : rest[rest.length - 1];
      ok = forward ? cursor.next() : cursor.previous();
      t.is(ok, expected !== undefined);
      if (expected !== undefined) {
        t.deepEqual(cursor.key, expected.key);
        t.deepEqual(cursor.value, expected.value);
        // Skip ahead, so that the rounds end.
        if (random.below(4) > 0) {
          for (let i = random.below(40); i > 0 && ok; i--) ok = forward ? cursor.next() : cursor.previous();
        }
      }
    }
    space.verify();
  }
});

test('listing a directory while it is filled and emptied', (t) => {
  const tree = new BTree(new MemoryPageSpace(), TREE.namespace, NO_PAGE, 0);
  const name = (i: number): Buffer => namespaceKey(5, Buffer.from(`f${String(i).padStart(5, '0')}`));
  for (let i = 0; i < 2000; i++) tree.put(name(i), Buffer.alloc(30));
  const cursor = tree.cursor();
  const seen: string[] = [];
  // What `rm -r` does: read some names, remove them, read on.
  for (let ok = cursor.first(); ok; ok = cursor.next()) {
    seen.push(cursor.key.toString('latin1'));
    if (seen.length % 100 === 0)
      for (const key of seen.slice(-100)) t.true(tree.delete(Buffer.from(key, 'latin1')));
  }
  t.is(seen.length, 2000);
  t.is(tree.pageCount, 0);
});
