/**
 * The trees of files of the history benchmark, the same from the same seed in a store and in a directory: 100 files a
 * directory. Contents have generations; a change of a file is its next one, whole, as long as before.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import type { Database } from '../src/index.ts';
import { Random } from '../test/helpers/random.ts';
import { noise } from './measure.ts';

export const FILES_PER_DIRECTORY = 100;
/** Files of one transaction when a store is filled. */
const BATCH_FILES = 10_000;

export interface TreeOptions {
  /** Bytes of the smallest and of the largest file; the logarithms in between are equally likely. Default: about 200. */
  readonly bytes?: readonly [least: number, most: number];
  /** What the names of its directories begin with. Default: "directory". */
  readonly name?: string;
}

export class SeededTree {
  readonly files: number;
  private readonly seed: number;
  private readonly sizes: readonly [least: number, most: number];
  private readonly name: string;

  constructor(files: number, seed: number, { bytes = [180, 220], name = 'directory' }: TreeOptions = {}) {
    this.files = files;
    this.seed = seed;
    this.sizes = bytes;
    this.name = name;
  }

  /** The name of a directory, from that of one of its files. */
  directoryOf(file: number): string {
    return `${this.name}-${String(Math.floor(file / FILES_PER_DIRECTORY)).padStart(6, '0')}`;
  }

  pathOf(file: number): string {
    return `${this.directoryOf(file)}/file-${String(file % FILES_PER_DIRECTORY).padStart(2, '0')}`;
  }

  /** Bytes of a file, a multiple of 4. */
  sizeOf(file: number): number {
    const [least, most] = this.sizes;
    const part = new Random(Math.imul(file + 1, 0x27d4eb2f) ^ this.seed).below(1001) / 1000;
    return Math.floor((least * (most / least) ** part) / 4) * 4;
  }

  /** Bytes of all files. */
  get bytes(): number {
    let sum = 0;
    for (const file of this.all()) sum += this.sizeOf(file);
    return sum;
  }

  content(file: number, generation: number): Buffer {
    const mixed = Math.imul(file + 1, 0x9e3779b1) ^ Math.imul(generation + 1, 0x85ebca6b) ^ this.seed;
    return noise(this.sizeOf(file), mixed);
  }

  /** That many different files, drawn from the seed and `what`, in order. */
  draw(count: number, what: number): number[] {
    const random = new Random(Math.imul(what + 1, 0xc2b2ae35) ^ this.seed);
    const drawn = new Set<number>();
    while (drawn.size < Math.min(count, this.files)) drawn.add(random.below(this.files));
    return [...drawn].sort((a, b) => a - b);
  }

  /** The files of the directory that one file is in. */
  siblings(file: number): number[] {
    const first = file - (file % FILES_PER_DIRECTORY);
    const count = Math.min(FILES_PER_DIRECTORY, this.files - first);
    return Array.from({ length: count }, (_, i) => first + i);
  }

  /** Puts files of a generation into a store, in transactions of 10,000. Returns the LSN after the last. */
  async put(database: Database, files: Iterable<number>, generation: number): Promise<number> {
    let batch: number[] = [];
    let last = database.lsn;
    const flush = async (): Promise<void> => {
      const { lsn } = await database.transaction((transaction) => {
        for (const file of batch) transaction.put(this.pathOf(file), this.content(file, generation));
      });
      last = lsn;
      batch = [];
    };
    for (const file of files) {
      batch.push(file);
      if (batch.length === BATCH_FILES) await flush();
    }
    if (batch.length > 0) await flush();
    return last;
  }

  /** Writes files of a generation into a directory; those above them are made where they are missing. */
  write(directory: string, files: Iterable<number>, generation: number): void {
    for (const file of files) {
      if (file % FILES_PER_DIRECTORY === 0)
        fs.mkdirSync(join(directory, this.directoryOf(file)), { recursive: true });
      fs.writeFileSync(join(directory, this.pathOf(file)), this.content(file, generation));
    }
  }

  *all(): Generator<number> {
    for (let file = 0; file < this.files; file++) yield file;
  }
}
