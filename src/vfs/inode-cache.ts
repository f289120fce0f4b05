/**
 * Decoded inodes in memory.
 *
 * There is at most one Inode object for an inode number that an open handle pins; it serves as the Attributes of
 * that inode too, so that getattr copies nothing. The cache is write-through: a change of an Inode is put into the
 * tree in the same operation, so anything unpinned can be dropped at any time. Eviction is by clock (second
 * chance), over an array: a Map that is used as a queue walks over all that was deleted from its front.
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
  /** The clock: as many places as the capacity, in order of arrival; it may still hold what was deleted. */
  private readonly clock: Inode[] = [];
  private hand = 0;

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
    if (this.clock.length < this.capacity) this.clock.push(inode);
    else this.replace(inode);
  }

  delete(inode: number): void {
    this.inodes.delete(inode);
  }

  clear(): void {
    this.inodes.clear();
    this.clock.length = 0;
    this.hand = 0;
  }

  /** Puts an inode in the place of the first one that the hand finds unused and unpinned. */
  private replace(inode: Inode): void {
    for (let steps = 0; ; steps++) {
      if (this.hand === this.clock.length) this.hand = 0;
      const candidate = this.clock[this.hand]!;
      const current = this.inodes.get(candidate.inode) === candidate;
      if (current && steps < EVICTION_STEPS && (candidate.pins > 0 || candidate.used)) {
        candidate.used = false;
        this.hand++;
        continue;
      }
      if (current && candidate.pins > 0) {
        // Everything around is pinned: the clock grows.
        this.clock.push(inode);
        return;
      }
      if (current) this.inodes.delete(candidate.inode);
      this.clock[this.hand++] = inode;
      return;
    }
  }
}
