/**
 * Sorting in small steps: items are gathered in runs, each sorted when it is full, and merged one by one as they are
 * taken. So no step takes long, however many there are, where sorting all at once would hold up everything else.
 */

/** Items of a run: sorting it takes about a millisecond. */
const RUN_LENGTH = 1024;

interface Source<Item> {
  readonly run: readonly Item[];
  index: number;
}

export class SortedRuns<Item> {
  private readonly compare: (a: Item, b: Item) => number;
  private readonly runs: Item[][] = [];
  private open: Item[] = [];
  length = 0;

  constructor(compare: (a: Item, b: Item) => number) {
    this.compare = compare;
  }

  push(item: Item): void {
    this.open.push(item);
    this.length++;
    if (this.open.length === RUN_LENGTH) this.seal();
  }

  private seal(): void {
    this.runs.push(this.open.sort(this.compare));
    this.open = [];
  }

  /** All items in order. Nothing can be added any more. */
  *merge(): Generator<Item> {
    if (this.open.length > 0) this.seal();
    // A heap of the runs, the one with the least item on top.
    const heap: Source<Item>[] = this.runs.map((run) => ({ run, index: 0 }));
    for (let i = heap.length >> 1; i >= 0; i--) this.sink(heap, i);
    while (heap.length > 0) {
      const top = heap[0]!;
      yield top.run[top.index]!;
      top.index++;
      if (top.index === top.run.length) {
        const last = heap.pop()!;
        if (heap.length === 0) return;
        if (last !== top) heap[0] = last;
      }
      this.sink(heap, 0);
    }
  }

  private sink(heap: Source<Item>[], start: number): void {
    for (let at = start; ; ) {
      let least = at;
      for (const child of [2 * at + 1, 2 * at + 2]) {
        if (child < heap.length && this.isLess(heap[child]!, heap[least]!)) least = child;
      }
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least]!, heap[at]!];
      at = least;
    }
  }

  private isLess(a: Source<Item>, b: Source<Item>): boolean {
    return this.compare(a.run[a.index]!, b.run[b.index]!) < 0;
  }
}
