/**
 * The live state: a TreeState whose changes go to the log as they are made.
 *
 * One operation is `begin`, changes, `commit`. Each change encodes its record and applies it at once, so that the
 * operation reads its own writes; `commit` appends the records as one transaction. An enclosing transaction of the
 * API collects the records of many operations behind a savepoint and can be rolled back whole.
 *
 * Large aligned writes go straight to free pages of the data file, which is safe because nothing refers to them
 * before the record that names them with their checksums is in the log.
 */

import { crc32 } from '../encoding/checksum.ts';
import { type Extent, MAX_EXTENT_PAGES } from '../encoding/extent.ts';
import type { TreeId } from '../encoding/keys.ts';
import type { PageRef } from '../encoding/page.ts';
import { ALLOCATE_COUNT_MAXIMUM, RecordWriter } from '../encoding/record.ts';
import type { VersionRoot } from '../encoding/root.ts';
import { assert, LsnfsError } from '../errors.ts';
import type { Device } from '../storage/device.ts';
import type { Savepoint } from '../storage/dirty-pages.ts';
import type { FreeSpace } from '../storage/free-space.ts';
import type { PageCache } from '../storage/page-cache.ts';
import type { Log } from '../wal/log.ts';
import { birthOf } from './apply.ts';
import { type PastStates, Restoration } from './restore.ts';
import type { Counters, RestorableState } from './state.ts';
import { TreeState } from './tree-state.ts';

/** Whole pages that make a write go straight to the data file instead of through the log. */
const DIRECT_MINIMUM_PAGES = 8;
/** Room in the log that every operation is given; larger ones ask for more. */
const OPERATION_RESERVE = 256 * 1024;
/** Room in the log that is left to operations which take away, when there is no more. */
const FREEING_RESERVE = 1024 * 1024;

/** Who asks for a transaction; process 0 is nobody that could be told. */
export interface Origin {
  readonly uid: number;
  readonly pid: number;
}

const NOBODY: Origin = Object.freeze({ uid: 0, pid: 0 });

/** What the store does for its live state. */
export interface LiveHost {
  readonly log: Log;
  readonly free: FreeSpace;
  readonly data: Device;
  /** Between transactions: works on checkpoints when changes come faster than those are written, for so many operations. */
  relieve(operations: number): void;
  /** Whether a change may begin now. @throws LsnfsError READ_ONLY, STORE_FAILED or NO_SPACE. */
  admit(frees?: boolean): void;
  /** Whether `pages` more pages may be written to the data file. @throws LsnfsError NO_SPACE */
  admitData(pages: number): void;
  /** Brings the live state back to the end of the log after a change failed midway. */
  rebuild(): void;
  readonly readOnly: boolean;
  /** The states before the present one. */
  past(): PastStates;
  /** A transaction was appended. */
  changed(): void;
  now(): number;
}

/** What is put back when an enclosing transaction is rolled back. */
interface Outer {
  savepoint: Savepoint;
  roots: { root: PageRef; pageCount: number }[];
  counters: Counters;
  liveMark: number;
  origin: Origin;
}

export class LiveTree extends TreeState implements RestorableState {
  private readonly host: LiveHost;
  private readonly records = new RecordWriter();
  /** Records that say who asks: 0 or 1. Without others they are no change. */
  private originCount = 0;
  /** Who asks for operations outside a transaction of the API: looked at when one begins, so that a server may change it. */
  origin: Origin = NOBODY;
  private depth = 0;
  private liveMark = 0;
  private outer: Outer | undefined;
  private poison: Error | undefined;
  /** Operations of the transaction of the API that is open, or of the last one. */
  private operations = 0;
  /** The records of a restore that the present operation has made. */
  private restoration: Restoration | undefined;
  /** Pages that were written straight to the data file since the store was opened. */
  directPages = 0;
  private readonly resetListeners: (() => void)[] = [];

  constructor(cache: PageCache, root: Readonly<VersionRoot>, host: LiveHost) {
    super(cache, root, true, true);
    this.host = host;
  }

  /** Whether an operation or a transaction has begun and not ended. */
  get isChanging(): boolean {
    return this.depth > 0 || this.outer !== undefined;
  }

  get readOnly(): boolean {
    return this.host.readOnly;
  }

  /** Goes back to a version; the log is replayed on it next. */
  resetTo(root: Readonly<VersionRoot>): void {
    this.pages.reset();
    this.lsn = root.lsn;
    this.timeMicroseconds = root.timeMicroseconds;
    const { nextInode } = this.counters;
    Object.assign(this.counters, { nextInode, inodes: root.inodeCount, dataPages: root.dataPages });
    const refs = [root.namespace, root.inodes, root.registry];
    this.trees().forEach((tree, i) => {
      tree.root = refs[i]!;
      tree.pageCount = refs[i]!.pageCount;
    });
  }

