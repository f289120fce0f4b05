/**
 * The cache of clean pages, shared by every state of a store.
 *
 * A page enters it verified: from disk through `get`, or from a checkpoint that has just written it (`insert`).
 * Eviction is by clock (second chance), in place of the page that the hand finds. An evicted Page object keeps its
 * bytes as long as someone refers to it. Buffers are reused only of pages that the live trees have replaced and that
 * nobody else ever got (`giveUp`): memory that is touched for the first time is far slower than a copy.
 */
import { validateTreePage } from '../encoding/cells.ts';
import { validateExtents } from '../encoding/extent.ts';
import { TREE } from '../encoding/keys.ts';
import { PAGE_KIND, PAGE_TREE, pageKind, verifyPage } from '../encoding/page.ts';
import { CorruptPageError } from '../errors.ts';
import type { Device } from './device.ts';
import { PageBuffers } from './page-buffers.ts';
import { NO_BYTES, type Page, pageOf } from './page-space.ts';

export class PageCache {
  readonly pageSize: number;
  private readonly device: Device;
  private readonly capacity: number;
  private readonly pages = new Map<number, Page>();
  /** The clock: pages in order of arrival, holes where pages were dropped. */
  private readonly clock: (Page | undefined)[] = [];
  private hand = 0;
  /** Buffers of pages that are gone, for the next ones. */
  readonly buffers: PageBuffers;
  /** Pages that could not be written and are what their places are to hold; see `keep`. */
  private readonly kept = new Map<number, Buffer>();
  /** Pages read from disk, for statistics. */
  reads = 0;

  constructor(device: Device, pageSize: number, capacityBytes: number) {
    this.device = device;
    this.pageSize = pageSize;
    this.buffers = new PageBuffers(pageSize);
    this.capacity = Math.max(64, Math.floor(capacityBytes / pageSize));
  }

  get size(): number {
    return this.pages.size;
  }

  /**
   * The page, verified against what its parent says.
   * @throws CorruptPageError, or LsnfsError IO when the device fails.
   */
  get(number: number, lsn: number, checksum: number): Page {
    const page = this.borrow(number, lsn, checksum);
    page.shared = true;
    return page;
  }

  /** As `get`, for somebody who lets go of the page before `giveUp` is called. */
  borrow(number: number, lsn: number, checksum: number): Page {
    const cached = this.pages.get(number);
    if (cached !== undefined && cached.lsn === lsn && cached.checksum === checksum) {
      cached.referenced = true;
      return cached;
    }
    return this.read(number, lsn, checksum);
  }

  /**
   * A clean page that its tree has replaced, and that nobody holds: its buffer serves others from now on. Who asks for the
   * page again reads it from disk.
   */
  giveUp(page: Page): void {
    if (page.shared || page.generation !== 0 || page.bytes === NO_BYTES) return;
    if (this.pages.get(page.number) === page) this.pages.delete(page.number);
    this.buffers.give(page.bytes);
    page.bytes = NO_BYTES;
  }

  private read(number: number, lsn: number, checksum: number): Page {
    const position = number * this.pageSize;
    const kept = this.kept.get(number);
    const bytes = kept ?? this.buffers.take();
    const got = kept?.length ?? this.device.read(position, bytes, 0, this.pageSize);
    this.reads++;
    if (got !== this.pageSize) {
      throw new CorruptPageError(
        `page ${number} at offset ${position} of the data file is missing: expected ${this.pageSize} bytes, found ${got}`,
        { page: number, offset: position, expected: this.pageSize, found: got },
      );
    }
    verifyPage(bytes, { number, lsn, checksum });
    const kind = pageKind(bytes);
    if (kind === PAGE_KIND.leaf || kind === PAGE_KIND.branch) {
      validateTreePage(bytes, 0);
      if (kind === PAGE_KIND.leaf && bytes[PAGE_TREE] === TREE.inodes) validateExtents(bytes);
    } else if (kind !== PAGE_KIND.versionRoot && kind !== PAGE_KIND.catalogRoot) {
      throw new CorruptPageError(
        `page ${number} at offset ${position} of the data file is of unknown kind ${kind}`,
        { page: number, offset: position, found: kind },
      );
    }
    const page = pageOf(number, lsn, checksum, bytes, 0);
    page.shared = kept !== undefined;
    this.insert(page);
    return page;
  }

  /** Takes in a page that is clean: number, LSN and checksum are final. */
  insert(page: Page): void {
    this.pages.set(page.number, page);
    if (this.clock.length < this.capacity) {
      this.clock.push(page);
      return;
    }
    for (;;) {
      if (this.hand === this.clock.length) this.hand = 0;
      const candidate = this.clock[this.hand];
      if (candidate?.referenced === true && this.pages.get(candidate.number) === candidate) {
        candidate.referenced = false;
        this.hand++;
        continue;
      }
      if (candidate !== undefined && this.pages.get(candidate.number) === candidate) {
        this.pages.delete(candidate.number);
      }
      this.clock[this.hand++] = page;
      return;
    }
  }

  /** Forgets pages whose place is being given to something else. */
  forget(firstPage: number, count: number): void {
    if (count > this.pages.size) {
      for (const number of this.pages.keys()) {
        if (number >= firstPage && number < firstPage + count) this.pages.delete(number);
      }
      return;
    }
    for (let number = firstPage; number < firstPage + count; number++) this.pages.delete(number);
  }

  /**
   * Pages that a store which has failed could not write, and that its trees lead to already: they are read from here
   * from now on. Their number is bounded by what a checkpoint queues.
   */
  keep(firstPage: number, pages: readonly Buffer[]): void {
    for (const [i, bytes] of pages.entries()) this.kept.set(firstPage + i, bytes);
  }

  /** Reads pages one by one if some of them are kept. Returns whether they are. */
  private readKept(page: number, count: number, target: Uint8Array, start: number): boolean {
    let isKept = false;
    for (let number = page; number < page + count; number++) isKept ||= this.kept.has(number);
    if (!isKept) return false;
    for (let i = 0; i < count; i++) {
      const kept = this.kept.get(page + i);
      const at = start + i * this.pageSize;
      if (kept !== undefined) target.set(kept, at);
      else this.readPages(page + i, 1, target, at);
    }
    return true;
  }

  /** Reads pages of file data straight from the device; the caller verifies them against their extent. */
  readData(page: number, count: number, target: Uint8Array, start: number): void {
    if (this.kept.size > 0 && this.readKept(page, count, target, start)) return;
    this.readPages(page, count, target, start);
  }

  private readPages(page: number, count: number, target: Uint8Array, start: number): void {
    const position = page * this.pageSize;
    const length = count * this.pageSize;
    const got = this.device.read(position, target, start, length);
    if (got !== length) {
      throw new CorruptPageError(
        `data at offset ${position} of the data file is missing: expected ${length} bytes, found ${got}`,
        { page, offset: position, expected: length, found: got },
      );
    }
  }
}
