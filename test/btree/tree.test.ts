/** What a tree promises beyond being a map: how full pages are, limits, and what an error leaves behind. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import { checkTree } from '../../src/btree/check.ts';
import { maxCellPayload, pageCapacity, validateTreePage } from '../../src/encoding/cells.ts';
import { extentKey, inodeKey, KEY_MAX, namespaceKey, TREE } from '../../src/encoding/keys.ts';
import { NO_PAGE, PAGE_SIZES } from '../../src/encoding/page.ts';
import { CorruptPageError, LsnfsError } from '../../src/errors.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';
import { reachable } from './helpers.ts';

function newTree(pageSize = 4096): { space: MemoryPageSpace; tree: BTree } {
  const space = new MemoryPageSpace(pageSize);
  return { space, tree: new BTree(space, TREE.namespace, NO_PAGE, 0) };
}

function name(directory: number, i: number): Buffer {
  return namespaceKey(directory, Buffer.from(`file-${String(i).padStart(6, '0')}`));
}

/** How full the leaves are, once the tree was found sound. */
function fill(tree: BTree): number {
  const result = checkTree(tree.space, tree.root, tree.treeId);
  if (result.problems.length > 0) throw new Error(result.problems[0]!.message);
  return result.leafBytes / result.leafCapacity;
}

test('an empty tree', (t) => {
  const { tree } = newTree();
  t.is(tree.get(Buffer.from('a')), undefined);
  t.false(tree.find(Buffer.from('a')));
  t.false(tree.findForUpdate(Buffer.from('a')));
  t.false(tree.delete(Buffer.from('a')));
  const cursor = tree.cursor();
  t.false(cursor.first());
  t.false(cursor.last());
  t.false(cursor.seek(Buffer.from('a')));
  t.false(cursor.next());
  t.deepEqual([...tree.entries()], []);
});

test('what is too large is refused and changes nothing', (t) => {
  for (const pageSize of PAGE_SIZES) {
    const { tree } = newTree(pageSize);
    const payload = maxCellPayload(pageSize);
    const key = Buffer.alloc(KEY_MAX, 1);
    t.throws(() => tree.put(Buffer.alloc(KEY_MAX + 1), Buffer.alloc(0)), {
      instanceOf: LsnfsError,
      code: 'INVALID_INPUT',
    });
    t.throws(() => tree.put(key, Buffer.alloc(payload - KEY_MAX + 1)), { code: 'INVALID_INPUT' });
    t.is(tree.root.number, 0);
    t.true(tree.put(key, Buffer.alloc(payload - KEY_MAX)));
    t.true(tree.put(Buffer.alloc(0), Buffer.alloc(payload)));
    t.is(tree.get(Buffer.alloc(0))?.length, payload);
  }
});

test('sorted loads fill pages to the brim, upwards and downwards', (t) => {
  const value = Buffer.alloc(100, 1);
  const up = newTree().tree;
  for (let i = 0; i < 5000; i++) up.put(name(7, i), value);
  t.true(fill(up) > 0.95, `ascending: ${fill(up)}`);
  const down = newTree().tree;
  for (let i = 5000; i > 0; i--) down.put(name(7, i), value);
  t.true(fill(down) > 0.9, `descending: ${fill(down)}`);
});

test('directories filled in turn, in any order, fill their pages too', (t) => {
  const { tree, space } = newTree();
  const value = Buffer.alloc(60, 1);
  for (let d = 0; d < 60; d++) {
    const directory = (d * 37) % 60;
    for (let i = 0; i < 300; i++) tree.put(name(directory, i), value);
  }
  t.true(fill(tree) > 0.85, `one after the other: ${fill(tree)}`);
  t.is(reachable(space, tree.root).size, tree.pageCount);

  const interleaved = newTree().tree;
  for (let i = 0; i < 1000; i++)
    for (let file = 1; file <= 12; file++) interleaved.put(extentKey(file, i), value);
  t.true(fill(interleaved) > 0.8, `files that grow at the same time: ${fill(interleaved)}`);
});

test('random loads leave pages two thirds full', (t) => {
  const { tree } = newTree();
  const value = Buffer.alloc(60, 1);
  for (let i = 0; i < 10_000; i++) tree.put(name(1, (i * 7919) % 10_007), value);
  t.true(fill(tree) > 0.6, `${fill(tree)}`);
});

test('deleting most of a tree gives its pages back', (t) => {
  const { tree, space } = newTree();
  const value = Buffer.alloc(60, 1);
  for (let i = 0; i < 10_000; i++) tree.put(name(1, i), value);
  const full = tree.pageCount;
  for (let i = 0; i < 10_000; i++) if (i % 20 !== 0) t.true(tree.delete(name(1, i)));
  t.true(tree.pageCount < full / 8, `${tree.pageCount} of ${full}`);
  t.is(reachable(space, tree.root).size, tree.pageCount);
  t.is(space.liveCount, tree.pageCount);
  for (let i = 0; i < 10_000; i += 20) t.true(tree.delete(name(1, i)));
  t.is(tree.pageCount, 0);
  t.is(tree.root.number, 0);
  t.is(space.liveCount, 0);
});

