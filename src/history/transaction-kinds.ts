/**
 * What a transaction is, by records that only one of its kind has. Everything that lists transactions learns of a new kind
 * here.
 */
import { RECORD, type RecordOp } from '../encoding/record.ts';

/** 'change': of the files; the others are the store's own. 'registry': a snapshot was renamed, held or released. */
export type TransactionKind =
  | 'change'
  | 'snapshot'
  | 'snapshot-delete'
  | 'registry'
  | 'checkpoint'
  | 'restore';

/** Kinds by a record that says it all. */
export const KIND_OF_RECORD: ReadonlyMap<RecordOp, TransactionKind> = new Map<RecordOp, TransactionKind>([
  [RECORD.snapshot, 'snapshot'],
  [RECORD.snapshotDelete, 'snapshot-delete'],
  [RECORD.checkpoint, 'checkpoint'],
  [RECORD.restore, 'restore'],
  [RECORD.restoreFrom, 'restore'],
]);

/**
 * Whether the state after a transaction of this kind does not follow from the one before it and its records: it was taken
 * from a version. Such a state is opened, and not replayed.
 */
export function leadsElsewhere(kind: TransactionKind | undefined): boolean {
  return kind === 'restore';
}
