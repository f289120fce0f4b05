/** Cells in pages: boundaries of what fits, and that nothing a page may hold gets past validation and does harm. */
import test from 'ava';
import { CellRun } from '../../src/btree/cell-run.ts';
import { compareBytes, getU16, putU16 } from '../../src/encoding/bytes.ts';
import {
  branchCellCost,
  cellCount,
  cellOffset,
  cellSize,
  childAt,
  childChecksum,
  childLsn,
  childNumber,
  compareKey,
  copyKey,
  gapBytes,
  hasPrefix,
  insertBranchCell,
  insertLeafCell,
  keyLength,
  leafCellCost,
  maxCellPayload,
  overwriteValue,
  pageCapacity,
  prefixLength,
  removeCell,
  SLOT_SIZE,
  searchBranch,
  searchLeaf,
  setChild,
  suffixLength,
  usedBytes,
  validateTreePage,
  valueLength,
  valueStart,
} from '../../src/encoding/cells.ts';
import { KEY_MAX, NAME_MAX, namespaceKey, TREE } from '../../src/encoding/keys.ts';
import {
  initializePage,
  PAGE_COUNT,
  PAGE_DEAD_BYTES,
  PAGE_HEAP_START,
  PAGE_KIND,
  PAGE_KIND_AT,
  PAGE_LEVEL,
  PAGE_PREFIX_LENGTH,
  PAGE_SIZES,
  TEMPORARY_BASE,
} from '../../src/encoding/page.ts';
import { CorruptPageError } from '../../src/errors.ts';
import { seedOf } from '../helpers/random.ts';
import { Random, randomKey } from './helpers.ts';

function emptyLeaf(pageSize = 4096): Buffer {
  const b = Buffer.alloc(pageSize);
  initializePage(b, PAGE_KIND.leaf, 0, TREE.namespace);
  return b;
}

function emptyBranch(pageSize = 4096): Buffer {
  const b = Buffer.alloc(pageSize);
  initializePage(b, PAGE_KIND.branch, 1, TREE.namespace);
  return b;
}

function keyOf(b: Buffer, slot: number): Buffer {
  const key = Buffer.alloc(keyLength(b, slot));
  copyKey(b, slot, key, 0);
  return key;
}

/** Inserts in key order if it fits. */
function insert(b: Buffer, key: Buffer, value: Buffer): boolean {
  if (!hasPrefix(b, key, key.length) || leafCellCost(b, key.length, value.length) > gapBytes(b)) return false;
  const slot = searchLeaf(b, key, key.length);
  if (slot >= 0) return false;
  insertLeafCell(b, ~slot, key, key.length, value, 0, value.length);
  return true;
}

/** Builds a page anew, with the longest prefix. */
function rebuild(b: Buffer): void {
  const run = new CellRun(b.length);
  run.reset(b[PAGE_KIND_AT] === PAGE_KIND.leaf);
  run.addPage(b, 0, cellCount(b));
  run.writeOver(b, 0, run.count);
}

test('names of 1 and of 255 bytes', (t) => {
  const b = emptyLeaf();
  const short = namespaceKey(1, Buffer.from('a'));
  const long = namespaceKey(1, Buffer.alloc(NAME_MAX, 0xff));
  t.true(insert(b, long, Buffer.from('long')));
  t.true(insert(b, short, Buffer.from('short')));
  validateTreePage(b, TREE.namespace);
  t.deepEqual(keyOf(b, 0), short);
  t.deepEqual(keyOf(b, 1), long);
  rebuild(b);
  t.is(prefixLength(b), 8);
  validateTreePage(b, TREE.namespace);
  t.deepEqual(keyOf(b, 1), long);
  t.is(searchLeaf(b, short, short.length), 0);
  t.is(searchLeaf(b, long, long.length), 1);
});

for (const pageSize of PAGE_SIZES) {
  test(`three of the largest cells fit a page of ${pageSize} bytes`, (t) => {
    const payload = maxCellPayload(pageSize);
    const b = emptyLeaf(pageSize);
    for (const first of [1, 2, 3]) {
      const key = Buffer.alloc(KEY_MAX, first);
      t.true(insert(b, key, Buffer.alloc(payload - KEY_MAX, first)));
    }
    validateTreePage(b, TREE.namespace);
    t.true(gapBytes(b) < 4);
    const empty = emptyLeaf(pageSize);
    for (const first of [1, 2, 3])
      t.true(insert(empty, Buffer.alloc(0 + first), Buffer.alloc(payload - first)));
    validateTreePage(empty, TREE.namespace);
  });
}

