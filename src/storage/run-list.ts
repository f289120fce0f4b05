/**
 * Runs of pages in order, in pieces: to put a run in or take one out moves no more than a piece, however many runs there
 * are. (In one array the change of a run in front moves all behind it, and a store that changes much has hundreds of thousands.)
 */
export interface PageRun {
  page: number;
  count: number;
}

/** Runs of a piece at most. */
const PIECE_RUNS = 512;

export class RunList {
  /** None is empty, but for the only one of an empty list. */
  private readonly pieces: PageRun[][] = [[]];
  private size = 0;

  get length(): number {
    return this.size;
  }

  get first(): PageRun | undefined {
    return this.pieces[0]![0];
  }

  get last(): PageRun | undefined {
    return this.pieces.at(-1)!.at(-1);
  }

  /** The place before the first run that begins at or after a page. It is lost when a run is put in or taken out. */
  seek(page: number): RunPlace {
    const { pieces } = this;
    let low = 0;
    let high = pieces.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >>> 1;
      if (pieces[middle]![0]!.page < page) low = middle;
      else high = middle - 1;
    }
    const piece = low;
    const runs = pieces[piece]!;
    low = 0;
    high = runs.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (runs[middle]!.page < page) low = middle + 1;
      else high = middle;
    }
    return new RunPlace(pieces, piece, low);
  }

  /** Puts in a run that lies behind all others. */
  append(run: PageRun): void {
    const runs = this.pieces.at(-1)!;
    if (runs.length < PIECE_RUNS) runs.push(run);
    else this.pieces.push([run]);
    this.size++;
  }

  insert({ piece, index }: RunPlace, run: PageRun): void {
    const { pieces } = this;
    const runs = pieces[piece]!;
    this.size++;
    if (runs.length < PIECE_RUNS) runs.splice(index, 0, run);
    // Runs that come in order fill their pieces.
    else if (index === runs.length) pieces.splice(piece + 1, 0, [run]);
    else {
      const right = runs.splice(PIECE_RUNS / 2);
      pieces.splice(piece + 1, 0, right);
      if (index <= runs.length) runs.splice(index, 0, run);
      else right.splice(index - runs.length, 0, run);
    }
  }

  /** Takes out the run behind a place. */
  remove({ piece, index }: RunPlace): void {
    const { pieces } = this;
    const runs = pieces[piece]!;
    runs.splice(index, 1);
    this.size--;
    const next = pieces[piece + 1];
    if (next !== undefined && runs.length + next.length <= PIECE_RUNS / 2) {
      runs.push(...next);
      pieces.splice(piece + 1, 1);
    } else if (runs.length === 0 && pieces.length > 1) pieces.splice(piece, 1);
  }
}

export class RunPlace {
  private readonly pieces: readonly PageRun[][];
  piece: number;
  /** Within the piece; its length only at the end of all. */
  index: number;

  constructor(pieces: readonly PageRun[][], piece: number, index: number) {
    this.pieces = pieces;
    this.piece = piece;
    this.index = index;
    this.enterPiece();
  }

  private enterPiece(): void {
    if (this.index < this.pieces[this.piece]!.length || this.piece + 1 === this.pieces.length) return;
    this.piece++;
    this.index = 0;
  }

  /** The run behind the place, if there is one. */
  get run(): PageRun | undefined {
    return this.pieces[this.piece]![this.index];
  }

  /** The run before the place, if there is one. */
  get before(): PageRun | undefined {
    return this.index > 0 ? this.pieces[this.piece]![this.index - 1] : this.pieces[this.piece - 1]?.at(-1);
  }

  /** Goes behind the run behind the place, which there is. */
  next(): void {
    this.index++;
    this.enterPiece();
  }

  /** Goes before the run before the place, which there is. */
  previous(): void {
    if (this.index === 0) this.index = this.pieces[--this.piece]!.length;
    this.index--;
  }
}
