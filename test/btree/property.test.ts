/** Random operations against a sorted map, with seals and checkpoints in between. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import { maxCellPayload } from '../../src/encoding/cells.ts';
import { TREE } from '../../src/encoding/keys.ts';
import { NO_PAGE, PAGE_SIZES, type PageRef } from '../../src/encoding/page.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';
import { seedOf } from '../helpers/random.ts';
import { equalEntries, Model, Random, randomKey, reachable } from './helpers.ts';

interface Kept {
  root: Readonly<PageRef>;
  model: Model;
}

for (const pageSize of PAGE_SIZES) {
  test(`a tree of pages of ${pageSize} bytes equals its model, and so does every sealed root`, (t) => {
    const random = new Random(seedOf(t, 'tree'));
    const space = new MemoryPageSpace(pageSize);
    const tree = new BTree(space, TREE.namespace, NO_PAGE, 0);
    let model = new Model();
    let kept: Kept[] = [];
    let lsn = 0;
    const payload = maxCellPayload(pageSize);
    const randomValue = (key: Buffer): Buffer => {
      const length = random.below(20) === 0 ? random.below(payload - key.length + 1) : random.below(60);
      return random.bytes(length);
    };
    const expectSame = (): void => {
      t.true(equalEntries([...tree.entries()], model.entries()), 'the tree differs from its model');
      t.is(reachable(space, tree.root).size, tree.pageCount);
      t.is(space.liveCount, tree.pageCount);
      space.verify();
    };

    for (let round = 0; round < 60; round++) {
      // Rounds grow, shrink, or overwrite, so that splits and merges both happen at all sizes.
      const puts = [0.9, 0.5, 0.15][random.below(3)]!;
      const spread = [30, 300, 3000][random.below(3)]!;
      const ascending = random.below(4) === 0;
      let next = random.below(1000);
      for (let i = 0; i < 400; i++) {
        const key = ascending ? Buffer.from(`run${next++}`) : randomKey(random, spread);
        if (random.next() < puts) {
          const value = randomValue(key);
          if (tree.put(key, value) !== model.put(key, value))
            t.fail('put says otherwise whether a key is new');
        } else if (random.below(4) > 0) {
          if (tree.delete(key) !== model.delete(key)) t.fail('delete says otherwise whether a key was there');
        } else {
          const expected = model.get(key);
          if (tree.findForUpdate(key) !== (expected !== undefined)) t.fail('findForUpdate is wrong');
          if (expected !== undefined && expected.length > 0) {
            const at = random.below(expected.length);
            const changed = Buffer.from(expected);
            changed[at] = random.below(256);
            tree.page.bytes[tree.valueStart + at] = changed[at];
            model.put(key, changed);
          }
        }
        const probe = randomKey(random, spread);
        const found = tree.get(probe);
        const expected = model.get(probe);
        if (
          found === undefined ? expected !== undefined : expected === undefined || !expected.equals(found)
        ) {
          t.fail('get differs from the model');
        }
      }
      if (round % 5 === 0) expectSame();
      if (random.below(3) === 0) {
        space.seal();
        kept.push({ root: tree.root, model: model.copy() });
      }
      if (random.below(5) === 0 && kept.length > 0) {
        // A checkpoint of the newest sealed root; older ones that share its pages move along.
        const newest = kept[kept.length - 1]!;
        const root = space.persist(newest.root, ++lsn);
        if (tree.root.number === newest.root.number) tree.root = root;
        kept = kept.filter((one) => one.root.number === newest.root.number || one.root.number < 2 ** 47);
        for (const one of kept) if (one.root.number === newest.root.number) one.root = root;
        space.evict();
      }
      if (round === 40) {
        for (const { key } of model.entries()) t.true(tree.delete(key));
        model = new Model();
        t.is(tree.root.number, 0);
        t.is(tree.pageCount, 0);
      }
    }
    expectSame();
    for (const { root, model: expected } of kept) {
      const old = new BTree(space, TREE.namespace, root, 0);
      t.true(equalEntries([...old.entries()], expected.entries()), 'a sealed root changed');
      t.true(equalEntries([...old.entries({ reverse: true })], expected.entries().reverse()));
    }
  });
}
