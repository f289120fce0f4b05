/**
 * The value of a namespace key: which inode the name means, and its type, so that a listing need not read inodes.
 *
 *   type << 4 | n   u8    type: the upper four bits of st_mode; n: 1..7
 *   inode           n bytes, little-endian, the highest not zero
 */
import { LsnfsError } from '../errors.ts';
import { MAX_INODE } from './keys.ts';

export const DIRENT_MAX = 8;

/** Writes the value into `target`, which has DIRENT_MAX bytes. Returns its length. */
export function encodeDirent(target: Uint8Array, inode: number, mode: number): number {
  let length = 1;
  for (let rest = inode; rest > 0; rest = Math.floor(rest / 256)) target[length++] = rest % 256;
  target[0] = ((mode >>> 12) << 4) | (length - 1);
  return length;
}

/** The inode number of a value. @throws LsnfsError CORRUPT_RECORD */
export function direntInode(bytes: Uint8Array, start: number, length: number): number {
  const inode = tryDirentInode(bytes, start, length);
  if (inode === 0) fail(length);
  return inode;
}

/** The inode number of a value, or 0 when it is none of an entry. */
export function tryDirentInode(bytes: Uint8Array, start: number, length: number): number {
  const count = length === 0 ? 0 : bytes[start]! & 0x0f;
  if (count === 0 || count > 7 || length !== count + 1 || bytes[start + count] === 0) return 0;
  let inode = 0;
  for (let i = count; i > 0; i--) inode = inode * 256 + bytes[start + i]!;
  return inode > MAX_INODE ? 0 : inode;
}

/** The type of a value, as the type bits of a mode. Only for a value that `direntInode` accepted. */
export function direntType(bytes: Uint8Array, start: number): number {
  return (bytes[start]! >>> 4) << 12;
}

function fail(length: number): never {
  throw new LsnfsError('CORRUPT_RECORD', `a directory entry is damaged: ${length} bytes`, { length });
}
