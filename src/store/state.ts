/**
 * What the layers above the store see of one state: the live one, a version, or a state between versions.
 *
 * Reading is the same for all of them. Only the live state can be changed, and only inside a transaction:
 * every change is a record that is appended to the log and applied to the trees by the one function that
 * replay uses too (apply.ts).
 */
import type { BTree } from '../btree/btree.ts';
import type { TreeId } from '../encoding/keys.ts';

/** Counters that are part of a state and stored in its root page. */
export interface Counters {
  /** The next inode number to be given; numbers are never reused. */
  nextInode: number;
  /** Inode records, of every type, orphans included. */
  inodes: number;
  /** Blocks of file data that extents map, unwritten ones included. */
  dataPages: number;
}

export interface StateReader {
  /** The state after all transactions that end at or before this LSN. For the live state it grows. */
  readonly lsn: number;
  readonly pageSize: number;
  readonly namespace: BTree;
  readonly inodes: BTree;
  readonly counters: Readonly<Counters>;
  /**
   * Reads file data that is kept in extents (not inline content) into `target`. Holes and everything past
   * the last extent read as zeros; the caller clips to the file's size.
   * @throws CorruptPageError when a data page does not match its checksum.
   */
  readData(inode: number, offset: number, target: Uint8Array, targetStart: number, length: number): void;
  /** The first offset ≥ `offset` that is in an extent, or -1 (SEEK_DATA; the caller clips to the size). */
  seekData(inode: number, offset: number): number;
  /** The first offset ≥ `offset` that is not in an extent (SEEK_HOLE; the caller clips to the size). */
  seekHole(inode: number, offset: number): number;
}

/**
 * The live state as the VFS changes it.
 *
 * `begin` … `commit` brackets one operation; all its changes become one transaction (or part of the enclosing
 * one of the API). Validate first, change afterwards: `rollback` without a change is free, after a change it
 * rebuilds the live state from the last version and the log (rare: a corrupt page or a full disk midway) and
 * calls the `onReset` listeners, who must forget what they cached.
 */
export interface LiveState extends StateReader {
  readonly readOnly: boolean;
  /**
   * Opens an operation. One that `frees`, for it only takes away, is let through on a full disk.
   * @throws LsnfsError READ_ONLY, STORE_FAILED, NO_SPACE or NO_DESCRIPTORS.
   */
  begin(frees?: boolean): void;
  /** Ends the operation. Returns the LSN at which it ends; it is durable once `durableLsn` reaches that. */
  commit(): number;
  rollback(): void;
  /** Called when the live state was brought back to an earlier point: cached copies of it are stale. */
  onReset(listener: () => void): void;

  /** A new inode number. */
  allocateInode(): number;
  put(tree: TreeId, key: Uint8Array, value: Uint8Array): void;
  /** Deletes a key that may be absent. Returns whether it was there. */
  delete(tree: TreeId, key: Uint8Array): boolean;
  /**
   * Writes file data into extents: whole large pieces straight to their place in the data file, the rest
   * through the log. Never touches the inode record. Returns how many pages became mapped that were holes.
   */
  writeData(inode: number, offset: number, source: Uint8Array, sourceStart: number, length: number): number;
  /** Maps holes in the range to unwritten extents that read as zeros (fallocate). Returns how many pages became mapped. */
  allocateData(inode: number, offset: number, length: number): number;
  /**
   * Makes a hole of the blocks [firstBlock, firstBlock + blockCount); Infinity reaches to the end.
   * Returns how many pages were unmapped. Bytes in partial blocks are the caller's to zero with writeData.
   */
  unmapData(inode: number, firstBlock: number, blockCount: number): number;
}

/**
 * A live state that can be restored. The operation is one that the store was asked to make (`Store.restore`), and these
 * are the first changes in it.
 */
export interface RestorableState extends LiveState {
  /** The files become those of the state at an LSN; orphans of that state are the caller's to remove. */
  restoreTo(lsn: number): void;
  /** `takeInode` means the state at an LSN; after a `restoreTo` the present `lsn` is the state before that. */
  restoreFrom(lsn: number): void;
  /** The record, attributes and content of an inode become those of the other state. */
  takeInode(inode: number): void;
}
