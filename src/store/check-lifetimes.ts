/**
 * The rows of the lifetimes tree by page, for a check: which pages have died, and between which LSNs states held them.
 */
import type { Lifetime } from '../encoding/catalog.ts';

export class LifetimeIndex {
  private pages = new Float64Array(1024);
  private counts = new Float64Array(1024);
  private births = new Float64Array(1024);
  private deaths = new Float64Array(1024);
  private length = 0;
  private sorted = true;

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
    this.sorted = false;
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
    this.sort();
    return {
      page: this.pages[index]!,
      count: this.counts[index]!,
      birth: this.births[index]!,
      death: this.deaths[index]!,
    };
  }

  /** Index of the first row that ends after `page`; rows do not overlap in a sound store. */
  firstEndingAfter(page: number): number {
    this.sort();
    let low = 0;
    let high = this.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.pages[middle]! + this.counts[middle]! <= page) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** Rows were added in the order of the tree, by death: brings them into that of pages. */
  private sort(): void {
    if (this.sorted) return;
    const order = new Uint32Array(this.length);
    for (let i = 0; i < order.length; i++) order[i] = i;
    const { pages } = this;
    order.sort((a, b) => pages[a]! - pages[b]!);
    const arranged = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const column = new Float64Array(old.length);
      for (let i = 0; i < order.length; i++) column[i] = old[order[i]!]!;
      return column;
    };
    this.pages = arranged(pages);
    this.counts = arranged(this.counts);
    this.births = arranged(this.births);
    this.deaths = arranged(this.deaths);
    this.sorted = true;
  }
}