  /** What the live state is cannot be told any more: all that is read of it from now on throws the reason. */
  lose(reason: LsnfsError): void {
    const root = this.pages.lose(reason);
    for (const tree of this.trees()) tree.root = root;
  }

  onReset(listener: () => void): void {
    this.resetListeners.push(listener);
  }

  begin(frees = false): void {
    if (this.depth > 0) {
      this.depth++;
      return;
    }
    if (this.poison !== undefined) {
      throw new LsnfsError(
        'TRANSACTION_POISONED',
        'an earlier change of this transaction failed: roll it back',
        {},
        {
          cause: this.poison,
        },
      );
    }
    if (this.outer === undefined) {
      this.host.relieve(1);
      this.reusePages();
    } else this.operations++;
    this.host.admit(frees);
    const reserve = frees ? 0 : Math.min(FREEING_RESERVE, this.host.log.segmentSize / 4);
    this.host.log.reserve(this.records.length + OPERATION_RESERVE + reserve);
    this.liveMark = this.host.free.liveMark;
    this.depth = 1;
    if (this.records.count === 0) this.recordOrigin(this.outer?.origin ?? this.origin);
  }

  /** Buffers of replaced pages serve new ones, for which trees and cursors reach anew what they have at hand. */
  private reusePages(): void {
    if (!this.pages.isReuseDue) return;
    for (const tree of this.trees()) tree.forgetPath();
    this.pages.reuse();
  }

  private recordOrigin({ uid, pid }: Origin): void {
    if (pid === 0) return;
    this.records.origin(uid, pid);
    this.originCount = 1;
  }

  private get hasChanges(): boolean {
    return this.records.count > this.originCount;
  }

  private forgetRecords(): void {
    this.records.reset();
    this.originCount = 0;
  }

  commit(): number {
    assert(this.depth > 0, 'commit without begin');
    if (this.depth > 1 || this.outer !== undefined) {
      this.depth--;
      return this.lsn;
    }
    const lsn = this.append();
    this.depth = 0;
    this.restoration?.finish();
    this.restoration = undefined;
    return lsn;
  }

  private append(): number {
    const { records } = this;
    if (!this.hasChanges) {
      this.forgetRecords();
      return this.lsn;
    }
    const time = this.host.now();
    this.lsn = this.host.log.append(records.bytes, records.length, time);
    this.timeMicroseconds = time;
    this.host.changed();
    this.forgetRecords();
    return this.lsn;
  }

  rollback(): void {
    assert(this.depth > 0, 'rollback without begin');
    if (--this.depth > 0) return;
    this.restoration = undefined;
    if (this.outer !== undefined) {
      this.poison ??= new Error('an operation was rolled back');
      return;
    }
    const { hasChanges } = this;
    this.forgetRecords();
    this.host.free.releaseLive(this.liveMark);
    if (hasChanges) this.recover();
  }

  /** Forgets what is in memory, half of a change perhaps, and recovers from the log. Not within an operation. */
  recover(): void {
    this.host.rebuild();
    for (const listener of this.resetListeners) listener();
  }

  /** Opens an enclosing transaction, for `origin`: operations until its end take effect together or not at all. */
  beginTransaction(origin: Origin = NOBODY): void {
    if (this.outer !== undefined || this.depth > 0) {
      throw new LsnfsError('INVALID_INPUT', 'transactions do not nest');
    }
    this.host.relieve(this.operations);
    this.operations = 0;
    this.reusePages();
    this.host.admit();
    this.outer = {
      savepoint: this.pages.savepoint(),
      roots: this.trees().map((tree) => ({ root: { ...tree.root }, pageCount: tree.pageCount })),
      counters: { ...this.counters },
      liveMark: this.host.free.liveMark,
      origin,
    };
  }

  commitTransaction(): number {
    const { outer } = this;
    assert(outer !== undefined && this.depth === 0, 'no transaction is open');
    if (this.poison !== undefined) {
      const cause = this.poison;
      this.rollbackTransaction();
      throw new LsnfsError(
        'TRANSACTION_POISONED',
        `the transaction was rolled back: ${cause.message}`,
        {},
        { cause },
      );
    }
    let lsn: number;
    try {
      lsn = this.append();
    } catch (error) {
      this.rollbackTransaction();
      throw error;
    }
    this.outer = undefined;
    this.pages.release(outer.savepoint);
    return lsn;
  }

