/** The check finds planted damage, and trees made by a hostile hand cause errors, never a hang or worse. */
import test from 'ava';
import { BTree } from '../../src/btree/btree.ts';
import { checkTree, type TreeProblem } from '../../src/btree/check.ts';
import { diffTrees } from '../../src/btree/diff.ts';
import { dumpPage, dumpTree } from '../../src/btree/dump.ts';
import { putU16, putU32 } from '../../src/encoding/bytes.ts';
import {
  CHILD_SIZE,
  cellCount,
  cellOffset,
  childAt,
  childChecksum,
  childLsn,
  childNumber,
  isLeaf,
  setChild,
  suffixLength,
  validateTreePage,
  valueStart,
} from '../../src/encoding/cells.ts';
import { namespaceKey, TREE } from '../../src/encoding/keys.ts';
import { NO_PAGE, PAGE_LEVEL, PAGE_TREE, type PageRef, sealPage } from '../../src/encoding/page.ts';
import { CorruptPageError } from '../../src/errors.ts';
import { MemoryPageSpace } from '../helpers/memory-page-space.ts';
import { seedOf } from '../helpers/random.ts';
import { Random } from './helpers.ts';

const COUNT = 4000;

function name(i: number): Buffer {
  return namespaceKey(1, Buffer.from(`file-${String(i).padStart(6, '0')}`));
}

/** A tree of three levels on "disk". */
function stored(valueBytes = 40): { space: MemoryPageSpace; root: PageRef; pageCount: number } {
  const space = new MemoryPageSpace();
  const tree = new BTree(space, TREE.namespace, NO_PAGE, 0);
  for (let i = 0; i < COUNT; i++) tree.put(name(i), Buffer.alloc(valueBytes, i));
  space.seal();
  const root = space.persist(tree.root, 9);
  space.evict();
  return { space, root, pageCount: tree.pageCount };
}

/** Rewrites pages from the leaves up with right checksums, as `change` leaves them; returns the new root. */
function reseal(
  space: MemoryPageSpace,
  ref: Readonly<PageRef>,
  change: (b: Buffer, number: number) => void,
): PageRef {
  const stored = space.disk.get(ref.number);
  if (stored === undefined) return ref;
  const b = Buffer.from(stored);
  if (!isLeaf(b)) {
    for (let slot = 0; slot < cellCount(b); slot++) {
      const child = {
        number: childNumber(b, slot),
        lsn: childLsn(b, slot),
        checksum: childChecksum(b, slot),
      };
      const fresh = reseal(space, child, change);
      setChild(b, slot, fresh.number, fresh.lsn, fresh.checksum);
    }
  }
  change(b, ref.number);
  const checksum = sealPage(b, ref.number, ref.lsn);
  space.disk.set(ref.number, b);
  return { number: ref.number, lsn: ref.lsn, checksum };
}

function problemsOf(space: MemoryPageSpace, root: Readonly<PageRef>): TreeProblem[] {
  space.evict();
  return checkTree(space, root, TREE.namespace).problems;
}

test('a sound tree: no problems, and every page is visited once', (t) => {
  const { space, root, pageCount } = stored();
  const numbers = new Set<number>();
  const result = checkTree(space, root, TREE.namespace, (page) => {
    numbers.add(page.number);
    t.is(page.lsn, 9);
    return undefined;
  });
  t.deepEqual(result.problems, []);
  t.is(numbers.size, pageCount);
  t.is(result.leafPages + result.branchPages, pageCount);
  t.is(result.entries, COUNT);
  t.is(result.height, 2 + (pageCount > 150 ? 1 : 0));
  t.true(result.leafBytes <= result.leafCapacity);
  t.deepEqual(checkTree(space, NO_PAGE, TREE.namespace).problems, []);
  let visited = 0;
  checkTree(space, root, TREE.namespace, () => {
    visited++;
    return false;
  });
  t.is(visited, 1);
});

test('a flipped byte costs one page: the problem names it and the keys that are lost', (t) => {
  const { space, root } = stored();
  const tree = new BTree(space, TREE.namespace, root, 0);
  tree.find(name(2000));
  const lost = tree.page.number;
  const stale = space.disk.get(lost)!;
  stale[2000] = stale[2000]! ^ 0x10;
  const problems = problemsOf(space, root);
  t.is(problems.length, 1);
  t.is(problems[0]!.page, lost);
  t.regex(problems[0]!.message, /checksum.*keys from .*file-.* to below .*file-.* are lost/);
  t.true(problems[0]!.from!.compare(name(2000)) <= 0 && problems[0]!.to!.compare(name(2000)) > 0);

  space.disk.delete(lost);
  t.is(problemsOf(space, root).length, 1);
  const all = problemsOf(space, { ...root, checksum: root.checksum ^ 1 });
  t.regex(all[0]!.message, /all keys of the tree are lost/);
});

