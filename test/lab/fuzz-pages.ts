/**
 * Tree pages whose checksums are right and whose bytes may be anything: what `validateTreePage` accepts must be safe to
 * search, walk and change, in one page and in a tree of such pages.
 */
import { BTree } from '../../src/btree/btree.ts';
import { checkTree } from '../../src/btree/check.ts';
import { dumpPage } from '../../src/btree/dump.ts';
import {
  cellCount,
  childAt,
  childChecksum,
  childLsn,
  childNumber,
  compareKey,
  copyKey,
  isLeaf,
  searchBranch,
  searchLeaf,
  setChild,
  validateTreePage,
  valueLength,
  valueStart,
} from '../../src/encoding/cells.ts';
import {
  initializePage,
  isTemporary,
  type PageKind,
  type PageRef,
  sealPage,
  TEMPORARY_BASE,
  verifyPage,
} from '../../src/encoding/page.ts';
import { CorruptPageError } from '../../src/errors.ts';
import { type Page, type PageSpace, pageOf } from '../../src/storage/page-space.ts';
import { type FuzzParser, type FuzzSession, find, StepLimit, tolerate } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

const PAGE_SIZE = 4096;
const LSN = 64;

/** Pages in memory as a page space serves them: verified and validated when they come from the "disk". */
class HostileSpace implements PageSpace {
  readonly pageSize = PAGE_SIZE;
  readonly limit = new StepLimit(20_000);
  readonly disk: Map<number, Buffer>;
  private readonly pages = new Map<number, Page>();
  private next = TEMPORARY_BASE;

  constructor(disk: Map<number, Buffer>) {
    this.disk = disk;
  }

  borrow(number: number, lsn: number, checksum: number): Page {
    return this.get(number, lsn, checksum);
  }

  get(number: number, lsn: number, checksum: number): Page {
    this.limit.count('pages');
    const known = this.pages.get(number);
    if (known !== undefined) return known;
    const stored = this.disk.get(number);
    if (stored === undefined || isTemporary(number))
      throw new CorruptPageError(`no page ${number}`, { page: number });
    const bytes = Buffer.from(stored);
    verifyPage(bytes, { number, lsn, checksum });
    validateTreePage(bytes, 0);
    const page = pageOf(number, lsn, checksum, bytes, 0);
    this.pages.set(number, page);
    return page;
  }

  private add(bytes: Buffer): Page {
    const page = pageOf(this.next++, 0, 0, bytes, 1);
    this.pages.set(page.number, page);
    return page;
  }

  create(kind: PageKind, level: number, tree: number): Page {
    const bytes = Buffer.alloc(PAGE_SIZE);
    initializePage(bytes, kind, level, tree);
    return this.add(bytes);
  }

  touch(page: Page): Page {
    return page.generation === 1 ? page : this.add(Buffer.from(page.bytes));
  }

  discard(page: Page): void {
    if (page.generation === 1) this.pages.delete(page.number);
  }

  /** Gives all pages below a reference places on the disk. */
  persist(ref: Readonly<PageRef>): PageRef {
    if (!isTemporary(ref.number)) return ref;
    const page = this.pages.get(ref.number)!;
    if (!isLeaf(page.bytes)) {
      for (let slot = 0; slot < cellCount(page.bytes); slot++) {
        const placed = this.persist({ number: childNumber(page.bytes, slot), lsn: 0, checksum: 0 });
        setChild(page.bytes, slot, placed.number, placed.lsn, placed.checksum);
      }
    }
    const number = this.disk.size + 1;
    const checksum = sealPage(page.bytes, number, LSN);
    this.disk.set(number, page.bytes);
    return { number, lsn: LSN, checksum };
  }
}

/** A tree of some pages of height two or three, with keys as stores have them. */
function makeTree(mutator: Mutator): { disk: Map<number, Buffer>; root: PageRef; keys: Buffer[] } {
  const space = new HostileSpace(new Map());
  const tree = new BTree(space, 2, { number: 0, lsn: 0, checksum: 0 }, 0);
  const keys: Buffer[] = [];
  const count = 5 + mutator.below(120);
  for (let i = 0; i < count; i++) {
    const key = Buffer.from(`${'prefix'.repeat(mutator.below(20))}${mutator.below(1000)}`.slice(0, 260));
    space.limit.reset();
    tree.put(key, mutator.random.bytes(mutator.below(500)));
    keys.push(key);
  }
  return { disk: space.disk, root: space.persist(tree.root), keys };
}

