/**
 * Open handles. A handle is a small number, reused after its release; it pins its inode in the cache, so that
 * reads and writes reach the Inode object without a lookup. When the state was rebuilt, handles lose their object
 * and find it again at their next use. `opens` counts handles an inode: an unlinked inode lives while it has one.
 */
import { PosixError } from '../errors.ts';
import type { DirectoryListing } from './directory-listing.ts';
import { O_ACCMODE, O_APPEND, O_NOATIME, O_RDONLY, O_WRONLY } from './file-system.ts';
import type { Inode } from './inode-cache.ts';

export class Handle {
  readonly number: number;
  inode: Inode | null;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly append: boolean;
  /** Reading through it leaves the access time. */
  readonly noAtime: boolean;
  /** Directory handles: the names returned so far. */
  readonly listing: DirectoryListing | null;

  constructor(inode: Inode, flags: number, listing: DirectoryListing | null) {
    this.number = inode.inode;
    this.inode = inode;
    this.readable = (flags & O_ACCMODE) !== O_WRONLY;
    this.writable = (flags & O_ACCMODE) !== O_RDONLY;
    this.append = (flags & O_APPEND) !== 0;
    this.noAtime = (flags & O_NOATIME) !== 0;
    this.listing = listing;
  }
}

export class HandleTable {
  private readonly slots: (Handle | undefined)[] = [];
  private readonly free: number[] = [];
  private readonly opens = new Map<number, number>();

  /** Open handles. */
  get size(): number {
    return this.slots.length - this.free.length;
  }

  open(inode: Inode, flags: number, listing: DirectoryListing | null): number {
    const handle = new Handle(inode, flags, listing);
    const slot = this.free.pop() ?? this.slots.length;
    this.slots[slot] = handle;
    inode.pins++;
    this.opens.set(inode.inode, (this.opens.get(inode.inode) ?? 0) + 1);
    return slot + 1;
  }

  /** @throws PosixError EBADF */
  get(number: number): Handle {
    const handle = this.slots[number - 1];
    if (handle === undefined) throw new PosixError('EBADF');
    return handle;
  }

  /** Closes a handle and returns it. @throws PosixError EBADF */
  close(number: number): Handle {
    const handle = this.get(number);
    this.slots[number - 1] = undefined;
    this.free.push(number - 1);
    if (handle.inode !== null) handle.inode.pins--;
    const left = (this.opens.get(handle.number) ?? 1) - 1;
    if (left === 0) this.opens.delete(handle.number);
    else this.opens.set(handle.number, left);
    return handle;
  }

  isOpen(inode: number): boolean {
    return this.opens.has(inode);
  }

  /** The inodes that are open, each once. */
  inodes(): Iterable<number> {
    return this.opens.keys();
  }

  /** The state was rebuilt: no Inode object is valid any more. */
  detach(): void {
    for (const handle of this.slots) if (handle !== undefined) handle.inode = null;
  }
}
