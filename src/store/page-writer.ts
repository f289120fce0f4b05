/**
 * Writes sealed pages to new places in the data file: gathers pages that follow one another into one write.
 */
import { crc32 } from '../encoding/checksum.ts';
import { sealPage } from '../encoding/page.ts';
import type { Device } from '../storage/device.ts';
import type { FreeSpace, PageRun } from '../storage/free-space.ts';

/** Pages written with one system call at most: 1 MiB of 4 KiB pages. */
const BATCH_PAGES = 256;
/** Pages asked of the free space at a time, so that the pages of one checkpoint lie together. */
const CHUNK_PAGES = 64;

export class PageWriter {
  private readonly device: Device;
  private readonly pageSize: number;
  private readonly freeSpace: FreeSpace;
  private chunk: PageRun = { page: 0, count: 0 };
  private given: number[] = [];
  private batch: Buffer[] = [];
  private batchStart = 0;
  private batchPages = 0;
  private used: PageRun[] = [];

  constructor(device: Device, pageSize: number, freeSpace: FreeSpace) {
    this.device = device;
    this.pageSize = pageSize;
    this.freeSpace = freeSpace;
  }

  /** The next single pages go to these places, which are accounted for already. */
  give(places: readonly number[]): void {
    this.given = places.slice().reverse();
  }

  /** A place for one page. */
  place(): number {
    const given = this.given.pop();
    if (given !== undefined) return given;
    if (this.chunk.count === 0) this.chunk = this.freeSpace.allocateUpTo(CHUNK_PAGES);
    const page = this.chunk.page++;
    this.chunk.count--;
    this.use(page, 1);
    return page;
  }

  /** A place for `count` consecutive pages. */
  placeRun(count: number): number {
    if (this.chunk.count < count) {
      this.returnChunk();
      this.chunk = this.freeSpace.allocateUpTo(CHUNK_PAGES);
    }
    if (this.chunk.count >= count) {
      const page = this.chunk.page;
      this.chunk.page += count;
      this.chunk.count -= count;
      this.use(page, count);
      return page;
    }
    const page = this.freeSpace.allocate(count);
    this.use(page, count);
    return page;
  }

  private use(page: number, count: number): void {
    const last = this.used.at(-1);
    if (last !== undefined && last.page + last.count === page) last.count += count;
    else this.used.push({ page, count });
  }

  /** Hands over the runs that were used since the last call, for the free tree. */
  takeUsed(): PageRun[] {
    const { used } = this;
    this.used = [];
    return used;
  }

  private returnChunk(): void {
    if (this.chunk.count > 0) this.freeSpace.free(this.chunk.page, this.chunk.count);
    this.chunk = { page: 0, count: 0 };
  }

  /** Seals a tree page with its final number and LSN and queues it. Returns its checksum. */
  writePage(bytes: Buffer, number: number, lsn: number): number {
    const checksum = sealPage(bytes, number, lsn);
    this.queue(bytes, number);
    return checksum;
  }

  /** Queues a page of file data. Returns its checksum. */
  writeDataPage(bytes: Buffer, number: number): number {
    this.queue(bytes, number);
    return crc32(bytes);
  }

  private queue(bytes: Buffer, number: number): void {
    if (this.batchPages > 0 && this.batchStart + this.batchPages !== number) this.flush();
    if (this.batchPages === 0) this.batchStart = number;
    this.batch.push(bytes);
    this.batchPages++;
    if (this.batchPages >= BATCH_PAGES) this.flush();
  }

  /** Writes what is queued. */
  flush(): void {
    if (this.batchPages === 0) return;
    this.device.writeVector(this.batchStart * this.pageSize, this.batch);
    this.batch = [];
    this.batchPages = 0;
  }

  /** What is queued: the first page's number, and the pages that follow one another from there. */
  get queued(): { readonly page: number; readonly pages: readonly Buffer[] } {
    return { page: this.batchStart, pages: this.batch };
  }

  /** Writes what is queued and gives back what was not used. */
  finish(): void {
    this.flush();
    this.returnChunk();
  }
}