test('an empty key and keys that differ in trailing zeros only', (t) => {
  const b = emptyLeaf();
  const keys = ['', '\0', '\0\0', '\0\0\0', '\0\0\0\0', '\0\0\0\0\0', 'a', 'a\0', 'a\0\0\0', 'a\0\0\0\0'].map(
    (k) => Buffer.from(k, 'latin1'),
  );
  for (const key of [...keys].reverse()) t.true(insert(b, key, key));
  validateTreePage(b, 0);
  keys.forEach((key, slot) => {
    t.is(searchLeaf(b, key, key.length), slot);
    t.deepEqual(keyOf(b, slot), key);
    t.is(compareKey(b, slot, key, key.length), 0);
  });
  const absent = Buffer.from('a\0\0');
  t.is(searchLeaf(b, absent, absent.length), ~8);
});

test('searching around the prefix', (t) => {
  const b = emptyLeaf();
  for (const name of ['commonA', 'commonB', 'commonC']) insert(b, Buffer.from(name), Buffer.from(name));
  rebuild(b);
  t.is(prefixLength(b), 6);
  const at = (name: string): number => searchLeaf(b, Buffer.from(name), name.length);
  t.is(at('comm'), ~0);
  t.is(at('common'), ~0);
  t.is(at('commom'), ~0);
  t.is(at('commoo'), ~3);
  t.is(at('d'), ~3);
  t.is(at('commonA'), 0);
  t.is(at('commonAA'), ~1);
  t.is(at('commonD'), ~3);
  t.true(compareKey(b, 0, Buffer.from('comm'), 4) > 0);
  t.true(compareKey(b, 2, Buffer.from('d'), 1) < 0);
});

test('removing and overwriting account for every byte', (t) => {
  const b = emptyLeaf();
  for (const name of ['a', 'bb', 'ccc', 'dddd'])
    insert(b, Buffer.from(name), Buffer.from(`value of ${name}`));
  const used = usedBytes(b);
  removeCell(b, 1);
  validateTreePage(b, 0);
  t.is(usedBytes(b), used - SLOT_SIZE - 2 - 2 - 11);
  overwriteValue(b, 0, Buffer.from('v'), 0, 1);
  validateTreePage(b, 0);
  t.is(valueLength(b, 0), 1);
  t.is(b.toString('latin1', valueStart(b, 0), valueStart(b, 0) + 1), 'v');
  removeCell(b, 2);
  removeCell(b, 1);
  removeCell(b, 0);
  t.is(cellCount(b), 0);
  t.is(getU16(b, PAGE_HEAP_START), 4096);
  t.is(getU16(b, PAGE_DEAD_BYTES), 0);
});

test('the first child of a branch has no key, also when it takes over', (t) => {
  const b = emptyBranch();
  insertBranchCell(b, 0, Buffer.alloc(0), 0, 10, 1, 2);
  insertBranchCell(b, 1, Buffer.from('m'), 1, 11, 3, 4);
  insertBranchCell(b, 2, Buffer.from('t'), 1, 12, 5, 0xffffffff);
  validateTreePage(b, TREE.namespace);
  const child = (key: string): number => childNumber(b, searchBranch(b, Buffer.from(key), key.length));
  t.deepEqual(['', 'a', 'm', 'n', 't', 'z'].map(child), [10, 10, 11, 11, 12, 12]);
  removeCell(b, 0);
  validateTreePage(b, TREE.namespace);
  t.deepEqual(['', 'a', 'm', 'n', 't', 'z'].map(child), [11, 11, 11, 11, 12, 12]);
  setChild(b, 1, 2 ** 40 + 1, 2 ** 53 - 1, 0xfffffffe);
  t.is(childNumber(b, 1), 2 ** 40 + 1);
  t.is(childLsn(b, 1), 2 ** 53 - 1);
  t.is(childChecksum(b, 1), 0xfffffffe);
  t.is(branchCellCost(b, 1), SLOT_SIZE + 1 + 18);
});

