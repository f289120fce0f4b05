/**
 * One state as trees: the live one, a version, or a version with log replayed on top.
 *
 * File data. A file's blocks are mapped by extents in the inode tree (encoding/extent.ts). Data that came through
 * the log is in dirty data pages (temporary numbers) until a checkpoint gives it a place; changing a block whose
 * page is dirty and not held by a seal changes that page, anything else maps a new page. A page of data never has
 * two parents in one state.
 *
 * The `apply` methods are what the records of the log do (apply.ts); nothing else changes a state.
 */
import { BTree, type Cursor } from '../btree/btree.ts';
import { putU64BE } from '../encoding/bytes.ts';
import { crc32 } from '../encoding/checksum.ts';
import {
  decodeExtent,
  type Extent,
  encodeExtent,
  extentBirth,
  extentChecksum,
  extentCount,
  extentPage,
  MAX_EXTENT_PAGES,
  MAX_UNWRITTEN_BLOCKS,
  sliceExtent,
  UNWRITTEN,
} from '../encoding/extent.ts';
import {
  extentKey,
  extentKeyBlock,
  KIND_EXTENT,
  KIND_INODE,
  keyInode,
  TREE,
  type TreeId,
} from '../encoding/keys.ts';
import { isTemporary, NO_PAGE } from '../encoding/page.ts';
import type { VersionRoot } from '../encoding/root.ts';
import { CorruptPageError } from '../errors.ts';
import { DirtyPages, type PageMark } from '../storage/dirty-pages.ts';
import type { PageCache } from '../storage/page-cache.ts';
import { deleteEntry, putEntry } from './links.ts';
import type { Counters, StateReader } from './state.ts';

/** Extents that are found before they are dropped. */
const DROPPED_EXTENTS = 64;

/** An extent as a search found it: where it lies, without a copy. */
interface Found {
  block: number;
  count: number;
  page: number;
}

export class TreeState implements StateReader {
  lsn: number;
  timeMicroseconds: number;
  readonly pageSize: number;
  readonly pages: DirtyPages;
  readonly namespace: BTree;
  readonly inodes: BTree;
  readonly registry: BTree;
  readonly counters: Counters;
  /** While a restore replays what it restores: pages made since this mark are of that. */
  restoreMark: PageMark = { tree: 0, data: 0 };
  private readonly cursor: Cursor;
  private readonly searchKey = Buffer.alloc(17);
  private readonly found: Found = { block: 0, count: 0, page: 0 };

  constructor(cache: PageCache, root: Readonly<VersionRoot>, tracking: boolean, reusing = false) {
    this.lsn = root.lsn;
    this.timeMicroseconds = root.timeMicroseconds;
    this.pageSize = cache.pageSize;
    this.pages = new DirtyPages(cache, tracking, reusing);
    this.namespace = new BTree(this.pages, TREE.namespace, root.namespace, root.namespace.pageCount);
    this.inodes = new BTree(this.pages, TREE.inodes, root.inodes, root.inodes.pageCount);
    this.registry = new BTree(this.pages, TREE.registry, root.registry, root.registry.pageCount);
    this.counters = { nextInode: root.nextInode, inodes: root.inodeCount, dataPages: root.dataPages };
    this.cursor = this.inodes.cursor();
  }

  /** The state before the first transaction. */
  static empty(lsn: number, timeMicroseconds: number): VersionRoot {
    const tree = { ...NO_PAGE, pageCount: 0 };
    return {
      lsn,
      timeMicroseconds,
      namespace: tree,
      inodes: tree,
      registry: tree,
      nextInode: 1,
      inodeCount: 0,
      dataPages: 0,
    };
  }

  /** All trees of the state. */
  trees(): BTree[] {
    return [this.namespace, this.inodes, this.registry];
  }

  tree(id: TreeId): BTree {
    return id === TREE.namespace ? this.namespace : id === TREE.inodes ? this.inodes : this.registry;
  }

  applyPut(id: TreeId, key: Uint8Array, value: Uint8Array): void {
    if (id === TREE.namespace) {
      putEntry(this.namespace, this.inodes, key, value);
      return;
    }
    const isNew = this.tree(id).put(key, value);
    if (isNew && id === TREE.inodes && isInodeKey(key)) {
      this.counters.inodes++;
      const inode = keyInode(key);
      if (inode >= this.counters.nextInode) this.counters.nextInode = inode + 1;
    }
  }