test('deleting from the front and from the back', (t) => {
  for (const order of [(i: number) => i, (i: number) => 2999 - i]) {
    const { tree, space } = newTree();
    for (let i = 0; i < 3000; i++) tree.put(name(1, i), Buffer.alloc(100));
    for (let i = 0; i < 3000; i++) {
      t.true(tree.delete(name(1, order(i))));
      if (i % 500 === 0) t.is(reachable(space, tree.root).size, tree.pageCount);
    }
    t.is(tree.pageCount, 0);
  }
});

test('a value may come from the tree itself', (t) => {
  const { tree, space } = newTree();
  const value = Buffer.from('x'.repeat(500));
  tree.put(inodeKey(0), value);
  for (let i = 1; i < 200; i++) tree.put(inodeKey(i), tree.get(inodeKey(i - 1))!);
  space.seal();
  for (let i = 199; i > 100; i--) tree.put(inodeKey(i), tree.get(inodeKey(i - 100))!.subarray(1));
  for (let i = 1; i <= 100; i++) t.deepEqual(Buffer.from(tree.get(inodeKey(i))!), value);
  for (let i = 101; i < 200; i++) t.deepEqual(Buffer.from(tree.get(inodeKey(i))!), value.subarray(1));
  space.verify();
});

test('values grow, shrink and change in place', (t) => {
  const { tree, space } = newTree();
  for (let i = 0; i < 300; i++) tree.put(name(1, i), Buffer.alloc(10, i));
  for (let size = 0; size < 1000; size += 37) {
    for (let i = 0; i < 300; i += 7) t.false(tree.put(name(1, i), Buffer.alloc(size, i)));
    for (let i = 0; i < 300; i++) {
      t.deepEqual(Buffer.from(tree.get(name(1, i))!), Buffer.alloc(i % 7 === 0 ? size : 10, i));
    }
  }
  for (let i = 0; i < 300; i += 7) tree.put(name(1, i), Buffer.alloc(3, i));
  for (let i = 0; i < 300; i += 7) t.deepEqual(Buffer.from(tree.get(name(1, i))!), Buffer.alloc(3, i));
  t.true(tree.findForUpdate(name(1, 8)));
  t.is(tree.valueLength, 10);
  tree.page.bytes.fill(0xee, tree.valueStart, tree.valueStart + tree.valueLength);
  t.deepEqual(Buffer.from(tree.get(name(1, 8))!), Buffer.alloc(10, 0xee));
  for (const number of reachable(space, tree.root)) validateTreePage(space.pages.get(number)!.bytes, 0, true);
});

test('part of a buffer as value', (t) => {
  const { tree } = newTree();
  tree.put(Buffer.from('k'), Buffer.from('0123456789'), 3, 4);
  t.is(Buffer.from(tree.get(Buffer.from('k'))!).toString(), '3456');
});

test('a burst of changes copies a page once, and a sealed root stays as it was', (t) => {
  const { tree, space } = newTree();
  for (let i = 0; i < 2000; i++) tree.put(name(1, i), Buffer.alloc(50));
  space.seal();
  const sealed = tree.root;
  const height = checkTree(space, sealed, tree.treeId).height;
  for (let i = 0; i < 100; i++) tree.put(name(1, 1000), Buffer.alloc(50, i));
  t.is(space.superseded, height);
  t.not(tree.root.number, sealed.number);
  const old = new BTree(space, TREE.namespace, sealed, 0);
  t.deepEqual(Buffer.from(old.get(name(1, 1000))!), Buffer.alloc(50));
  t.deepEqual(Buffer.from(tree.get(name(1, 1000))!), Buffer.alloc(50, 99));
  space.verify();
});

test('a page that cannot be read: an error, and the tree is as it was', (t) => {
  const { tree, space } = newTree();
  for (let i = 0; i < 3000; i++) tree.put(name(1, i), Buffer.alloc(60, 1));
  space.seal();
  const root = space.persist(tree.root, 77);
  tree.root = root;
  const before = [...tree.entries()].length;
  space.evict();
  tree.root = root;
  space.failReads = true;
  t.throws(() => tree.find(name(1, 5)), { instanceOf: CorruptPageError });
  t.throws(() => tree.put(name(1, 5), Buffer.alloc(1)), { instanceOf: CorruptPageError });
  t.throws(() => tree.delete(name(1, 5)), { instanceOf: CorruptPageError });
  t.throws(() => tree.cursor().first(), { instanceOf: CorruptPageError });
  t.deepEqual(tree.root, root);
  t.is(space.superseded, 0);

  // One leaf is lost, and with it its neighbours' merges; every other key stays within reach.
  space.failReads = false;
  t.true(tree.find(name(1, 1500)));
  const lost = tree.page.number;
  space.evict();
  tree.root = root;
  const stored = space.disk.get(lost)!;
  stored[100] = stored[100]! ^ 1;
  const count = tree.pageCount;
  let deleted = 0;
  let refused = 0;
  for (let i = 0; i < 3000; i++) {
    const { changes } = tree;
    try {
      if (tree.delete(name(1, i))) deleted++;
    } catch (error) {
      if (!(error instanceof CorruptPageError)) throw error;
      t.is(tree.changes, changes);
      refused++;
    }
  }
  t.is(deleted + refused, before);
  t.true(refused > 0 && refused < 120, `${refused}`);
  t.true(tree.pageCount < count && tree.pageCount > 0);
});

test('what a page takes is told exactly', (t) => {
  for (const pageSize of PAGE_SIZES) t.true(3 * (maxCellPayload(pageSize) + 10) <= pageCapacity(pageSize));
});
