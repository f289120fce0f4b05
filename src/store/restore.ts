/**
 * What the records of a restore do to a state.
 *
 * RESTORE gives the state the trees that another one had: those of the newest version at or before it, with the log
 * replayed from there on, all but the registry (snapshots are not restored) and the next inode number (which never goes
 * back). TAKE gives the state one inode as another one has it, with its attributes and its content; its entries are
 * other records' business. Which state that is RESTORE_FROM says: an earlier one, or, after a RESTORE, the one
 * before this transaction.
 *
 * Pages are shared and not copied, but for data that the other state holds in memory only. So pages that had died
 * live again. What dies and what comes back is not known record by record: the store holds the states before and
 * after such a transaction as versions, and the checkpoint of the later one compares the two (replaced-pages.ts).
 *
 * Replaying these records needs the past: versions and log from before the transaction. So the version after it stays
 * as long as the window reaches back to it (retention.ts), and no state behind it is replayed from before it.
 */
import { BTree } from '../btree/btree.ts';
import { decodeExtent } from '../encoding/extent.ts';
import {
  extentKeyBlock,
  inodeKey,
  KIND_EXTENT,
  KIND_INODE,
  KIND_XATTR,
  MAX_INODE,
  TREE,
} from '../encoding/keys.ts';
import { isTemporary, PAGE_TREE } from '../encoding/page.ts';
import type { TreeRef, VersionRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { PageMark } from '../storage/dirty-pages.ts';
import type { StateReader } from './state.ts';
import type { TreeState } from './tree-state.ts';

/** The states before a transaction, for who applies it. */
export interface PastStates {
  /** The root of the newest version at or before an LSN. @throws LsnfsError NO_SUCH_STATE, CORRUPT_PAGE */
  versionRoot(lsn: number): VersionRoot;
  /** Applies to a state at `state.lsn` what the log did to the files from there to `to`, and nothing else. */
  replayFiles(state: TreeState, from: number, to: number): void;
  /** The state at an LSN, on pages of its own. @throws LsnfsError NO_SUCH_STATE, CORRUPT_LOG, CORRUPT_PAGE */
  open(lsn: number): TreeState;
}

/** Data that has to be copied goes from one state to another in pieces of so many bytes. */
const COPY_BYTES = 256 * 1024;

/** The records of a restore in one transaction, applied to one state. */
export class Restoration {
  private readonly state: TreeState;
  private readonly past: PastStates;
  /** Where the transaction before this one ended. */
  private readonly startLsn: number;
  /** The inode tree before the RESTORE of this transaction. */
  private before: TreeRef | undefined;
  /** What was made between the two is replaced: by a restore within a restore, only what the outer one has replayed. */
  private readonly from: PageMark;
  private mark: PageMark | undefined;
  private source: { readonly inodes: BTree; readonly reader: StateReader | undefined } | undefined;

  constructor(state: TreeState, past: PastStates, startLsn: number) {
    this.state = state;
    this.past = past;
    this.startLsn = startLsn;
    this.from = state.restoreMark;
  }

  /** @throws LsnfsError NO_SUCH_STATE; CORRUPT_RECORD when there cannot be such a record here */
  restore(lsn: number): void {
    const { state, past } = this;
    if (lsn > this.startLsn || this.before !== undefined || this.source !== undefined) {
      this.impossible(`the state at ${lsn} is restored`);
    }
    const root = past.versionRoot(lsn);
    this.mark = state.pages.mark();
    const { nextInode } = state.counters;
    this.before = { ...state.inodes.root, pageCount: state.inodes.pageCount };
    state.namespace.root = { ...root.namespace };
    state.namespace.pageCount = root.namespace.pageCount;
    state.inodes.root = { ...root.inodes };
    state.inodes.pageCount = root.inodes.pageCount;
    Object.assign(state.counters, {
      nextInode: root.nextInode,
      inodes: root.inodeCount,
      dataPages: root.dataPages,
    });
    if (root.lsn < lsn) {
      state.restoreMark = this.mark;
      try {
        past.replayFiles(state, root.lsn, lsn);
      } finally {
        state.restoreMark = this.from;
      }
    }
    state.counters.nextInode = Math.max(nextInode, state.counters.nextInode);
  }

  /** @throws as `restore` */
  restoreFrom(lsn: number): void {
    if (lsn > this.startLsn) this.impossible(`the state at ${lsn} is taken from`);
    if (this.before !== undefined && lsn === this.startLsn) {
      const { pages } = this.state;
      this.source = {
        inodes: new BTree(pages, TREE.inodes, this.before, this.before.pageCount),
        reader: undefined,
      };
      return;
    }
    const reader = this.past.open(lsn);
    this.source = { inodes: reader.inodes, reader };
  }

  /** @throws LsnfsError CORRUPT_RECORD when the state that is taken from has no such inode */
  take(inode: number): void {
    const { state, source } = this;
    if (source === undefined) this.impossible(`inode ${inode} is taken from no state`);
    if (inode < 1 || inode > MAX_INODE) this.impossible(`inode ${inode} is taken`);
    const prefix = inodeKey(inode).subarray(0, 8);
    const cursor = source.inodes.cursor();
    if (!cursor.seek(inodeKey(inode)) || !cursor.startsWith(inodeKey(inode))) {
      this.impossible(`inode ${inode} is taken, and the other state has none`);
    }
    this.drop(inode);
    for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.next()) {
      const { key, value } = cursor;
      const kind = key[8];
      if (kind === KIND_INODE || kind === KIND_XATTR) state.applyPut(TREE.inodes, key, value);
      else if (kind === KIND_EXTENT) this.takeExtent(inode, key, value);
    }
  }

  /**
   * The end of the transaction. What a restore has replaced and no seal holds is dropped: in the live state that is what an
   * earlier restore had to replay, which is replaced in turn.
   */
  finish(): void {
    if (this.mark === undefined) return;
    this.state.pages.drop(this.from, this.mark, ({ bytes }) => bytes[PAGE_TREE] === TREE.registry);
  }

  /** Takes away what the state has of an inode, but for its record and its links. */
  private drop(inode: number): void {
    const { state } = this;
    state.applyUnmap(inode, 0, Number.POSITIVE_INFINITY);
    const prefix = inodeKey(inode);
    prefix[8] = KIND_XATTR;
    const keys: Buffer[] = [];
    const cursor = state.inodes.cursor();
    for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.next()) {
      keys.push(Buffer.from(cursor.key));
    }
    for (const key of keys) state.applyDelete(TREE.inodes, key);
  }

  private takeExtent(inode: number, key: Buffer, value: Buffer): void {
    const extent = decodeExtent(extentKeyBlock(key), value, 0, value.length);
    const { state } = this;
    const { pageSize, pages } = state;
    const reader = this.source?.reader;
    if (!isTemporary(extent.page)) {
      state.applyMap(inode, extent);
      return;
    }
    if (reader === undefined) {
      // What a seal holds is shared; other pages go with the state that had them.
      if (!pages.isWritable(pages.dataPage(extent.page))) {
        state.applyMap(inode, extent);
        return;
      }
      for (let i = 0; i < extent.count; i++) {
        const { bytes } = pages.dataPage(extent.page + i);
        state.applyWrite(inode, (extent.block + i) * pageSize, bytes, 0, pageSize);
      }
      return;
    }
    const end = (extent.block + extent.count) * pageSize;
    const piece = Buffer.allocUnsafe(Math.min(COPY_BYTES, extent.count * pageSize));
    for (let at = extent.block * pageSize; at < end; at += piece.length) {
      const length = Math.min(piece.length, end - at);
      reader.readData(inode, at, piece, 0, length);
      state.applyWrite(inode, at, piece, 0, length);
    }
  }

  private impossible(why: string): never {
    throw new LsnfsError(
      'CORRUPT_RECORD',
      `the transaction after LSN ${this.startLsn} holds a record that cannot be: ${why}`,
      { lsn: this.startLsn },
    );
  }
}
