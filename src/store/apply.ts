/**
 * The one way in: what a record does to the trees.
 *
 * The live state applies each change as it encodes its record; replay decodes the record and applies the same
 * change through the same methods of TreeState. Recovery, states between versions and archive recovery all replay
 * with `applyTransaction`.
 */
import { encodeSnapshotRow } from '../encoding/catalog.ts';
import { maxCellPayload } from '../encoding/cells.ts';
import { MAX_BLOCKS, MAX_EXTENT_PAGES } from '../encoding/extent.ts';
import { MAX_FILE_SIZE } from '../encoding/inode.ts';
import { KIND_EXTENT, keyInode, MAX_INODE, TREE } from '../encoding/keys.ts';
import { TEMPORARY_BASE } from '../encoding/page.ts';
import { RECORD, RecordReader } from '../encoding/record.ts';
import { LsnfsError } from '../errors.ts';
import { type PastStates, Restoration } from './restore.ts';
import type { TreeState } from './tree-state.ts';

/** What recovery wants to know of a transaction while it is applied. */
export interface ReplayObserver {
  /** A run of data pages is named by the transaction. */
  mapped(page: number, count: number): void;
  /** The transaction names a snapshot. */
  snapshot(): void;
  /** The transaction restores something, and has changed nothing yet. */
  restoring(): void;
}

/** How a transaction is applied. */
export interface ApplyOptions {
  readonly observer?: ReplayObserver;
  /** The states before it; without, a transaction that restores cannot be applied. */
  readonly past?: PastStates;
  /** What it does to snapshots is left out. */
  readonly filesOnly?: boolean;
}

/** The first LSN of a state that has what a transaction beginning at `startLsn` made. */
export function birthOf(startLsn: number): number {
  return startLsn + 1;
}

/** What a frame with a right checksum holds may be impossible all the same: the store came from somebody. */
function impossible(startLsn: number, why: string): never {
  throw new LsnfsError(
    'CORRUPT_RECORD',
    `the transaction after LSN ${startLsn} holds a record that cannot be: ${why}`,
    { lsn: startLsn },
  );
}

/** PUT and DELETE: of a tree of states, and not of extents, which have records of their own. */
function checkEntry(state: TreeState, reader: RecordReader, startLsn: number): void {
  const { tree, keyStart, keyLength, bytes } = reader;
  if (tree !== TREE.namespace && tree !== TREE.inodes && tree !== TREE.registry) {
    impossible(startLsn, `tree ${tree} belongs to no state`);
  }
  if (tree === TREE.inodes && keyLength > 8 && bytes[keyStart + 8] === KIND_EXTENT) {
    impossible(startLsn, 'an extent is put or deleted');
  }
  if (tree === TREE.inodes && keyLength >= 8 && keyInode(reader.key) > MAX_INODE) {
    impossible(startLsn, `inode ${keyInode(reader.key)}`);
  }
  if (reader.op !== RECORD.put) return;
  const size = keyLength + reader.valueLength;
  if (size > maxCellPayload(state.pageSize)) impossible(startLsn, `an entry of ${size} bytes`);
}

/** What speaks of blocks of a file: of one that can be. */
function checkRange(reader: RecordReader, endBlock: number, isPossible: boolean, startLsn: number): void {
  if (reader.inode > MAX_INODE) impossible(startLsn, `inode ${reader.inode}`);
  if (endBlock > MAX_BLOCKS || !isPossible) impossible(startLsn, `blocks or pages of inode ${reader.inode}`);
}

function applySnapshot(state: TreeState, reader: RecordReader, startLsn: number, endLsn: number): void {
  const { name, message, timeMicroseconds: createdMicroseconds } = reader;
  const key = Buffer.from(name, 'utf8');
  const row = encodeSnapshotRow({ name, lsn: endLsn, createdMicroseconds, message, holds: [] });
  const size = key.length + row.length;
  if (size > maxCellPayload(state.pageSize)) impossible(startLsn, `a snapshot of ${size} bytes`);
  state.applyPut(TREE.registry, key, row);
}

