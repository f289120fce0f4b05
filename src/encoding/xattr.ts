/**
 * Extended attributes in the inode tree. A value is cut into chunks under keys that differ in the chunk number
 * (keys.ts); chunk 0 begins with the length of the whole value, so that none is empty and a missing one is found.
 *
 *   chunk 0:   length u32 | the first bytes
 *   chunk n:   the next bytes
 *
 * Every chunk but the last is `xattrChunkSize` bytes long, the length included.
 */
import { LsnfsError } from '../errors.ts';
import { KIND_XATTR } from './keys.ts';

export const XATTR_HEADER = 4;
/** XATTR_SIZE_MAX of Linux. */
export const XATTR_VALUE_MAX = 65_536;

export function xattrChunkSize(pageSize: number): number {
  return pageSize >>> 2;
}

/** How many chunks a value of `length` bytes takes. */
export function xattrChunkCount(pageSize: number, length: number): number {
  return Math.ceil((XATTR_HEADER + length) / xattrChunkSize(pageSize));
}

/** Whether the key belongs to the xattrs of an inode; then its name is [9, returned value) and the chunk follows. */
export function xattrKeyNameEnd(key: Uint8Array): number {
  if (key.length < 13 || key[8] !== KIND_XATTR || key[key.length - 3] !== 0) {
    throw new LsnfsError(
      'CORRUPT_RECORD',
      `the key of an extended attribute is damaged: ${key.length} bytes`,
      {
        length: key.length,
      },
    );
  }
  return key.length - 3;
}
