/**
 * Links: for every entry of the namespace tree the inode tree has an item that leads back from the inode to it, so
 * that an inode's paths are found without a search.
 *
 * They are derived: no record of the log speaks of them, and wherever entries are put or deleted, in the live state and
 * in replay, they come out the same.
 */
import type { BTree } from '../btree/btree.ts';
import { tryDirentInode } from '../encoding/dirent.ts';
import { linkKey } from '../encoding/keys.ts';

const NOTHING = new Uint8Array(0);

/** Puts an entry, and moves the link of the inode that it meant to the one that it means. */
export function putEntry(namespace: BTree, inodes: BTree, key: Uint8Array, value: Uint8Array): void {
  const inode = tryDirentInode(value, 0, value.length);
  const before = inodeOf(namespace, key);
  namespace.put(key, value);
  if (before === inode) return;
  if (before !== 0) inodes.delete(linkKey(before, key));
  if (inode !== 0) inodes.put(linkKey(inode, key), NOTHING);
}

/** Deletes an entry and its link. Returns whether there was one. */
export function deleteEntry(namespace: BTree, inodes: BTree, key: Uint8Array): boolean {
  const inode = inodeOf(namespace, key);
  if (inode !== 0) inodes.delete(linkKey(inode, key));
  return namespace.delete(key);
}

/** The inode that an entry means; 0 when there is no entry, or one that means none. */
function inodeOf(namespace: BTree, key: Uint8Array): number {
  if (!namespace.find(key)) return 0;
  return tryDirentInode(namespace.page.bytes, namespace.valueStart, namespace.valueLength);
}
