/**
 * The content of regular files and symbolic links: in the inode record while it is small, in extents otherwise.
 *
 * Invariants: content is inline iff FLAG_INLINE is set, and then there are no extents; what a page holds past the
 * end of the file is zero, so that a file that grows again reads zeros. All functions run inside a transaction
 * and leave the record for the caller to put.
 */
import { FLAG_INLINE, FLAG_PREALLOCATED, inlineMax } from '../encoding/inode.ts';
import type { LiveState } from '../store/state.ts';
import type { Inode } from './inode-cache.ts';

const ZEROS = Buffer.alloc(16_384);

export class Content {
  private readonly state: LiveState;
  private readonly inlineMax: number;

  constructor(state: LiveState) {
    this.state = state;
    this.inlineMax = inlineMax(state.pageSize);
  }

  write(inode: Inode, offset: number, source: Uint8Array, sourceStart: number, length: number): void {
    const end = offset + length;
    if (inode.isInline) {
      if (end <= this.inlineMax) {
        const content = this.growInline(inode, end, offset);
        content.set(source.subarray(sourceStart, sourceStart + length), offset);
        return;
      }
      this.toExtents(inode, offset === 0 && end >= inode.size);
    }
    inode.pages += this.state.writeData(inode.inode, offset, source, sourceStart, length);
    if (end > inode.size) inode.size = end;
  }

  /**
   * The first content of a new inode that nobody keeps: what fits its record is not copied, and must stay as it is until
   * the record is put.
   */
  writeFirst(inode: Inode, content: Uint8Array): void {
    if (content.length > this.inlineMax) {
      this.write(inode, 0, content, 0, content.length);
      return;
    }
    inode.content = Buffer.isBuffer(content)
      ? content
      : Buffer.from(content.buffer, content.byteOffset, content.length);
    inode.size = content.length;
  }

  /** Makes the inline content at least `size` bytes long. What is new before `zeroUpTo` is zero. */
  private growInline(inode: Inode, size: number, zeroUpTo: number): Buffer {
    let { content } = inode;
    if (content === null || content.length < size) {
      // Room for more: small files grow by small appends.
      const larger = Buffer.allocUnsafe(Math.min(this.inlineMax, Math.max(size, inode.size * 2)));
      content?.copy(larger, 0, 0, inode.size);
      content = larger;
      inode.content = larger;
    }
    if (zeroUpTo > inode.size) content.fill(0, inode.size, zeroUpTo);
    if (size > inode.size) inode.size = size;
    return content;
  }

  /** Moves inline content into extents; `discard`: it is about to be overwritten. */
  private toExtents(inode: Inode, discard: boolean): void {
    inode.flags &= ~FLAG_INLINE;
    if (inode.size > 0 && !discard) {
      inode.pages += this.state.writeData(inode.inode, 0, inode.content!, 0, inode.size);
    }
    inode.content = null;
  }

  resize(inode: Inode, size: number): void {
    if (inode.isInline) {
      if (size > this.inlineMax) {
        this.toExtents(inode, false);
        inode.size = size;
      } else if (size > inode.size) this.growInline(inode, size, size);
      else inode.size = size;
      return;
    }
    const { pageSize } = this.state;
    // Space set aside behind the end goes with any change of the size: behind a write-back cache the size that is
    // known here may still be smaller than the one that programs see shrink.
    if (size < inode.size || (inode.flags & FLAG_PREALLOCATED) !== 0) {
      const keep = Math.ceil(size / pageSize);
      inode.pages -= this.state.unmapData(inode.inode, keep, Number.POSITIVE_INFINITY);
      if (size < inode.size && keep * pageSize > size) this.zeroMapped(inode, size, keep * pageSize);
    }
    inode.flags &= ~FLAG_PREALLOCATED;
    inode.size = size;
    if (size === 0) inode.flags |= FLAG_INLINE;
  }

  /** Maps the range to pages of zeros where it is a hole. */
  allocate(inode: Inode, offset: number, end: number, keepSize: boolean): void {
    if (inode.isInline) {
      if (end <= this.inlineMax) {
        if (!keepSize && end > inode.size) this.growInline(inode, end, end);
        return;
      }
      this.toExtents(inode, false);
    }
    inode.pages += this.state.allocateData(inode.inode, offset, end - offset);
    if (end <= inode.size) return;
    if (keepSize) inode.flags |= FLAG_PREALLOCATED;
    else inode.size = end;
  }

  /** Makes the range read as zeros: whole blocks become holes. */
  punch(inode: Inode, offset: number, end: number): void {
    if (inode.isInline) {
      if (offset < inode.size) inode.content!.fill(0, offset, Math.min(end, inode.size));
      return;
    }
    const { pageSize } = this.state;
    const first = Math.ceil(offset / pageSize);
    const last = Math.floor(end / pageSize);
    if (first > last) {
      this.zeroMapped(inode, offset, end);
      return;
    }
    if (first < last) inode.pages -= this.state.unmapData(inode.inode, first, last - first);
    if (offset < first * pageSize) this.zeroMapped(inode, offset, first * pageSize);
    if (last * pageSize < end) this.zeroMapped(inode, last * pageSize, end);
  }

  /** Zeroes a range within one block, unless the block is a hole. */
  private zeroMapped(inode: Inode, start: number, end: number): void {
    if (this.state.seekData(inode.inode, start) !== start) return;
    this.state.writeData(inode.inode, start, ZEROS, 0, end - start);
  }
}