/** Seals a changed page and all above it again, so that every checksum is right. Returns the root's reference. */
function reseal(disk: Map<number, Buffer>, ref: Readonly<PageRef>, depth = 0): PageRef {
  const bytes = disk.get(ref.number);
  if (bytes === undefined || depth > 5) return ref;
  const sound = tolerate(() => {
    validateTreePage(bytes, 0);
    return true;
  });
  if (sound === true && !isLeaf(bytes)) {
    for (let slot = 0; slot < cellCount(bytes); slot++) {
      const placed = reseal(disk, { number: childNumber(bytes, slot), lsn: 0, checksum: 0 }, depth + 1);
      if (placed.lsn !== 0) setChild(bytes, slot, placed.number, placed.lsn, placed.checksum);
    }
  }
  return { number: ref.number, lsn: LSN, checksum: sealPage(bytes, ref.number, LSN) };
}

/** Uses one page that validation has accepted, whatever it holds. */
function usePage(bytes: Buffer, keys: readonly Buffer[], mutator: Mutator): void {
  const key = Buffer.alloc(300);
  const count = cellCount(bytes);
  for (let slot = 0; slot < count; slot++) {
    if (isLeaf(bytes)) {
      const start = valueStart(bytes, slot);
      if (start + valueLength(bytes, slot) > bytes.length) find('a value beyond the page');
    } else if (childAt(bytes, slot) + 18 > bytes.length) find('a child pointer beyond the page');
    else if (!Number.isSafeInteger(childLsn(bytes, slot)) || !(childChecksum(bytes, slot) >= 0))
      find('a child');
    if (slot === 0 && !isLeaf(bytes)) continue;
    const length = copyKey(bytes, slot, key, 0);
    if (length > 267) find(`a key of ${length} bytes`);
    if (isLeaf(bytes) && searchLeaf(bytes, key, length) !== slot)
      find(`the key of slot ${slot} is not found`);
    if (compareKey(bytes, slot, key, length) !== 0) find('a key that differs from itself');
  }
  const wanted = mutator.pick(keys);
  if (isLeaf(bytes)) searchLeaf(bytes, wanted, wanted.length);
  else if (searchBranch(bytes, wanted, wanted.length) >= count) find('a child that is not there');
  dumpPage(bytes, 1);
}

const PAGES: FuzzParser = {
  name: 'pages',
  batch: 200,
  share: 10,
  start(mutator): FuzzSession {
    const { disk, keys } = makeTree(mutator);
    const pages = [...disk.values()];
    return {
      step(m) {
        const bytes = Buffer.from(m.pick(pages));
        // Header and slots are what the structure is in; the cells are at the end.
        if (m.chance(2)) m.scribble(bytes, 4, 32 + m.below(300));
        else m.scribble(bytes, 4);
        validateTreePage(bytes, 0);
        usePage(bytes, keys, m);
      },
    };
  },
};

const TREES: FuzzParser = {
  name: 'trees',
  batch: 40,
  share: 3,
  start(mutator): FuzzSession {
    const made = makeTree(mutator);
    return {
      step(m) {
        const disk = new Map([...made.disk].map(([number, bytes]) => [number, Buffer.from(bytes)]));
        const numbers = [...disk.keys()];
        for (let n = 1 + m.below(3); n > 0; n--) {
          const bytes = disk.get(m.pick(numbers))!;
          const how = m.below(6);
          const isSound = tolerate(() => {
            validateTreePage(bytes, 0);
            return true;
          });
          if (how === 0 || isSound === undefined) m.scribble(bytes, 4, 200);
          else if (how === 1) disk.get(m.pick(numbers))!.copy(bytes);
          else if (!isLeaf(bytes)) {
            // A page with two parents, a cycle, a child of the wrong level, or one that is not there.
            const other = m.chance(6) ? Number(m.edge() % (1n << 47n)) : m.pick(numbers);
            setChild(bytes, m.below(cellCount(bytes)), Math.max(1, other), LSN, 0);
          } else {
            const at = valueStart(bytes, m.below(cellCount(bytes)));
            m.scribble(bytes, Math.max(32, at - 40), at);
          }
        }
        const root = reseal(disk, made.root);
        const space = new HostileSpace(disk);
        const tree = new BTree(space, 2, root, m.number());
        const entries = new StepLimit(100_000);
        const cursor = tree.cursor();
        tolerate(() => {
          for (let more = cursor.first(); more; more = cursor.next()) entries.count('entries forwards');
        });
        tolerate(() => {
          for (let more = cursor.last(); more; more = cursor.previous()) entries.count('entries backwards');
        });
        for (let n = 0; n < 8; n++) {
          space.limit.reset();
          const key = m.pick(made.keys);
          tolerate(() => tree.get(key));
          tolerate(() => cursor.seek(key) && cursor.value);
          if (m.chance(2))
            tolerate(() =>
              tree.put(m.chance(2) ? key : m.random.bytes(1 + m.below(260)), m.random.bytes(m.below(900))),
            );
          else tolerate(() => tree.delete(key));
        }
        space.limit.reset();
        checkTree(space, tree.root, 2, () => undefined);
      },
    };
  },
};

export const PAGE_PARSERS: readonly FuzzParser[] = [PAGES, TREES];