  applyDelete(id: TreeId, key: Uint8Array): boolean {
    if (id === TREE.namespace) return deleteEntry(this.namespace, this.inodes, key);
    const existed = this.tree(id).delete(key);
    if (existed && id === TREE.inodes && isInodeKey(key)) this.counters.inodes--;
    return existed;
  }

  /** Positions the cursor at the extent that covers `block`, or else at the next one of the inode, if any. */
  private findExtent(inode: number, block: number): boolean {
    const key = this.searchKey;
    extentKeyInto(key, inode, block + 1);
    const cursor = this.cursor;
    if (cursor.seekBefore(key) && this.loadFound(inode) && this.found.block + this.found.count > block)
      return true;
    extentKeyInto(key, inode, block);
    return cursor.seek(key) && this.loadFound(inode);
  }

  /** Reads the extent under the cursor into `found`; false when it is not an extent of the inode. */
  private loadFound(inode: number): boolean {
    const cursor = this.cursor;
    if (!cursor.valid || cursor.keyLength !== 17) return false;
    const key = this.keyBuffer;
    cursor.copyKey(key, 0);
    if (key[8] !== KIND_EXTENT || keyInode(key) !== inode) return false;
    const bytes = cursor.page.bytes;
    this.found.block = extentKeyBlock(key);
    this.found.count = extentCount(bytes, cursor.valueStart);
    this.found.page = extentPage(bytes, cursor.valueStart);
    return true;
  }

  private readonly keyBuffer = Buffer.alloc(300);

  readData(inode: number, offset: number, target: Uint8Array, targetStart: number, length: number): void {
    const { pageSize, found, cursor } = this;
    const end = offset + length;
    let position = offset;
    let has = this.findExtent(inode, Math.floor(offset / pageSize));
    while (position < end) {
      const block = Math.floor(position / pageSize);
      while (has && found.block + found.count <= block) has = cursor.next() && this.loadFound(inode);
      const at = targetStart + (position - offset);
      if (!has || found.block * pageSize >= end) {
        target.fill(0, at, targetStart + length);
        return;
      }
      if (found.block > block) {
        const stop = found.block * pageSize;
        target.fill(0, at, targetStart + (stop - offset));
        position = stop;
        continue;
      }
      const stop = Math.min(end, (found.block + found.count) * pageSize);
      this.readExtent(inode, position, target, at, stop - position);
      position = stop;
    }
  }

  /** Reads [position, position + length) of a file, all inside the extent under the cursor. */
  private readExtent(inode: number, position: number, target: Uint8Array, at: number, length: number): void {
    const { pageSize, found, cursor } = this;
    if (found.page === UNWRITTEN) {
      target.fill(0, at, at + length);
      return;
    }
    if (isTemporary(found.page)) {
      let copied = 0;
      while (copied < length) {
        const within = (position + copied) % pageSize;
        const block = Math.floor((position + copied) / pageSize);
        const page = this.pages.dataPage(found.page + (block - found.block));
        const count = Math.min(pageSize - within, length - copied);
        target.set(page.bytes.subarray(within, within + count), at + copied);
        copied += count;
      }
      return;
    }
    const first = Math.floor(position / pageSize);
    const last = Math.floor((position + length - 1) / pageSize);
    const head = position - first * pageSize;
    const aligned = head === 0 && length === (last - first + 1) * pageSize;
    const count = last - first + 1;
    const buffer = aligned ? target : this.scratch(count * pageSize);
    const start = aligned ? at : 0;
    const index = first - found.block;
    this.pages.cache.readData(found.page + index, count, buffer, start);
    for (let i = 0; i < count; i++) {
      const expected = extentChecksum(cursor.page.bytes, cursor.valueStart, index + i);
      const computed = crc32(buffer, start + i * pageSize, start + (i + 1) * pageSize);
      if (expected !== computed) this.failData(inode, first + i, found.page + index + i, expected, computed);
    }
    if (!aligned) target.set(buffer.subarray(head, head + length), at);
  }

  private failData(inode: number, block: number, page: number, expected: number, found: number): never {
    const offset = page * this.pageSize;
    throw new CorruptPageError(
      `block ${block} of inode ${inode} (page ${page} at offset ${offset} of the data file) is corrupt: checksum expected ${expected}, found ${found}`,
      { page, offset, inode, block, expected, found },
    );
  }

