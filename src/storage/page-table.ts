/**
 * Pages by numbers that are given out one after the other and come to an end in about the same order: a window over the
 * numbers in use, in pieces that come and go. A number is found by two steps of arithmetic, without hashing.
 */
import type { Page } from './page-space.ts';

const PIECE_BITS = 10;
const PIECE = 1 << PIECE_BITS;
/** So many pieces without pages at the beginning are worth that the others are moved. */
const EMPTY_PIECES = 64;

interface Piece {
  readonly pages: (Page | undefined)[];
  count: number;
}

export class PageTable {
  /** The next number. */
  next: number;
  /** Pages in the table. */
  size = 0;
  private pieces: (Piece | undefined)[] = [];
  /** Number of the first page of pieces[0]. */
  private base: number;
  /** pieces[0, this) are gone. */
  private gone = 0;

  constructor(first: number) {
    this.next = first;
    this.base = first;
  }

  get(number: number): Page | undefined {
    const offset = number - this.base;
    if (offset < 0 || number >= this.next) return undefined;
    return this.pieces[offset >>> PIECE_BITS]?.pages[offset & (PIECE - 1)];
  }

  /** Enters a page under the next number, which it has. */
  add(page: Page): void {
    const offset = this.next++ - this.base;
    const index = offset >>> PIECE_BITS;
    let piece = this.pieces[index];
    if (piece === undefined) {
      piece = { pages: new Array<Page | undefined>(PIECE).fill(undefined), count: 0 };
      this.pieces[index] = piece;
    }
    piece.pages[offset & (PIECE - 1)] = page;
    piece.count++;
    this.size++;
  }

  delete(number: number): void {
    if (this.get(number) === undefined) return;
    const offset = number - this.base;
    const index = offset >>> PIECE_BITS;
    const piece = this.pieces[index]!;
    piece.pages[offset & (PIECE - 1)] = undefined;
    this.size--;
    // The piece that the next number falls into stays.
    if (--piece.count > 0 || this.next - this.base < (index + 1) * PIECE) return;
    this.pieces[index] = undefined;
    this.dropFront();
  }

  private dropFront(): void {
    while (this.gone < this.pieces.length && this.pieces[this.gone] === undefined) this.gone++;
    if (this.gone < EMPTY_PIECES && this.gone < this.pieces.length) return;
    this.pieces.splice(0, this.gone);
    this.base += this.gone * PIECE;
    this.gone = 0;
  }

  clear(): void {
    this.pieces = [];
    this.base = this.next;
    this.gone = 0;
    this.size = 0;
  }

  /** Pages by ascending number in [from, to); of those that are added or deleted meanwhile, those that are there when it comes by. */
  *between(from: number, to = Number.POSITIVE_INFINITY): Generator<Page> {
    for (let number = Math.max(from, this.base); number < Math.min(to, this.next); number++) {
      const offset = number - this.base;
      const piece = this.pieces[offset >>> PIECE_BITS];
      if (piece === undefined) {
        // To the end of the piece.
        number += PIECE - 1 - (offset & (PIECE - 1));
        continue;
      }
      const page = piece.pages[offset & (PIECE - 1)];
      if (page !== undefined) yield page;
    }
  }
}
