/**
 * A page space in memory that holds its users to the contract of page-space.ts.
 *
 * - A page that is clean or sealed must not change: its checksum is taken when that happens and `verify` compares.
 * - A page may be touched or discarded once, and not used after it was discarded.
 * - `created`, `discarded` and `superseded` are counted; `reachable` pages of all kept roots are compared with what
 *   should exist by the tests.
 * - `persist` does what a checkpoint does: final numbers from the leaves up, checksums, child pointers rewritten, and
 *   the bytes go to a "disk" from which `get` reads them back, verified, after `evict`.
 */
import {
  cellCount,
  childChecksum,
  childLsn,
  childNumber,
  isLeaf,
  setChild,
  validateTreePage,
} from '../../src/encoding/cells.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import {
  initializePage,
  isTemporary,
  type PageKind,
  type PageRef,
  sealPage,
  TEMPORARY_BASE,
  verifyPage,
} from '../../src/encoding/page.ts';
import { AssertionError, CorruptPageError } from '../../src/errors.ts';
import { type Page, type PageSpace, pageOf } from '../../src/storage/page-space.ts';

export class MemoryPageSpace implements PageSpace {
  readonly pageSize: number;
  readonly pages = new Map<number, Page>();
  /** Page number → what a data file would hold. Change it to plant damage, then `evict`. */
  readonly disk: Map<number, Buffer>;
  created = 0;
  discarded = 0;
  superseded = 0;
  /** Calls of `get`; and those that had to go to the disk. */
  gets = 0;
  reads = 0;
  /** Fails every read from the disk, as an I/O error would. */
  failReads = false;

  private generation = 1;
  private nextTemporary = TEMPORARY_BASE;
  private nextNumber: { value: number };
  private readonly sums = new Map<number, number>();
  private readonly dead = new Set<number>();

  /** With `shared`, a second space over the same disk. */
  constructor(pageSize = 4096, shared?: MemoryPageSpace) {
    this.pageSize = pageSize;
    this.disk = shared?.disk ?? new Map<number, Buffer>();
    this.nextNumber = shared?.nextNumber ?? { value: 1 };
  }

  borrow(number: number, lsn: number, checksum: number): Page {
    return this.get(number, lsn, checksum);
  }

  get(number: number, lsn: number, checksum: number): Page {
    this.gets++;
    const page = this.pages.get(number);
    if (page !== undefined) {
      if (
        isTemporary(number) ? lsn !== 0 || checksum !== 0 : lsn !== page.lsn || checksum !== page.checksum
      ) {
        throw new CorruptPageError(`page ${number} is not what its parent says`, { page: number });
      }
      return page;
    }
    this.reads++;
    const stored = this.disk.get(number);
    if (this.failReads || stored === undefined) {
      throw new CorruptPageError(`page ${number} cannot be read`, { page: number });
    }
    const bytes = Buffer.from(stored);
    verifyPage(bytes, { number, lsn, checksum });
    validateTreePage(bytes, 0);
    const read = pageOf(number, lsn, checksum, bytes, 0);
    this.pages.set(number, read);
    this.sums.set(number, crc32(bytes));
    return read;
  }

  create(kind: PageKind, level: number, tree: number): Page {
    this.created++;
    const page = this.add(Buffer.alloc(this.pageSize));
    initializePage(page.bytes, kind, level, tree);
    return page;
  }

  touch(page: Page): Page {
    this.expectAlive(page);
    if (page.generation === this.generation) return page;
    this.retire(page);
    this.superseded++;
    return this.add(Buffer.from(page.bytes));
  }

  discard(page: Page): void {
    this.expectAlive(page);
    this.discarded++;
    if (page.generation === this.generation) {
      this.pages.delete(page.number);
      this.dead.add(page.number);
    } else {
      this.retire(page);
    }
  }

  /** Pages that the live tree has by the counts: what was created and not discarded. */
  get liveCount(): number {
    return this.created - this.discarded;
  }

  /** All dirty pages become immutable; roots that exist now stay readable. */
  seal(): void {
    this.generation++;
    for (const [number, page] of this.pages) {
      if (page.generation !== 0 && !this.sums.has(number)) {
        validateTreePage(page.bytes, 0, true);
        this.sums.set(number, crc32(page.bytes));
      }
    }
  }

  /**
   * Gives the sealed pages below a sealed root their places and returns the root's new reference. Page objects stay
   * the same; pointers to them in pages that were changed since are rewritten too.
   */
  persist(root: Readonly<PageRef>, lsn: number): PageRef {
    this.verify();
    const moved = new Map<number, Page>();
    const result = this.persistPage(root, lsn, moved);
    for (const page of this.pages.values()) {
      if (page.generation === 0 || isLeaf(page.bytes)) continue;
      for (let slot = 0; slot < cellCount(page.bytes); slot++) {
        const child = moved.get(childNumber(page.bytes, slot));
        if (child !== undefined) setChild(page.bytes, slot, child.number, child.lsn, child.checksum);
      }
      if (this.sums.has(page.number)) this.sums.set(page.number, crc32(page.bytes));
    }
    return result;
  }

  private persistPage(ref: Readonly<PageRef>, lsn: number, moved: Map<number, Page>): PageRef {
    if (!isTemporary(ref.number)) return ref;
    const page = this.pages.get(ref.number)!;
    if (page.generation === this.generation) throw new AssertionError('a page to persist is not sealed');
    const b = page.bytes;
    if (!isLeaf(b)) {
      for (let slot = 0; slot < cellCount(b); slot++) {
        const child = {
          number: childNumber(b, slot),
          lsn: childLsn(b, slot),
          checksum: childChecksum(b, slot),
        };
        const placed = this.persistPage(child, lsn, moved);
        setChild(b, slot, placed.number, placed.lsn, placed.checksum);
      }
    }
    const temporary = page.number;
    const wasRetired = this.dead.has(temporary);
    this.pages.delete(temporary);
    this.sums.delete(temporary);
    page.number = this.nextNumber.value++;
    page.lsn = lsn;
    page.checksum = sealPage(b, page.number, lsn);
    page.generation = 0;
    validateTreePage(b, 0);
    if (wasRetired) this.dead.add(page.number);
    this.pages.set(page.number, page);
    this.sums.set(page.number, crc32(b));
    this.disk.set(page.number, Buffer.from(b));
    moved.set(temporary, page);
    return { number: page.number, lsn, checksum: page.checksum };
  }

  /** Forgets all clean pages. */
  evict(): void {
    for (const [number, page] of this.pages) {
      if (page.generation !== 0) continue;
      this.verifyPage(page);
      this.pages.delete(number);
      this.sums.delete(number);
    }
  }

  /** Checks that no immutable page was changed. */
  verify(): void {
    for (const page of this.pages.values()) this.verifyPage(page);
  }

  private verifyPage(page: Page): void {
    const sum = this.sums.get(page.number);
    if (sum !== undefined && sum !== crc32(page.bytes)) {
      throw new AssertionError(`page ${page.number} was changed though it is sealed or clean`);
    }
  }

  private add(bytes: Buffer): Page {
    const number = this.nextTemporary++;
    const page = pageOf(number, 0, 0, bytes, this.generation);
    this.pages.set(number, page);
    return page;
  }

  /** The live tree leaves a sealed or clean page behind; older roots may still use it. */
  private retire(page: Page): void {
    this.dead.add(page.number);
  }

  private expectAlive(page: Page): void {
    if (this.dead.has(page.number)) throw new AssertionError(`page ${page.number} left the tree before`);
  }
}
