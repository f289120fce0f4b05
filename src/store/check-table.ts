/**
 * What a check knows of each page of the data file, in typed arrays that grow with what is in use: one byte a page,
 * four more where pages are in use, thirteen more where they are pages of trees.
 *
 * `sum` mixes what a reference says of a page: checksum and LSN of a tree page; checksum, inode and block of a page of
 * data. So to meet a page again costs no reading, and a reference that disagrees with the one before is noticed.
 */

/** What a page is used for. */
export const USE = { unknown: 0, free: 1, tree: 2, data: 3, root: 4, catalog: 5, dead: 6 } as const;
export type Use = (typeof USE)[keyof typeof USE];

const USE_MASK = 0x0f;
/** Something below the page is damaged. */
const TAINTED = 0x10;
/** The page itself is damaged. */
const BAD = 0x20;

const CHUNK = 4096;

interface TreeColumns {
  readonly place: Uint8Array;
  readonly from: Uint32Array;
  readonly to: Uint32Array;
  readonly pages: Uint32Array;
}

export class PageTable {
  /** Pages from here on do not exist. */
  readonly limit: number;
  private readonly states: (Uint8Array | undefined)[] = [];
  private readonly sums: (Uint32Array | undefined)[] = [];
  private readonly trees: (TreeColumns | undefined)[] = [];

  constructor(limit: number) {
    this.limit = limit;
  }

  private state(page: number): number {
    return this.states[Math.floor(page / CHUNK)]?.[page % CHUNK] ?? 0;
  }

  private change(page: number, clear: number, set: number): void {
    const index = Math.floor(page / CHUNK);
    let chunk = this.states[index];
    if (chunk === undefined) {
      chunk = new Uint8Array(CHUNK);
      this.states[index] = chunk;
    }
    const at = page % CHUNK;
    chunk[at] = (chunk[at]! & ~clear) | set;
  }

  use(page: number): Use {
    return (this.state(page) & USE_MASK) as Use;
  }
  setUse(page: number, use: Use): void {
    this.change(page, USE_MASK, use);
  }

  /** Ranges [start, end) of pages below `end`, in order, that together hold all pages of which anything was said. */
  *touched(end: number): Generator<{ start: number; end: number }> {
    const chunks: number[] = [];
    this.states.forEach((_chunk, index) => {
      chunks.push(index);
    });
    for (const index of chunks) {
      const start = index * CHUNK;
      if (start >= end) return;
      yield { start, end: Math.min(end, start + CHUNK) };
    }
  }

  isBad(page: number): boolean {
    return (this.state(page) & BAD) !== 0;
  }
  setBad(page: number): void {
    this.change(page, 0, BAD);
  }

  isTainted(page: number): boolean {
    return (this.state(page) & TAINTED) !== 0;
  }
  setTainted(page: number): void {
    this.change(page, 0, TAINTED);
  }

  sum(page: number): number {
    return this.sums[Math.floor(page / CHUNK)]?.[page % CHUNK] ?? 0;
  }
  setSum(page: number, sum: number): void {
    const index = Math.floor(page / CHUNK);
    let chunk = this.sums[index];
    if (chunk === undefined) {
      chunk = new Uint32Array(CHUNK);
      this.sums[index] = chunk;
    }
    chunk[page % CHUNK] = sum;
  }

  private columns(page: number): TreeColumns {
    const index = Math.floor(page / CHUNK);
    let columns = this.trees[index];
    if (columns === undefined) {
      columns = {
        place: new Uint8Array(CHUNK),
        from: new Uint32Array(CHUNK),
        to: new Uint32Array(CHUNK),
        pages: new Uint32Array(CHUNK),
      };
      this.trees[index] = columns;
    }
    return columns;
  }

  /** Notes where in which tree a page stands, and with which bounds (as hashes). */
  setPlace(page: number, tree: number, level: number, from: number, to: number): void {
    const columns = this.columns(page);
    const at = page % CHUNK;
    columns.place[at] = (tree << 5) | level;
    columns.from[at] = from;
    columns.to[at] = to;
  }
  isPlace(page: number, tree: number, level: number): boolean {
    return this.columns(page).place[page % CHUNK] === ((tree << 5) | level);
  }
  level(page: number): number {
    return this.columns(page).place[page % CHUNK]! & 31;
  }
  hasBounds(page: number, from: number, to: number): boolean {
    const columns = this.columns(page);
    return columns.from[page % CHUNK] === from && columns.to[page % CHUNK] === to;
  }

  /** Pages of the subtree below a tree page, itself included. */
  subtreePages(page: number): number {
    return this.columns(page).pages[page % CHUNK]!;
  }
  setSubtreePages(page: number, count: number): void {
    this.columns(page).pages[page % CHUNK] = count;
  }
}

/** What a reference to a tree page says of it. */
export function treeSum(checksum: number, lsn: number): number {
  return (checksum ^ Math.imul(lsn | 0, 0x9e3779b1) ^ Math.imul((lsn / 2 ** 32) | 0, 0x85ebca6b)) >>> 0;
}

/** What an extent says of a page of data. */
export function dataSum(checksum: number, inode: number, block: number): number {
  const owner = Math.imul(inode | 0, 0x9e3779b1) ^ Math.imul((inode / 2 ** 32) | 0, 0x85ebca6b);
  return (checksum ^ owner ^ Math.imul(block | 0, 0xc2b2ae35) ^ ((block / 2 ** 32) | 0)) >>> 0;
}
