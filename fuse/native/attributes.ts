/**
 * Attributes as the native part takes them: numbers of 32 bits, times in milliseconds.
 *
 * An inode number has 32 bits here, where a node of the volume has a door and an inode of up to 40. Live files show their
 * inode number in the lower 31 bits. Past ones have bit 31 set, and the others mix door and inode so that the same file behind two
 * doors never has the same number (tools take that for the same file, and would not compare it), nor have two
 * files behind one door as long as inode numbers are below 2^31.
 */
import type { Attributes, FileSystemStatistics } from '../../src/vfs/file-system.ts';
import type { ShownOwner } from '../messages.ts';

const TWO_32 = 2 ** 32;
const INODE_MASK = 0x7fff_ffff;
const PAST_BIT = 0x8000_0000;
/** Odd, and far from a power of two: neighbouring doors are far apart. */
const DOOR_STRIDE = 0x9e3779b1;

/** Words of the array that a stat is copied from. */
export const STAT_WORDS = 18;
const STATFS_WORDS = 11;

/** The inode number that is shown. 0 would mean "no entry" to readdir(3). */
export function shownInode(door: number, inode: number): number {
  const low = (inode % TWO_32) | 0;
  if (door === 0) return low & INODE_MASK || INODE_MASK;
  return (((low + Math.imul(door, DOOR_STRIDE)) & INODE_MASK) | PAST_BIT) >>> 0;
}

/** What a time shows as: whole milliseconds, not before 1970, where the native part's arithmetic is unsigned. */
function milliseconds(seconds: number, nanoseconds: number): number {
  if (seconds < 0) return 0;
  return Math.min(seconds * 1000 + Math.floor(nanoseconds / 1_000_000), Number.MAX_SAFE_INTEGER);
}

function putWide(words: Uint32Array, at: number, value: number): void {
  words[at] = value % TWO_32;
  words[at + 1] = Math.floor(value / TWO_32);
}

export class StatWriter {
  private readonly shown: ShownOwner;

  constructor(shown: ShownOwner) {
    this.shown = shown;
  }

  /** Writes a stat into `words`, which has STAT_WORDS. */
  write(words: Uint32Array, door: number, a: Attributes): Uint32Array {
    words[0] = a.mode;
    words[1] = this.shown.uid ?? a.uid;
    words[2] = this.shown.gid ?? a.gid;
    putWide(words, 3, a.size);
    words[5] = 0;
    words[6] = a.links;
    words[7] = shownInode(door, a.inode);
    words[8] = a.device;
    words[9] = a.blockSize;
    putWide(words, 10, a.blocks);
    putWide(words, 12, milliseconds(a.accessSeconds, a.accessNanoseconds));
    putWide(words, 14, milliseconds(a.modifySeconds, a.modifyNanoseconds));
    putWide(words, 16, milliseconds(a.changeSeconds, a.changeNanoseconds));
    return words;
  }
}

/** An entry of a listing: its inode number and type alone are looked at. */
export function writeEntry(words: Uint32Array, door: number, inode: number, mode: number): void {
  words[0] = mode;
  words[7] = shownInode(door, inode);
}

/** The numbers of statfs. Blocks are counted in units that are large enough for 32 bits. */
export function statfsWords(s: FileSystemStatistics): Uint32Array {
  let unit = 1;
  while (s.blocks / unit >= TWO_32) unit *= 2;
  const count = (blocks: number): number => Math.floor(blocks / unit);
  const files = (number: number): number => Math.min(number, TWO_32 - 1);
  const words = new Uint32Array(STATFS_WORDS);
  words[0] = s.blockSize;
  words[1] = s.blockSize * unit;
  words[2] = count(s.blocks);
  words[3] = count(s.blocksFree);
  words[4] = count(s.blocksAvailable);
  words[5] = files(s.files);
  words[6] = files(s.filesFree);
  words[7] = files(s.filesFree);
  words[10] = s.nameMax;
  return words;
}