test('validation names what is wrong', (t) => {
  const good = emptyLeaf();
  for (const name of ['a', 'b', 'c']) insert(good, Buffer.from(name), Buffer.from('value'));
  validateTreePage(good, TREE.namespace);
  const expect = (what: RegExp, damage: (b: Buffer) => void, tree = 0, from = good): void => {
    const b = Buffer.from(from);
    damage(b);
    const error = t.throws(() => validateTreePage(b, tree), { instanceOf: CorruptPageError });
    t.regex(error?.message ?? '', what);
  };
  const slot = (i: number): number => 32 + 8 * i;
  expect(/kind/, (b) => b.fill(0));
  expect(/kind/, (b) => (b[PAGE_KIND_AT] = 3));
  expect(/level of a leaf/, (b) => (b[PAGE_LEVEL] = 1));
  expect(/level of a branch/, (b) => (b[PAGE_KIND_AT] = 2));
  expect(/tree/, () => {}, TREE.inodes);
  expect(/reserved/, (b) => (b[7] = 1));
  expect(/reserved/, (b) => (b[31] = 1));
  expect(/cells/, (b) => putU16(b, PAGE_COUNT, 0));
  expect(/heap start/, (b) => putU16(b, PAGE_COUNT, 600));
  expect(/prefix length/, (b) => putU16(b, PAGE_PREFIX_LENGTH, KEY_MAX + 1));
  expect(/heap start/, (b) => putU16(b, PAGE_HEAP_START, 40));
  expect(/heap start/, (b) => putU16(b, PAGE_HEAP_START, 5000));
  expect(/cell of slot 1/, (b) => putU16(b, slot(1) + 4, 100));
  expect(/cell of slot 1/, (b) => putU16(b, slot(1) + 4, 4095));
  expect(/key length of slot 2/, (b) => putU16(b, slot(2) + 6, 1000));
  expect(/value length of slot 0/, (b) => putU16(b, cellOffset(b, 0) + 1, 5000));
  expect(/value of slot 0/, (b) => putU16(b, cellOffset(b, 0) + 1, 9));
  expect(/head of slot 1/, (b) => (b[slot(1) + 2] = 1));
  expect(/ascending/, (b) => {
    b[slot(1)] = 0x61;
    b[cellOffset(b, 1)] = 0x61;
  });
  expect(/ascending/, (b) => b.copy(b, slot(1), slot(0), slot(0) + 8));
  expect(/dead bytes/, (b) => putU16(b, PAGE_DEAD_BYTES, 1));
  expect(/overlap|dead/, (b) => putU16(b, cellOffset(b, 1) + 1, 7));

  const branch = emptyBranch();
  insertBranchCell(branch, 0, Buffer.alloc(0), 0, 10, 1, 2);
  insertBranchCell(branch, 1, Buffer.from('m'), 1, TEMPORARY_BASE, 0, 0);
  validateTreePage(branch, TREE.namespace, true);
  expect(/child of slot 1/, () => {}, 0, branch);
  expect(/child of slot 0/, (b) => setChild(b, 0, 0, 0, 0), 0, branch);
  setChild(branch, 1, 11, 0, 0);
  validateTreePage(branch, TREE.namespace);
  expect(/child LSN of slot 1/, (b) => b.fill(0xff, childAt(b, 1) + 6, childAt(b, 1) + 14), 0, branch);
  expect(
    /key of the first child/,
    (b) => {
      putU16(b, slot(0) + 6, 1);
      putU16(b, slot(0) + 4, cellOffset(b, 1));
      b[slot(0)] = 0x6d;
    },
    0,
    branch,
  );
});