  private scratchBuffer = Buffer.alloc(0);
  private scratch(size: number): Buffer {
    if (this.scratchBuffer.length < size) this.scratchBuffer = Buffer.allocUnsafeSlow(size);
    return this.scratchBuffer;
  }

  seekData(inode: number, offset: number): number {
    const block = Math.floor(offset / this.pageSize);
    let has = this.findExtent(inode, block);
    while (has && this.found.page === UNWRITTEN) has = this.cursor.next() && this.loadFound(inode);
    if (!has) return -1;
    return Math.max(offset, this.found.block * this.pageSize);
  }

  seekHole(inode: number, offset: number): number {
    let block = Math.floor(offset / this.pageSize);
    let has = this.findExtent(inode, block) && this.found.block <= block;
    if (!has || this.found.page === UNWRITTEN) return offset;
    do {
      block = this.found.block + this.found.count;
      has = this.cursor.next() && this.loadFound(inode);
    } while (has && this.found.block === block && this.found.page !== UNWRITTEN);
    return block * this.pageSize;
  }

  /** Applies a write of file data that travels in the log. Returns how many blocks were holes. */
  applyWrite(inode: number, offset: number, source: Uint8Array, sourceStart: number, length: number): number {
    const { pageSize, pages, found } = this;
    const end = offset + length;
    let position = offset;
    let mapped = 0;
    while (position < end) {
      const block = Math.floor(position / pageSize);
      const within = position - block * pageSize;
      const covered = this.findExtent(inode, block) && found.block <= block;
      if (covered && isTemporary(found.page)) {
        const page = pages.dataPage(found.page + (block - found.block));
        if (pages.isWritable(page)) {
          const count = Math.min(pageSize - within, end - position);
          page.bytes.set(
            source.subarray(sourceStart + position - offset, sourceStart + position - offset + count),
            within,
          );
          position += count;
          continue;
        }
      }
      // A run of blocks that need new pages: up to the end of the write, of the extent, or of the hole.
      const lastBlock = Math.floor((end - 1) / pageSize);
      let run = Math.min(lastBlock - block + 1, MAX_EXTENT_PAGES);
      if (covered) run = Math.min(run, found.block + found.count - block);
      else if (found.block > block && this.cursor.valid)
        run = Math.min(run, Math.max(1, found.block - block));
      const writeEnd = Math.min(end, (block + run) * pageSize);
      const tail = writeEnd % pageSize;
      const head = covered && within !== 0 ? this.readBlock(inode, block) : undefined;
      const last =
        covered && tail !== 0 && (run > 1 || within === 0)
          ? this.readBlock(inode, block + run - 1)
          : undefined;
      const first = pages.createData(run);
      for (let i = 0; i < run; i++) {
        const bytes = pages.dataPage(first + i).bytes;
        const blockStart = (block + i) * pageSize;
        const from = Math.max(position, blockStart);
        const to = Math.min(writeEnd, blockStart + pageSize);
        if (from > blockStart || to < blockStart + pageSize) {
          const old =
            i === 0 && head !== undefined ? head : i === run - 1 && last !== undefined ? last : undefined;
          if (old !== undefined) old.copy(bytes);
          else bytes.fill(0);
        }
        const sourceAt = sourceStart + (from - offset);
        bytes.set(source.subarray(sourceAt, sourceAt + (to - from)), from - blockStart);
      }
      mapped += run - this.applyUnmap(inode, block, run);
      this.putTemporary(inode, block, first, run);
      this.counters.dataPages += run;
      position = writeEnd;
    }
    return mapped;
  }

  private readBlock(inode: number, block: number): Buffer {
    const bytes = Buffer.allocUnsafe(this.pageSize);
    this.readData(inode, block * this.pageSize, bytes, 0, this.pageSize);
    return bytes;
  }

