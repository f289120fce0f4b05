/**
 * What a transaction changed in the live tree, for those who remember names and attributes: the kernel, on a mount.
 *
 * Numbers of inodes only grow, and nobody knows one that the transaction has made. So what happens in a new directory is
 * nobody's business, and a tree that is put into a new place is one entry. Beyond a limit it is "everything".
 */

import { CHANGES_MAXIMUM, type ClientChanges } from '../vfs/restore.ts';

export class TreeChanges {
  private firstNew = Number.POSITIVE_INFINITY;
  private everything: boolean;
  private entries: { parent: number; name: Uint8Array }[] = [];
  private readonly inodes = new Set<number>();

  /** Without anybody who wants to know it is everything from the beginning. */
  constructor(isFollowed: boolean) {
    this.everything = !isFollowed;
  }

  /** An inode was made under this name. */
  created(parent: number, name: Uint8Array, inode: number): void {
    this.firstNew = Math.min(this.firstNew, inode);
    this.entry(parent, name);
  }

  /** The name leads to something else now, or to nothing. */
  entry(parent: number, name: Uint8Array): void {
    if (parent >= this.firstNew) return;
    this.inode(parent);
    if (!this.everything) this.entries.push({ parent, name: Uint8Array.from(name) });
  }

  /** Attributes, content or the count of links changed. */
  inode(inode: number): void {
    if (inode >= this.firstNew || this.everything) return;
    this.inodes.add(inode);
    if (this.entries.length + this.inodes.size < CHANGES_MAXIMUM) return;
    this.everything = true;
    this.entries = [];
    this.inodes.clear();
  }

  /** Undefined when nothing changed. */
  get list(): ClientChanges | undefined {
    const { everything, entries, inodes } = this;
    if (!everything && entries.length === 0 && inodes.size === 0) return undefined;
    return { everything, entries, inodes: [...inodes] };
  }
}