test('random cells: a page equals a sorted list', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  for (let round = 0; round < 60; round++) {
    const b = emptyLeaf(PAGE_SIZES[round % 3]);
    let list: { key: Buffer; value: Buffer }[] = [];
    for (let i = 0; i < 200; i++) {
      const key = randomKey(random, 40);
      const at = list.findIndex((entry) => entry.key.equals(key));
      if (at >= 0) {
        t.is(searchLeaf(b, key, key.length), at);
        removeCell(b, at);
        list.splice(at, 1);
        continue;
      }
      const value = random.bytes(random.below(30));
      if (insert(b, key, value)) {
        list = [...list, { key, value }].sort((x, y) => compareBytes(x.key, y.key));
      }
      if (i % 20 === 0 && list.length > 0) rebuild(b);
    }
    if (list.length === 0) continue;
    validateTreePage(b, TREE.namespace);
    t.is(cellCount(b), list.length);
    list.forEach(({ key, value }, slot) => {
      t.deepEqual(keyOf(b, slot), key);
      t.deepEqual(b.subarray(valueStart(b, slot), valueStart(b, slot) + valueLength(b, slot)), value);
    });
    t.is(
      usedBytes(b),
      prefixLength(b) + list.reduce((sum, _, slot) => sum + SLOT_SIZE + cellSize(b, slot), 0),
    );
    t.true(usedBytes(b) <= pageCapacity(b.length));
  }
});

test('damaged pages: validation refuses them, or every accessor stays in bounds', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  let accepted = 0;
  for (let round = 0; round < 20_000; round++) {
    const leaf = random.below(2) === 0;
    const b = leaf ? emptyLeaf() : emptyBranch();
    if (!leaf) insertBranchCell(b, 0, Buffer.alloc(0), 0, 1 + random.below(1000), 5, 6);
    const keys = new Map<string, Buffer>();
    for (let i = random.below(12); i >= 0; i--) {
      const key = Buffer.from(`key-${random.below(1000)}`);
      keys.set(key.toString(), key);
    }
    for (const key of [...keys.values()].sort(compareBytes)) {
      if (leaf) insertLeafCell(b, cellCount(b), key, key.length, key, 0, random.below(key.length + 1));
      else insertBranchCell(b, cellCount(b), key, key.length, 1 + random.below(1000), 7, 8);
    }
    if (random.below(2) === 0) rebuild(b);
    const end = 32 + prefixLength(b) + 8 * cellCount(b);
    const heap = getU16(b, PAGE_HEAP_START);
    for (let i = random.below(4); i >= 0; i--) {
      // Where it hurts: header, slots, and the heap.
      const at = random.below(3) === 0 ? heap + random.below(4096 - heap) : 4 + random.below(end - 4);
      if (random.below(2) === 0) b[at] = random.below(256);
      else b[at] = b[at]! ^ (1 << random.below(8));
    }
    try {
      validateTreePage(b, 0);
    } catch (error) {
      if (!(error instanceof CorruptPageError)) throw error;
      continue;
    }
    accepted++;
    const isLeafPage = b[PAGE_KIND_AT] === PAGE_KIND.leaf;
    const probe = randomKey(random, 10);
    for (let slot = 0; slot < cellCount(b); slot++) {
      if (keyLength(b, slot) > KEY_MAX || cellOffset(b, slot) + cellSize(b, slot) > b.length)
        t.fail('a cell');
      if (cellOffset(b, slot) + suffixLength(b, slot) > b.length) t.fail('a key');
      if (isLeafPage && valueStart(b, slot) + valueLength(b, slot) > b.length) t.fail('a value');
      if (!isLeafPage && (childNumber(b, slot) === 0 || !Number.isSafeInteger(childLsn(b, slot))))
        t.fail('a child');
      const key = keyOf(b, slot);
      if (isLeafPage && searchLeaf(b, key, key.length) !== slot) t.fail('a key is not found');
      if (!isLeafPage && slot > 0 && searchBranch(b, key, key.length) !== slot)
        t.fail('a child is not found');
    }
    const found = isLeafPage ? searchLeaf(b, probe, probe.length) : searchBranch(b, probe, probe.length);
    if (found >= cellCount(b) || ~found > cellCount(b)) t.fail('a search leaves the page');
    rebuild(b);
    validateTreePage(b, 0);
    while (cellCount(b) > 1) {
      removeCell(b, random.below(cellCount(b)));
      validateTreePage(b, 0);
    }
  }
  t.log(`${accepted} of 20000 damaged pages were sound all the same`);
  t.true(accepted > 0);
});