  /**
   * Maps blocks to new temporary pages, as part of the extent before them where numbers follow on. Pages of one
   * extent are always on the same side of every seal, so that a checkpoint can place an extent as a whole.
   */
  private putTemporary(inode: number, block: number, page: number, count: number): void {
    const { found } = this;
    if (
      block > 0 &&
      this.findExtent(inode, block - 1) &&
      found.block + found.count === block &&
      isTemporary(found.page) &&
      found.page + found.count === page &&
      this.pages.isWritable(this.pages.dataPage(found.page)) &&
      found.count + count <= MAX_EXTENT_PAGES
    ) {
      const joined = found.count + count;
      const value = encodeExtent({
        block: found.block,
        page: found.page,
        count: joined,
        birth: 0,
        checksums: new Uint32Array(joined),
      });
      this.inodes.put(extentKey(inode, found.block), value);
      return;
    }
    const value = encodeExtent({ block, page, count, birth: 0, checksums: new Uint32Array(count) });
    this.inodes.put(extentKey(inode, block), value);
  }

  /** Maps blocks to pages of the data file that are written already. Returns how many were holes. */
  applyMap(inode: number, extent: Readonly<Extent>): number {
    const dropped = this.applyUnmap(inode, extent.block, extent.count);
    this.inodes.put(extentKey(inode, extent.block), encodeExtent(extent));
    this.counters.dataPages += extent.count;
    return extent.count - dropped;
  }

  /** Maps the holes among the blocks to unwritten extents. Returns how many there were. */
  applyAllocate(inode: number, firstBlock: number, blockCount: number): number {
    const { found } = this;
    const end = firstBlock + blockCount;
    let block = firstBlock;
    let mapped = 0;
    while (block < end) {
      const has = this.findExtent(inode, block);
      if (has && found.block <= block) {
        block = found.block + found.count;
        continue;
      }
      const run = Math.min(end - block, MAX_UNWRITTEN_BLOCKS, has ? found.block - block : end - block);
      const extent: Extent = { block, count: run, page: UNWRITTEN, birth: 0, checksums: new Uint32Array(0) };
      this.inodes.put(extentKey(inode, block), encodeExtent(extent));
      this.counters.dataPages += run;
      mapped += run;
      block += run;
    }
    return mapped;
  }

  /** Unmaps blocks. Returns how many were mapped. */
  applyUnmap(inode: number, firstBlock: number, blockCount: number): number {
    const { found, inodes, pages, cursor } = this;
    const end = firstBlock + blockCount;
    let dropped = 0;
    while (this.findExtent(inode, firstBlock) && found.block < end) {
      if (found.block >= firstBlock && found.block + found.count <= end) {
        dropped += this.dropExtents(inode, end);
        continue;
      }
      const extent = decodeExtent(found.block, cursor.page.bytes, cursor.valueStart, cursor.valueLength);
      const from = Math.max(0, firstBlock - extent.block);
      const to = Math.min(extent.count, end - extent.block);
      if (extent.page !== UNWRITTEN) pages.discardData(extent.page + from, to - from, extent.birth);
      dropped += to - from;
      if (from > 0) inodes.put(extentKey(inode, extent.block), encodeExtent(sliceExtent(extent, 0, from)));
      else inodes.delete(extentKey(inode, extent.block));
      if (to < extent.count) {
        const right = sliceExtent(extent, to, extent.count - to);
        inodes.put(extentKey(inode, right.block), encodeExtent(right));
        break;
      }
    }
    this.counters.dataPages -= dropped;
    return dropped;
  }

  /**
   * Drops extents that end at or before block `end`, from the one that was found on: some at a time, found in one go, since
   * each change of the tree costs the cursor its place. Returns how many blocks they mapped.
   */
  private dropExtents(inode: number, end: number): number {
    const { found, cursor, pages, inodes } = this;
    const blocks: number[] = [];
    let dropped = 0;
    do {
      if (found.page !== UNWRITTEN)
        pages.discardData(found.page, found.count, extentBirth(cursor.page.bytes, cursor.valueStart));
      dropped += found.count;
      blocks.push(found.block);
    } while (
      blocks.length < DROPPED_EXTENTS &&
      cursor.next() &&
      this.loadFound(inode) &&
      found.block + found.count <= end
    );
    for (const block of blocks) inodes.delete(extentKey(inode, block));
    return dropped;
  }
}

function extentKeyInto(key: Buffer, inode: number, block: number): void {
  putU64BE(key, 0, inode);
  key[8] = KIND_EXTENT;
  putU64BE(key, 9, block);
}

function isInodeKey(key: Uint8Array): boolean {
  return key.length === 9 && key[8] === KIND_INODE;
}
