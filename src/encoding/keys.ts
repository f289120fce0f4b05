/**
 * The keys of the trees.
 *
 * A path is stored as a chain of keys, one a component: in the namespace tree the key of an entry is its
 * directory's inode number followed by its name. So a directory's entries are one contiguous range in name
 * order, renaming a directory of any size changes one key, a name has no cost for its depth, hard links and
 * directories are treated alike, and no key is longer than a page can hold (a path of 4,095 bytes would not
 * fit a page of 4,096; see "Why the key of a path is (directory, name)" in docs/ARCHITECTURE.md).
 *
 * namespace tree:  [directory u64be][name 1..255 bytes]           → child
 * inode tree:      [inode u64be][0x10]                            → inode record (and inline content)
 *                  [inode u64be][0x18][directory u64be][name]     → link: the key of an entry that means the inode
 *                  [inode u64be][0x20][name][0x00][chunk u16be]   → a chunk of the value of an xattr
 *                  [inode u64be][0x30][block u64be]               → extent: file block → run of pages
 *                  [0 u64be][0x01][inode u64be]                   → orphan: unlinked, but was open
 * registry tree:   [name]                                         → snapshot row
 */
import { getU64BE, putU64BE } from './bytes.ts';

/** Which tree a record speaks of; also the tree number in a page's header. */
export const TREE = {
  namespace: 1,
  inodes: 2,
  registry: 3,
  versions: 4,
  lifetimes: 5,
  free: 6,
  lives: 7,
} as const;
export type TreeId = (typeof TREE)[keyof typeof TREE];

export const KIND_ORPHAN = 0x01;
export const KIND_INODE = 0x10;
export const KIND_LINK = 0x18;
export const KIND_XATTR = 0x20;
export const KIND_EXTENT = 0x30;

/** Bytes of an extent's key. */
export const EXTENT_KEY_LENGTH = 17;

/** NAME_MAX of Linux: bytes in one name. */
export const NAME_MAX = 255;
/** Inode numbers are below 2^40, so that a mount has room for the number of a past state beside one. */
export const MAX_INODE = 2 ** 40 - 1;
/** No key of any tree is longer. */
export const KEY_MAX = 8 + 1 + 8 + NAME_MAX;

export function namespaceKey(directory: number, name: Uint8Array): Buffer {
  const key = Buffer.allocUnsafe(8 + name.length);
  putU64BE(key, 0, directory);
  key.set(name, 8);
  return key;
}

export function inodeKey(inode: number): Buffer {
  const key = Buffer.allocUnsafe(9);
  putU64BE(key, 0, inode);
  key[8] = KIND_INODE;
  return key;
}

export function extentKey(inode: number, block: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  putU64BE(key, 0, inode);
  key[8] = KIND_EXTENT;
  putU64BE(key, 9, block);
  return key;
}

/** The link of an inode: `entry` is the key in the namespace tree. */
export function linkKey(inode: number, entry: Uint8Array): Buffer {
  const key = Buffer.allocUnsafe(9 + entry.length);
  putU64BE(key, 0, inode);
  key[8] = KIND_LINK;
  key.set(entry, 9);
  return key;
}

export function xattrKey(inode: number, name: Uint8Array, chunk: number): Buffer {
  const key = Buffer.allocUnsafe(12 + name.length);
  putU64BE(key, 0, inode);
  key[8] = KIND_XATTR;
  key.set(name, 9);
  key[9 + name.length] = 0;
  key[10 + name.length] = chunk >>> 8;
  key[11 + name.length] = chunk;
  return key;
}

export function orphanKey(inode: number): Buffer {
  const key = Buffer.allocUnsafe(17);
  putU64BE(key, 0, 0);
  key[8] = KIND_ORPHAN;
  putU64BE(key, 9, inode);
  return key;
}

/** The first eight bytes of a namespace or inode key as a number. */
export function keyInode(key: Uint8Array): number {
  return getU64BE(key, 0);
}

/** The block number of an extent key. */
export function extentKeyBlock(key: Uint8Array): number {
  return getU64BE(key, 9);
}