  rollbackTransaction(): void {
    const { outer } = this;
    assert(outer !== undefined, 'no transaction is open');
    this.outer = undefined;
    this.poison = undefined;
    this.depth = 0;
    this.forgetRecords();
    this.pages.rollback(outer.savepoint);
    this.trees().forEach((tree, i) => {
      tree.root = outer.roots[i]!.root;
      tree.pageCount = outer.roots[i]!.pageCount;
    });
    // Numbers that were given stay given: an inode number is never used twice, not even by what never was.
    const { nextInode } = this.counters;
    Object.assign(this.counters, outer.counters, { nextInode });
    this.host.free.releaseLive(outer.liveMark);
    for (const listener of this.resetListeners) listener();
  }

  allocateInode(): number {
    return this.counters.nextInode++;
  }

  put(tree: TreeId, key: Uint8Array, value: Uint8Array): void {
    assert(this.depth > 0, 'a change outside an operation');
    this.records.put(tree, key, value);
    this.applyPut(tree, key, value);
  }

  delete(tree: TreeId, key: Uint8Array): boolean {
    assert(this.depth > 0, 'a change outside an operation');
    const at = this.records.length;
    const count = this.records.count;
    this.records.delete(tree, key);
    const existed = this.applyDelete(tree, key);
    if (!existed) this.records.truncate(at, count);
    return existed;
  }

  writeData(inode: number, offset: number, source: Uint8Array, sourceStart: number, length: number): number {
    const { pageSize } = this;
    const firstBlock = Math.ceil(offset / pageSize);
    const blocks = Math.floor((offset + length) / pageSize) - firstBlock;
    if (blocks < DIRECT_MINIMUM_PAGES) return this.writeLogged(inode, offset, source, sourceStart, length);
    const head = firstBlock * pageSize - offset;
    const body = blocks * pageSize;
    let mapped = 0;
    if (head > 0) mapped += this.writeLogged(inode, offset, source, sourceStart, head);
    mapped += this.writeDirect(inode, firstBlock, blocks, source, sourceStart + head);
    const tail = length - head - body;
    if (tail > 0)
      mapped += this.writeLogged(inode, offset + head + body, source, sourceStart + head + body, tail);
    return mapped;
  }

  private writeLogged(
    inode: number,
    offset: number,
    source: Uint8Array,
    start: number,
    length: number,
  ): number {
    this.records.write(inode, offset, source, start, length);
    return this.applyWrite(inode, offset, source, start, length);
  }

  private writeDirect(
    inode: number,
    firstBlock: number,
    blocks: number,
    source: Uint8Array,
    sourceStart: number,
  ): number {
    const { pageSize } = this;
    const { free, data, log } = this.host;
    this.host.admitData(blocks);
    const birth = birthOf(this.lsn);
    let mapped = 0;
    let done = 0;
    while (done < blocks) {
      const count = Math.min(MAX_EXTENT_PAGES, blocks - done);
      const page = free.allocateLive(count);
      const start = sourceStart + done * pageSize;
      data.write(page * pageSize, source, start, count * pageSize);
      const checksums = new Uint32Array(count);
      for (let i = 0; i < count; i++) {
        checksums[i] = crc32(source, start + i * pageSize, start + (i + 1) * pageSize);
      }
      const extent: Extent = { block: firstBlock + done, count, page, birth, checksums };
      this.records.map(inode, extent.block, page, count, checksums);
      mapped += this.applyMap(inode, extent);
      this.directPages += count;
      done += count;
    }
    log.noteDataDirty();
    return mapped;
  }

  allocateData(inode: number, offset: number, length: number): number {
    const firstBlock = Math.floor(offset / this.pageSize);
    const endBlock = Math.ceil((offset + length) / this.pageSize);
    this.host.admitData(endBlock - firstBlock);
    let mapped = 0;
    for (let block = firstBlock; block < endBlock; ) {
      const count = Math.min(endBlock - block, ALLOCATE_COUNT_MAXIMUM);
      this.records.allocate(inode, block, count);
      mapped += this.applyAllocate(inode, block, count);
      block += count;
    }
    return mapped;
  }

  unmapData(inode: number, firstBlock: number, blockCount: number): number {
    this.records.unmap(inode, firstBlock, blockCount);
    return this.applyUnmap(inode, firstBlock, blockCount);
  }

  restoreTo(lsn: number): void {
    const restoration = this.restoring();
    this.records.restore(lsn);
    restoration.restore(lsn);
  }

  restoreFrom(lsn: number): void {
    const restoration = this.restoring();
    this.records.restoreFrom(lsn);
    restoration.restoreFrom(lsn);
  }

  takeInode(inode: number): void {
    const restoration = this.restoring();
    this.records.take(inode);
    restoration.take(inode);
  }

  private restoring(): Restoration {
    assert(this.depth > 0 && this.outer === undefined, 'a restore outside an operation of its own');
    if (this.restoration === undefined) {
      assert(!this.hasChanges, 'a restore comes before other changes');
      this.restoration = new Restoration(this, this.host.past(), this.lsn);
    }
    return this.restoration;
  }
}
