/**
 * The one way in: what a record does to the trees.
 *
 * The live state applies each change as it encodes its record; replay decodes the record and applies the same
 * change through the same methods of TreeState. Recovery, states between versions and archive recovery all replay
 * with `applyTransaction`.
 */
import { encodeSnapshotRow } from '../encoding/catalog.ts';
import { TREE } from '../encoding/keys.ts';
import { RECORD, RecordReader } from '../encoding/record.ts';
import { LsnfsError } from '../errors.ts';
import type { TreeState } from './tree-state.ts';

/** What recovery wants to know of a transaction while it is applied. */
export interface ReplayObserver {
  /** A run of data pages is named by the transaction. */
  mapped(page: number, count: number): void;
  /** The transaction names a snapshot. */
  snapshot(): void;
}

/** The first LSN of a state that has what a transaction beginning at `startLsn` made. */
export function birthOf(startLsn: number): number {
  return startLsn + 1;
}

/** Applies all records of one transaction. `startLsn` is where the one before it ended. */
export function applyTransaction(
  state: TreeState,
  payload: Uint8Array,
  startLsn: number,
  endLsn: number,
  timeMicroseconds: number,
  observer?: ReplayObserver,
): void {
  const birth = birthOf(startLsn);
  const reader = new RecordReader(payload);
  while (reader.next()) {
    switch (reader.op) {
      case RECORD.put:
        state.applyPut(reader.tree, reader.key, reader.value);
        break;
      case RECORD.delete:
        state.applyDelete(reader.tree, reader.key);
        break;
      case RECORD.write: {
        const bytes = reader.value;
        state.applyWrite(reader.inode, reader.offset, bytes, 0, bytes.length, birth);
        break;
      }
      case RECORD.map: {
        const checksums = new Uint32Array(reader.count);
        for (let i = 0; i < checksums.length; i++) checksums[i] = reader.checksum(i);
        observer?.mapped(reader.page, reader.count);
        state.applyMap(reader.inode, {
          block: reader.block,
          count: reader.count,
          page: reader.page,
          birth,
          checksums,
        });
        break;
      }
      case RECORD.unmap:
        state.applyUnmap(reader.inode, reader.block, reader.count, birth);
        break;
      case RECORD.allocate:
        state.applyAllocate(reader.inode, reader.block, reader.count);
        break;
      case RECORD.nextInode:
        if (reader.nextInode > state.counters.nextInode) state.counters.nextInode = reader.nextInode;
        break;
      case RECORD.snapshot:
        observer?.snapshot();
        state.applyPut(
          TREE.registry,
          Buffer.from(reader.name, 'utf8'),
          encodeSnapshotRow({
            name: reader.name,
            lsn: endLsn,
            createdMicroseconds: reader.timeMicroseconds,
            message: reader.message,
          }),
        );
        break;
      case RECORD.snapshotDelete:
        state.applyDelete(TREE.registry, Buffer.from(reader.name, 'utf8'));
        break;
      case RECORD.checkpoint:
        // Tells readers of the log that a version was finished; changes nothing.
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
