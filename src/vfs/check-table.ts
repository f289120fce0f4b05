/**
 * What the check of a file system knows of each inode: columns of numbers, 44 bytes an inode and 44 more for a
 * directory. Inodes are found by binary search as long as they come in the order of their numbers, as a scan gives
 * them; those that come later are in a map.
 */
import type { InodeRecord } from '../encoding/inode.ts';
import { S_IFDIR, S_IFMT } from './file-system.ts';

const EXISTS = 0x10;
const ORPHAN = 0x20;
/** An inode that is no directory, as far as is known. */
const NO_DIRECTORY = 0xffffffff;

function grownFloat(old: Float64Array): Float64Array<ArrayBuffer> {
  const column = new Float64Array(old.length * 2);
  column.set(old);
  return column;
}

function grownU32(old: Uint32Array): Uint32Array<ArrayBuffer> {
  const column = new Uint32Array(old.length * 2);
  column.set(old);
  return column;
}

export class InodeTable {
  count = 0;
  private numbers = new Float64Array(1024);
  private pageCounts = new Float64Array(1024);
  private linkCounts = new Uint32Array(1024);
  private entryCounts = new Uint32Array(1024);
  /** Sums over the entries that mean the inode, of their types and of the squares of these: enough to see if all agree. */
  private typeSums = new Uint32Array(1024);
  private typeSquares = new Uint32Array(1024);
  /** Checksums of the entries that mean the inode less those of its links: zero if they are the same. */
  private linkSums = new Uint32Array(1024);
  private directories = new Uint32Array(1024);
  private modes = new Uint16Array(1024);
  private flags = new Uint8Array(1024);
  /** Rows below it are in the order of numbers. */
  private ordered = 0;
  private readonly later = new Map<number, number>();

  private directoryCount = 0;
  private parents = new Float64Array(256);
  /** Sums over the entries that mean the directory. */
  private entryParents = new Float64Array(256);
  private sizes = new Float64Array(256);
  private entrySizes = new Float64Array(256);
  private childCounts = new Uint32Array(256);
  private subdirectoryCounts = new Uint32Array(256);

