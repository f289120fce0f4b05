/**
 * Decoded inodes in memory.
 *
 * There is at most one Inode object for an inode number that an open handle pins; it serves as the Attributes of
 * that inode too, so that getattr copies nothing. The cache is write-through: a change of an Inode is put into the
 * tree in the same operation, so anything unpinned can be dropped at any time. Eviction is second chance in the
 * order of a Map: what was used since it was last looked at goes to the end.
 */
import { FLAG_INLINE, InodeRecord } from '../encoding/inode.ts';
import type { Attributes } from './file-system.ts';

export class Inode extends InodeRecord implements Attributes {
  readonly inode: number;
  readonly blockSize: number;
  /** Open handles that hold this object. */
  pins = 0;
  /** Used since the cache last looked. */
  used = true;

  constructor(inode: number, blockSize: number) {
    super();
    this.inode = inode;
    this.blockSize = blockSize;
  }

  get isInline(): boolean {
    return (this.flags & FLAG_INLINE) !== 0;
  }

  /**
   * st_blocks. Content in the record and directories count what they hold: zero blocks with a size would make
   * tar and cp take the file for one hole.
   */
  get blocks(): number {
    if (this.pages > 0) return this.pages * (this.blockSize >>> 9);
    return this.isInline || this.isDirectory ? Math.ceil(this.size / 512) : 0;
  }
}

/** How many entries one insertion may look at, so that pinned ones cannot make it scan the whole cache. */
const EVICTION_STEPS = 16;

export class InodeCache {
  private readonly inodes = new Map<number, Inode>();
  private readonly capacity: number;

  constructor(capacity: number) {
    // An operation holds a handful of inodes at once and must not lose one of them to another.
    this.capacity = Math.max(64, capacity);
  }

  get size(): number {
    return this.inodes.size;
  }

  get(inode: number): Inode | undefined {
    const found = this.inodes.get(inode);
    if (found !== undefined) found.used = true;
    return found;
  }

  add(inode: Inode): void {
    this.inodes.set(inode.inode, inode);
    if (this.inodes.size > this.capacity) this.evict();
  }

  delete(inode: number): void {
    this.inodes.delete(inode);
  }

  clear(): void {
    this.inodes.clear();
  }

  private evict(): void {
    let steps = 0;
    for (const [number, inode] of this.inodes) {
      this.inodes.delete(number);
      if (inode.pins > 0 || inode.used) {
        inode.used = false;
        this.inodes.set(number, inode);
      }
      if (this.inodes.size <= this.capacity || ++steps === EVICTION_STEPS) return;
    }
  }
}
