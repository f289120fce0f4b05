/**
 * The rows of the lifetimes tree by page, for a check: which pages have died, and between which LSNs states held them.
 *
 * A page that a restore brought back to life may have died more than once, so that rows overlap. They are kept in
 * layers within which they do not; all but the first are mostly empty.
 */
import type { Lifetime } from '../encoding/catalog.ts';

/** Rows that are sorted, merged or moved between two yields. */
const SORT_STEP = 4096;
const MOVE_STEP = 64 * 1024;

export class LifetimeIndex {
  private pages = new Float64Array(1024);
  private counts = new Float64Array(1024);
  private births = new Float64Array(1024);
  private deaths = new Float64Array(1024);
  private length = 0;
  /** Indexes of rows in the order of pages. */
  private readonly layers: number[][] = [];

  get size(): number {
    return this.length;
  }

  add(row: Readonly<Lifetime>): void {
    if (this.length === this.pages.length) this.grow();
    const at = this.length++;
    this.pages[at] = row.page;
    this.counts[at] = row.count;
    this.births[at] = row.birth;
    this.deaths[at] = row.death;
  }

  private grow(): void {
    const larger = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const column = new Float64Array(old.length * 2);
      column.set(old);
      return column;
    };
    this.pages = larger(this.pages);
    this.counts = larger(this.counts);
    this.births = larger(this.births);
    this.deaths = larger(this.deaths);
  }

  row(index: number): Lifetime {
    return {
      page: this.pages[index]!,
      count: this.counts[index]!,
      birth: this.births[index]!,
      death: this.deaths[index]!,
    };
  }

  /** The rows that overlap with [page, page + count), by page. Not before `sort`. */
  within(page: number, count: number): Lifetime[] {
    const found: Lifetime[] = [];
    for (const layer of this.layers) {
      let low = 0;
      let high = layer.length;
      while (low < high) {
        const middle = (low + high) >>> 1;
        const at = layer[middle]!;
        if (this.pages[at]! + this.counts[at]! <= page) low = middle + 1;
        else high = middle;
      }
      for (; low < layer.length && this.pages[layer[low]!]! < page + count; low++) {
        found.push(this.row(layer[low]!));
      }
    }
    return this.layers.length > 1 ? found.sort((a, b) => a.page - b.page) : found;
  }

  /** Rows were added in the order of the tree, by death: brings them into that of pages, before any is looked up. */
  *sort(): Generator<void> {
    const { length, pages } = this;
    let order = new Uint32Array(length);
    for (let i = 0; i < length; i++) order[i] = i;
    for (let start = 0; start < length; start += SORT_STEP) {
      order.subarray(start, start + SORT_STEP).sort((a, b) => pages[a]! - pages[b]!);
      yield;
    }
    let merged = new Uint32Array(length);
    for (let width = SORT_STEP; width < length; width *= 2) {
      for (let start = 0; start < length; start += 2 * width) {
        const middle = Math.min(start + width, length);
        const end = Math.min(start + 2 * width, length);
        let left = start;
        let right = middle;
        for (let at = start; at < end; at++) {
          const takesLeft = right >= end || (left < middle && pages[order[left]!]! <= pages[order[right]!]!);
          merged[at] = takesLeft ? order[left++]! : order[right++]!;
          if (at % MOVE_STEP === 0) yield;
        }
      }
      [order, merged] = [merged, order];
    }
    const arranged = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const column = new Float64Array(old.length);
      for (let i = 0; i < length; i++) column[i] = old[order[i]!]!;
      return column;
    };
    this.pages = arranged(this.pages);
    yield;
    this.counts = arranged(this.counts);
    yield;
    this.births = arranged(this.births);
    yield;
    this.deaths = arranged(this.deaths);
    yield;
    const ends: number[] = [];
    for (let at = 0; at < length; at++) {
      const page = this.pages[at]!;
      let layer = ends.findIndex((end) => end <= page);
      if (layer < 0) {
        layer = this.layers.length;
        this.layers.push([]);
      }
      this.layers[layer]!.push(at);
      ends[layer] = page + this.counts[at]!;
      if (at % MOVE_STEP === 0) yield;
    }
  }
}