  /** The row of an inode, or -1. */
  find(inode: number): number {
    let low = 0;
    let high = this.ordered - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const at = this.numbers[middle]!;
      if (at === inode) return middle;
      if (at < inode) low = middle + 1;
      else high = middle - 1;
    }
    return this.later.get(inode) ?? -1;
  }

  /** The row of an inode; a new one if it has none. */
  row(inode: number): number {
    const found = this.find(inode);
    if (found >= 0) return found;
    if (this.count === this.numbers.length) this.grow();
    const row = this.count++;
    this.numbers[row] = inode;
    this.directories[row] = NO_DIRECTORY;
    if (row === this.ordered && (row === 0 || this.numbers[row - 1]! < inode)) this.ordered++;
    else this.later.set(inode, row);
    return row;
  }

  private grow(): void {
    this.numbers = grownFloat(this.numbers);
    this.pageCounts = grownFloat(this.pageCounts);
    this.linkCounts = grownU32(this.linkCounts);
    this.entryCounts = grownU32(this.entryCounts);
    this.typeSums = grownU32(this.typeSums);
    this.typeSquares = grownU32(this.typeSquares);
    this.linkSums = grownU32(this.linkSums);
    this.directories = grownU32(this.directories);
    const modes = new Uint16Array(this.modes.length * 2);
    modes.set(this.modes);
    this.modes = modes;
    const flags = new Uint8Array(this.flags.length * 2);
    flags.set(this.flags);
    this.flags = flags;
  }

  /** The row of what is known of an inode as a directory. */
  private directory(row: number): number {
    const known = this.directories[row]!;
    if (known !== NO_DIRECTORY) return known;
    if (this.directoryCount === this.parents.length) {
      this.parents = grownFloat(this.parents);
      this.entryParents = grownFloat(this.entryParents);
      this.sizes = grownFloat(this.sizes);
      this.entrySizes = grownFloat(this.entrySizes);
      this.childCounts = grownU32(this.childCounts);
      this.subdirectoryCounts = grownU32(this.subdirectoryCounts);
    }
    const directory = this.directoryCount++;
    this.directories[row] = directory;
    return directory;
  }

  number(row: number): number {
    return this.numbers[row]!;
  }
  exists(row: number): boolean {
    return (this.flags[row]! & EXISTS) !== 0;
  }
  mode(row: number): number {
    return this.modes[row]!;
  }
  links(row: number): number {
    return this.linkCounts[row]!;
  }
  isDirectory(row: number): boolean {
    return this.exists(row) && (this.modes[row]! & S_IFMT) === S_IFDIR;
  }
  isOrphan(row: number): boolean {
    return (this.flags[row]! & ORPHAN) !== 0;
  }
  /** Pages that the extents of the inode map. */
  pages(row: number): number {
    return this.pageCounts[row]!;
  }
  /** Entries that mean the inode. */
  entries(row: number): number {
    return this.entryCounts[row]!;
  }
  /** Whether the inode's links are the entries that mean it. */
  hasRightLinks(row: number): boolean {
    return this.linkSums[row] === 0;
  }
  addToLinkSum(row: number, checksum: number): void {
    this.linkSums[row]! += checksum;
  }
  /** The type that these entries say, as bits of a mode; 0 if there is none, -1 if they differ. */
  entryType(row: number): number {
    const entries = this.entryCounts[row]!;
    if (entries === 0) return 0;
    const type = this.typeSums[row]! / entries;
    return Number.isInteger(type) && this.typeSquares[row] === entries * type * type ? type << 12 : -1;
  }

  /** Of a directory: as its record says. */
  parent(row: number): number {
    return this.parents[this.directory(row)]!;
  }
  size(row: number): number {
    return this.sizes[this.directory(row)]!;
  }
  /** Where the entry is that means it, if that is one, and says that it is a directory; else 0. */
  entryParent(row: number): number {
    return this.entryCounts[row] === 1 ? this.entryParents[this.directory(row)]! : 0;
  }
  /** Entries in it, and how many of them are directories. */
  children(row: number): number {
    const directory = this.directories[row]!;
    return directory === NO_DIRECTORY ? 0 : this.childCounts[directory]!;
  }
  subdirectories(row: number): number {
    return this.subdirectoryCounts[this.directory(row)]!;
  }
  /** What its size must be. */
  entryBytes(row: number): number {
    return this.entrySizes[this.directory(row)]!;
  }

  setRecord(row: number, record: Readonly<InodeRecord>): void {
    this.flags[row] = this.flags[row]! | EXISTS;
    this.modes[row] = record.mode;
    this.linkCounts[row] = record.links;
    if ((record.mode & S_IFMT) !== S_IFDIR) return;
    const directory = this.directory(row);
    this.parents[directory] = record.parent;
    this.sizes[directory] = record.size;
  }
  clearRecord(row: number): void {
    this.flags[row] = this.flags[row]! & ~EXISTS;
  }
  setOrphan(row: number, isOrphan: boolean): void {
    this.flags[row] = isOrphan ? this.flags[row]! | ORPHAN : this.flags[row]! & ~ORPHAN;
  }
  setPages(row: number, pages: number): void {
    this.pageCounts[row] = pages;
  }

  /** An entry was found in (or is gone from) a directory. */
  changeEntries(row: number, children: number, bytes: number, subdirectories: number): void {
    const directory = this.directory(row);
    this.childCounts[directory]! += children;
    this.entrySizes[directory]! += bytes;
    this.subdirectoryCounts[directory]! += subdirectories;
  }

  /** An entry that means an inode was found (or is gone). */
  changeMeanings(row: number, sign: 1 | -1, type: number, parent: number): void {
    this.entryCounts[row]! += sign;
    const said = type >>> 12;
    this.typeSums[row]! += sign * said;
    this.typeSquares[row]! += sign * said * said;
    if (type !== S_IFDIR) return;
    this.entryParents[this.directory(row)]! += sign * parent;
  }
}