test('planted damage with right checksums is found', (t) => {
  const plant = (what: RegExp, count: number, change: (b: Buffer, number: number) => void): void => {
    const { space, root } = stored();
    const problems = problemsOf(space, reseal(space, root, change));
    t.is(problems.length, count, problems.map((problem) => problem.message).join('\n'));
    for (const problem of problems) t.regex(problem.message, what);
  };
  const isRoot = (b: Buffer): boolean => !isLeaf(b) && cellCount(b) > 2;
  const copyChild = (b: Buffer, from: number, to: number): void => {
    b.copy(b, childAt(b, to), childAt(b, from), childAt(b, from) + CHILD_SIZE);
  };
  const swapChildren = (b: Buffer, one: number, other: number): void => {
    const pointer = Buffer.from(b.subarray(childAt(b, one), childAt(b, one) + CHILD_SIZE));
    copyChild(b, other, one);
    pointer.copy(b, childAt(b, other));
  };
  plant(/more than one parent/, 1, (b) => isRoot(b) && copyChild(b, 1, 2));
  plant(/keys (above|below) the range/, 2, (b) => isRoot(b) && swapChildren(b, 1, 2));
  plant(/tree/, 1, (b, number) => {
    if (number === 5) b[PAGE_TREE] = TREE.inodes;
  });
  plant(/dead bytes/, 1, (b, number) => number === 5 && putU16(b, 28, 17));
  plant(/ascending|head/, 1, (b, number) => {
    if (number === 5) putU32(b, 32 + b.readUInt16LE(24) + 8, 0);
  });
  plant(/range/, 1, (b, number) => {
    // The first key of a leaf goes below its separator: the byte after the page's prefix.
    if (number === 5) {
      b[cellOffset(b, 0)] = 0;
      b[32 + b.readUInt16LE(24)] = 0;
    }
  });
  plant(/level/, 1, (b, number) => {
    if (number === 5) b[PAGE_LEVEL] = 1;
  });
});

test('a leaf where a branch belongs, and the other way round', (t) => {
  const { space, root } = stored();
  const tree = new BTree(space, TREE.namespace, root, 0);
  tree.find(name(0));
  const { page } = tree;
  t.deepEqual(checkTree(space, page, TREE.namespace).problems, []);
  const reference = { number: page.number, lsn: page.lsn, checksum: page.checksum };
  // A root that points to itself cannot be sealed; one that points to another root can.
  const changed = reseal(space, root, (b, number) => {
    if (number === root.number) b[PAGE_LEVEL] = 7;
  });
  space.evict();
  t.true(checkTree(space, changed, TREE.namespace).problems.length > 10);
  const hostile = new BTree(space, TREE.namespace, changed, 0);
  t.throws(() => hostile.find(name(1)), { instanceOf: CorruptPageError, message: /place in the tree/ });
  t.throws(() => hostile.cursor().first(), { instanceOf: CorruptPageError });
  t.throws(() => new BTree(space, TREE.inodes, reference, 0).find(name(1)), { instanceOf: CorruptPageError });
});

