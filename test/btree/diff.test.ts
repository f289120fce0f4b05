/** The structural diff against a comparison of full listings, and what it reads. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import { type Difference, type DiffRange, diffTrees } from '../../src/btree/diff.ts';
import { compareBytes } from '../../src/encoding/bytes.ts';
import { namespaceKey, TREE } from '../../src/encoding/keys.ts';
import { NO_PAGE, PAGE_SIZES, type PageRef } from '../../src/encoding/page.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';
import { seedOf } from '../helpers/random.ts';
import { Model, Random, randomKey } from './helpers.ts';

function expectedDifferences(before: Model, after: Model, range: DiffRange): Difference[] {
  const keys = new Map<string, Buffer>();
  for (const { key } of [...before.entries(), ...after.entries()]) keys.set(key.toString('latin1'), key);
  const result: Difference[] = [];
  for (const key of [...keys.values()].sort(compareBytes)) {
    if (range.gte !== undefined && compareBytes(key, range.gte) < 0) continue;
    if (range.lt !== undefined && compareBytes(key, range.lt) >= 0) continue;
    const old = before.get(key);
    const now = after.get(key);
    if (old === undefined) result.push({ key, after: now! });
    else if (now === undefined) result.push({ key, before: old });
    else if (!old.equals(now)) result.push({ key, before: old, after: now });
  }
  return result;
}

for (const pageSize of PAGE_SIZES) {
  test(`the diff of random states with pages of ${pageSize} bytes equals that of their listings`, (t) => {
    const random = new Random(seedOf(t, 'tree'));
    const space = new MemoryPageSpace(pageSize);
    const tree = new BTree(space, TREE.namespace, NO_PAGE, 0);
    const model = new Model();
    const kept: { root: Readonly<PageRef>; model: Model }[] = [{ root: NO_PAGE, model: new Model() }];
    for (let round = 0; round < 14; round++) {
      const puts = [1, 0.5, 0][random.below(3)]!;
      for (let i = [10, 400, 1500][random.below(3)]!; i > 0; i--) {
        const key = random.below(3) === 0 ? Buffer.from(`run${round}-${i}`) : randomKey(random, 1000);
        if (random.next() < puts) {
          const value = random.bytes(random.below(50));
          tree.put(key, value);
          model.put(key, value);
        } else {
          const victims = model.entries();
          for (let j = random.below(Math.min(20, victims.length)); j > 0; j--) {
            const victim = victims[random.below(victims.length)]!.key;
            tree.delete(victim);
            model.delete(victim);
          }
          i -= 20;
        }
      }
      space.seal();
      if (random.below(2) === 0 && tree.root.number !== 0) {
        // Only clean states are compared across spaces; states without a place within their own.
        const sealed = tree.root.number;
        tree.root = space.persist(tree.root, round + 1);
        for (const one of kept) if (one.root.number === sealed) one.root = tree.root;
      }
      kept.push({ root: tree.root, model: model.copy() });
    }
    const clean = kept.filter(({ root }) => root.number < 2 ** 47);
    const other = new MemoryPageSpace(pageSize, space);
    for (let i = 0; i < 60; i++) {
      const sameSpace = random.below(2) === 0;
      const from = sameSpace ? kept : clean;
      const a = from[random.below(from.length)]!;
      const b = from[random.below(from.length)]!;
      const range: DiffRange = {};
      if (random.below(3) === 0) range.gte = randomKey(random, 1000);
      if (random.below(3) === 0) range.lt = randomKey(random, 1000);
      const found = [
        ...diffTrees(
          { space, root: a.root },
          { space: sameSpace ? space : other, root: b.root },
          TREE.namespace,
          range,
        ),
      ];
      t.deepEqual(found, expectedDifferences(a.model, b.model, range));
    }
    space.verify();
  });
}

/** Pages that a diff reads from the disk, both sides together. */
function readsOf(
  space: MemoryPageSpace,
  before: Readonly<PageRef>,
  after: Readonly<PageRef>,
): [number, number] {
  const a = new MemoryPageSpace(space.pageSize, space);
  const b = new MemoryPageSpace(space.pageSize, space);
  const differences = [...diffTrees({ space: a, root: before }, { space: b, root: after }, TREE.namespace)]
    .length;
  return [differences, a.reads + b.reads];
}

test('a diff reads what changed, not what is there', (t) => {
  const name = (i: number): Buffer => namespaceKey(1, Buffer.from(`file-${String(i).padStart(6, '0')}`));
  const space = new MemoryPageSpace();
  const tree = new BTree(space, TREE.namespace, NO_PAGE, 0);
  for (let i = 0; i < 40_000; i += 2) tree.put(name(i), Buffer.alloc(60, 1));
  space.seal();
  tree.root = space.persist(tree.root, 1);
  const first = tree.root;
  t.true(tree.pageCount > 300);
  t.deepEqual(readsOf(space, first, first), [0, 0]);

  const after = (lsn: number, change: () => void): Readonly<PageRef> => {
    change();
    space.seal();
    tree.root = space.persist(tree.root, lsn);
    return tree.root;
  };
  const one = after(2, () => tree.put(name(20_000), Buffer.alloc(60, 2)));
  t.deepEqual(readsOf(space, first, one), [1, 6]);

  // A split at the left edge shifts every boundary behind it by one.
  const split = after(3, () => {
    for (let i = 1; i < 60; i += 2) tree.put(name(i), Buffer.alloc(60, 3));
  });
  const [splitDifferences, splitReads] = readsOf(space, one, split);
  t.is(splitDifferences, 30);
  t.true(splitReads <= 14, `${splitReads} reads`);

  // Merges: a range of 2,000 keys goes, about 40 leaves of each side's 400 are concerned.
  const merged = after(4, () => {
    for (let i = 10_000; i < 14_000; i += 2) tree.delete(name(i));
  });
  const [mergedDifferences, mergedReads] = readsOf(space, split, merged);
  t.is(mergedDifferences, 2000);
  t.true(mergedReads <= 60, `${mergedReads} reads`);

  // The tree becomes higher or lower: what stays is still found.
  const small = after(5, () => {
    for (let i = 100; i < 40_000; i++) tree.delete(name(i));
  });
  const [smallDifferences, smallReads] = readsOf(
    space,
    small,
    after(6, () => tree.put(name(99_999), Buffer.alloc(9))),
  );
  t.is(smallDifferences, 1);
  t.true(smallReads <= 6, `${smallReads} reads`);
  const [, emptyReads] = readsOf(space, NO_PAGE, small);
  t.true(emptyReads <= 6);
});