/** Whether a record concerns the snapshots' names and nothing else. */
function isOfRegistry({ op, tree }: RecordReader): boolean {
  if (op === RECORD.put || op === RECORD.delete) return tree === TREE.registry;
  return op === RECORD.snapshot || op === RECORD.snapshotDelete;
}

/** Applies all records of one transaction. `startLsn` is where the one before it ended. */
export function applyTransaction(
  state: TreeState,
  payload: Uint8Array,
  startLsn: number,
  endLsn: number,
  timeMicroseconds: number,
  { observer, past, filesOnly = false }: ApplyOptions = {},
): void {
  const birth = birthOf(startLsn);
  const reader = new RecordReader(payload);
  let restoration: Restoration | undefined;
  const restoring = (): Restoration => {
    if (restoration !== undefined) return restoration;
    if (past === undefined) impossible(startLsn, 'a restore where there is no past');
    if (!isFirst) impossible(startLsn, 'a restore after other changes');
    observer?.restoring();
    restoration = new Restoration(state, past, startLsn);
    return restoration;
  };
  /** No record before this one has changed anything. */
  let isFirst = true;
  for (; reader.next(); isFirst &&= reader.op === RECORD.origin) {
    if (filesOnly && isOfRegistry(reader)) continue;
    switch (reader.op) {
      case RECORD.put:
        checkEntry(state, reader, startLsn);
        state.applyPut(reader.tree, reader.key, reader.value);
        break;
      case RECORD.delete:
        checkEntry(state, reader, startLsn);
        state.applyDelete(reader.tree, reader.key);
        break;
      case RECORD.write: {
        const bytes = reader.value;
        checkRange(reader, 0, reader.offset + bytes.length <= MAX_FILE_SIZE, startLsn);
        state.applyWrite(reader.inode, reader.offset, bytes, 0, bytes.length);
        break;
      }
      case RECORD.map: {
        const { block, page, count } = reader;
        checkRange(reader, block + count, page > 0 && page + count <= TEMPORARY_BASE, startLsn);
        observer?.mapped(page, count);
        for (let done = 0; done < count; done += MAX_EXTENT_PAGES) {
          const pages = Math.min(count - done, MAX_EXTENT_PAGES);
          const checksums = new Uint32Array(pages);
          for (let i = 0; i < pages; i++) checksums[i] = reader.checksum(done + i);
          state.applyMap(reader.inode, {
            block: block + done,
            count: pages,
            page: page + done,
            birth,
            checksums,
          });
        }
        break;
      }
      case RECORD.unmap:
        checkRange(reader, reader.block, true, startLsn);
        state.applyUnmap(reader.inode, reader.block, reader.count);
        break;
      case RECORD.allocate:
        checkRange(reader, reader.block + reader.count, true, startLsn);
        state.applyAllocate(reader.inode, reader.block, reader.count);
        break;
      case RECORD.nextInode:
        if (reader.nextInode > MAX_INODE) impossible(startLsn, `the next inode is ${reader.nextInode}`);
        if (reader.nextInode > state.counters.nextInode) state.counters.nextInode = reader.nextInode;
        break;
      case RECORD.snapshot:
        observer?.snapshot();
        applySnapshot(state, reader, startLsn, endLsn);
        break;
      case RECORD.snapshotDelete:
        state.applyDelete(TREE.registry, Buffer.from(reader.name, 'utf8'));
        break;
      case RECORD.restore:
        restoring().restore(reader.lsn);
        break;
      case RECORD.restoreFrom:
        restoring().restoreFrom(reader.lsn);
        break;
      case RECORD.take:
        restoring().take(reader.inode);
        break;
      case RECORD.checkpoint:
        // Tells readers of the log that a version was finished; changes nothing.
        break;
      case RECORD.origin:
        // Tells people who asked for the transaction.
        break;
      default:
        throw new LsnfsError('CORRUPT_RECORD', `the log holds a record of unknown kind ${reader.op}`, {
          startLsn,
        });
    }
  }
  state.lsn = endLsn;
  state.timeMicroseconds = timeMicroseconds;
}