test('trees made by a hostile hand: errors or answers, never a hang, never another error', (t) => {
  const random = new Random(seedOf(t, 'tree'));
  let errors = 0;
  for (let round = 0; round < 80; round++) {
    const { space, root } = stored(20 + random.below(100));
    const refs: PageRef[] = [];
    const rate = [0.01, 0.1, 0.5][random.below(3)]!;
    const changed = reseal(space, root, (b, number) => {
      const before = Buffer.from(b);
      if (random.next() < rate) {
        const slot = random.below(cellCount(b));
        if (!isLeaf(b) && refs.length > 0 && random.below(2) === 0) {
          const other = refs[random.below(refs.length)]!;
          setChild(b, slot, other.number, other.lsn, other.checksum);
        } else if (random.below(2) === 0) {
          // Change a key and its head alike, so that it may pass.
          const length = suffixLength(b, slot);
          const at = random.below(Math.max(1, Math.min(4, length)));
          if (length > 0) {
            b[cellOffset(b, slot) + at] = random.below(256);
            b[32 + b.readUInt16LE(24) + 8 * slot + at] = b[cellOffset(b, slot) + at]!;
          }
        } else if (b.readUInt16LE(24) > 0) {
          b[32 + random.below(b.readUInt16LE(24))] = random.below(256);
        } else if (isLeaf(b)) {
          b[valueStart(b, slot) - 1] = random.below(256);
        }
        try {
          validateTreePage(b, TREE.namespace);
        } catch (error) {
          if (!(error instanceof CorruptPageError)) throw error;
          before.copy(b);
        }
      }
      if (random.below(4) === 0) refs.push({ number, lsn: 9, checksum: sealPage(b, number, 9) });
    });
    space.evict();
    const attempt = (work: () => unknown): void => {
      try {
        work();
      } catch (error) {
        if (!(error instanceof CorruptPageError)) throw error;
        errors++;
      }
    };
    checkTree(space, changed, TREE.namespace);
    attempt(() => [...new BTree(space, TREE.namespace, changed, 0).entries()]);
    attempt(() => [...new BTree(space, TREE.namespace, changed, 0).entries({ reverse: true })]);
    attempt(() => [...diffTrees({ space, root }, { space, root: changed }, TREE.namespace)]);
    // The contract of the page space (no page leaves a tree twice) cannot hold for such trees.
    const lenient = new LenientSpace(space);
    const tree = new BTree(lenient, TREE.namespace, changed, 0);
    for (let i = 0; i < 1500; i++) {
      const key = name(random.below(COUNT + 10));
      if (random.below(3) > 0) attempt(() => tree.delete(key));
      else attempt(() => tree.put(key, Buffer.alloc(random.below(300))));
      if (random.below(10) === 0) attempt(() => tree.cursor().seekBefore(key));
    }
    for (const page of lenient.pages.values()) {
      if (page.generation !== 0) validateTreePage(page.bytes, TREE.namespace, true);
    }
  }
  t.true(errors > 0);
});

/** A memory space that does not mind pages with several parents. */
class LenientSpace extends MemoryPageSpace {
  constructor(shared: MemoryPageSpace) {
    super(shared.pageSize, shared);
  }
  override touch(page: Parameters<MemoryPageSpace['touch']>[0]): ReturnType<MemoryPageSpace['touch']> {
    if (page.generation !== 0) return page;
    const copy = this.create(1, 0, TREE.namespace);
    page.bytes.copy(copy.bytes);
    return copy;
  }
  override discard(): void {
    // What another parent may still name stays.
  }
}

test('the dump shows pages to the byte', (t) => {
  const space = new MemoryPageSpace();
  const tree = new BTree(space, TREE.registry, NO_PAGE, 0);
  t.deepEqual([...dumpTree(space, tree.root, TREE.registry)], ['tree 3: empty']);
  tree.put(Buffer.from('before-migration'), Buffer.from([1, 2, 0x41]));
  tree.put(Buffer.from('after "it"'), Buffer.from('a value that is longer than what is shown'));
  t.deepEqual(
    [...dumpTree(space, tree.root, TREE.registry)],
    [
      'page new 0: leaf, level 0, tree 3',
      '  cells 2, prefix "", heap at 4022, used 90, gap 3974, dead 0',
      '     0 @4022  "after \\"it\\"" = 41 bytes "a value that is "…',
      '     1 @4075  "before-migration" = 3 bytes "\\x01\\x02A"',
    ],
  );
  for (let i = 0; i < 100; i++) tree.put(Buffer.from(`snapshot-${i}`), Buffer.alloc(50));
  const lines = [...dumpTree(space, tree.root, TREE.registry, { entries: false })];
  t.deepEqual(lines.slice(0, 5), [
    'page new 2: branch, level 1, tree 3',
    '  cells 2, prefix "", heap at 4050, used 62, gap 4002, dead 0',
    '     0 @4078  (lowest) → page new 0',
    '     1 @4050  "snapshot-6" → page new 1',
    '  keys from the lowest',
  ]);
  t.is(dumpPage(space.get(tree.root.number, 0, 0).bytes, tree.root.number).length, 4);
  space.pages.delete(2 ** 47 + 1);
  t.regex([...dumpTree(space, tree.root, TREE.registry)].at(-1)!, /unreadable/);
});
