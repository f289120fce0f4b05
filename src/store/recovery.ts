/**
 * From the bytes on disk to the live state.
 *
 * The newer valid slot of the control block names the catalog root of the newest complete checkpoint; the catalog
 * names the version root. Then the log is replayed from the version's LSN on, up to the first transaction that is
 * not whole: one whose frames do not all verify, or that names pages of data which do not match its checksums (log
 * and data file are synced in parallel, so that after a power cut either may lack what the other has).
 *
 * Recovery changes nothing on disk but the log's torn tail, and can be repeated at any point. What it found it writes
 * again, byte for byte, before anything is built on it: the control slot, the log since the checkpoint (wal/tail.ts), and
 * the data that the replayed transactions map. All of it was read from the page cache, and after a failed sync that
 * holds what no disk has, marked as clean. What lies before the checkpoint is beyond that doubt: a control slot is
 * written only after the syncs that it rests on have succeeded.
 */

import { crc32 } from '../encoding/checksum.ts';
import {
  CONTROL_NAME,
  CONTROL_SLOT_SIZE,
  type ControlBlock,
  chooseControl,
  controlSlot,
  decodeControl,
} from '../encoding/control.ts';
import { frameSize } from '../encoding/frame.ts';
import { CHECKPOINT_SIZE, RECORD, RecordReader } from '../encoding/record.ts';
import {
  type CatalogRoot,
  decodeCatalogRoot,
  decodeVersionRoot,
  type VersionRoot,
} from '../encoding/root.ts';
import { CorruptPageError, LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import { FreeSpace } from '../storage/free-space.ts';
import type { PageCache } from '../storage/page-cache.ts';
import { LogReader } from '../wal/reader.ts';
import { FIRST_LSN } from '../wal/segment.ts';
import { applyTransaction } from './apply.ts';
import { Catalog } from './catalog.ts';
import type { PastStates } from './restore.ts';
import type { TreeState } from './tree-state.ts';

/** The valid slots of the control block. */
export interface ControlSlots {
  newest: ControlBlock;
  /** The other slot, when it is valid too. */
  older: ControlBlock | undefined;
}

/** Reads both slots. @throws LsnfsError NO_STORE, STORE_INCOMPLETE, CORRUPT_CONTROL or NEWER_FORMAT. */
export function readControl(directory: StorageDirectory): ControlSlots {
  if (!directory.exists(CONTROL_NAME)) {
    const remains = directory.list('');
    if (remains.length === 0) {
      throw new LsnfsError('NO_STORE', `there is no store at ${directory.path}: make one with lsnfs init`, {
        store: directory.path,
      });
    }
    if (remains.includes('data') || remains.includes('lsnfs.json')) {
      throw new LsnfsError(
        'STORE_INCOMPLETE',
        `${directory.path} is a store whose creation was interrupted (it has no control block): remove the directory and run lsnfs init again`,
        { store: directory.path },
      );
    }
    throw new LsnfsError('NO_STORE', `${directory.path} is not a store: it has no control block`, {
      store: directory.path,
    });
  }
  const device = directory.open(CONTROL_NAME, { readOnly: true });
  try {
    const file = Buffer.alloc(2 * CONTROL_SLOT_SIZE);
    const length = device.read(0, file, 0, file.length);
    const chosen = chooseControl(file.subarray(0, length));
    const other = (1 - chosen.slot) * CONTROL_SLOT_SIZE;
    const older =
      chosen.otherSlotError === undefined
        ? decodeControl(file.subarray(other, other + CONTROL_SLOT_SIZE))
        : undefined;
    return { newest: chosen.control, older };
  } finally {
    device.close();
  }
}

/** Writes a slot of the control block to its place again, and syncs it. */
export function confirmControl(device: Device, control: ControlBlock): void {
  const slot = Buffer.alloc(CONTROL_SLOT_SIZE);
  const position = controlSlot(control.sequence) * CONTROL_SLOT_SIZE;
  const length = device.read(position, slot, 0, slot.length);
  device.write(position, slot, 0, length);
  device.syncNow();
}

export interface OpenedCheckpoint {
  control: ControlBlock;
  catalogRoot: CatalogRoot;
  versionRoot: VersionRoot;
}

/** Reads the roots that a control slot names. @throws CorruptPageError */
export function openCheckpoint(cache: PageCache, control: ControlBlock): OpenedCheckpoint {
  const { rootPage, rootLsn, rootChecksum } = control.checkpoint;
  const catalogPage = cache.get(rootPage, rootLsn, rootChecksum);
  const catalogRoot = decodeCatalogRoot(catalogPage.bytes, rootPage);
  const { version } = catalogRoot;
  const versionPage = cache.get(version.number, version.lsn, version.checksum);
  return { control, catalogRoot, versionRoot: decodeVersionRoot(versionPage.bytes, version.number) };
}

export interface OpenedCatalog {
  catalog: Catalog;
  freeSpace: FreeSpace;
  /** Why nobody can say what is free: then nothing may be written, and everything can still be read. */
  freeSpaceDamage: LsnfsError | undefined;
}

/** The catalog of a checkpoint and the free space that it describes. */
export function openCatalog(cache: PageCache, opened: OpenedCheckpoint): OpenedCatalog {
  const { catalogRoot, control } = opened;
  const catalog = new Catalog(cache, catalogRoot, control.checkpoint.rootPage);
  if (catalog.versions.root.number === 0) {
    // A new store: the empty state that init wrote is its first version.
    const { timeMicroseconds, version } = catalogRoot;
    catalog.addVersion({
      lsn: version.lsn,
      timeMicroseconds,
      root: version,
      dropped: false,
      restored: false,
    });
  }
  try {
    return { catalog, freeSpace: readFreeSpace(catalog, catalogRoot), freeSpaceDamage: undefined };
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    return { catalog, freeSpace: FreeSpace.unknown(catalogRoot.frontier), freeSpaceDamage: error };
  }
}

/** @throws LsnfsError when the free tree cannot be read, or lists what cannot be. */
function readFreeSpace(catalog: Catalog, root: CatalogRoot): FreeSpace {
  const freeSpace = new FreeSpace(root.frontier);
  let end = 1;
  for (const run of catalog.freeRows()) {
    if (run.count < 1 || run.page < end || run.page + run.count > root.frontier) {
      throw badFreeRow(run.page, run.count);
    }
    end = run.page + run.count;
    if (run.after < root.lsn) freeSpace.free(run.page, run.count);
    else freeSpace.quarantine(run.page, run.count, run.after);
  }
  for (const run of root.spare) {
    if (run.count < 1 || run.page < 1 || run.page + run.count > root.frontier || freeSpace.lists(run)) {
      throw badFreeRow(run.page, run.count);
    }
    freeSpace.free(run.page, run.count);
    freeSpace.spare.push({ ...run });
  }
  return freeSpace;
}

function badFreeRow(page: number, count: number): LsnfsError {
  return new LsnfsError(
    'CORRUPT_RECORD',
    `the free space lists pages ${page} to ${page + count - 1}, which cannot be`,
    {
      page,
      count,
    },
  );
}

/**
 * What a control block witnesses of the log: it was written when the record of its checkpoint was durable already. The
 * block that `init` writes names an empty log, in which there is none.
 */
export function witnessedLsn({ checkpoint }: ControlBlock): number {
  const { position } = checkpoint;
  return position === FIRST_LSN ? position : position + frameSize(CHECKPOINT_SIZE);
}

export interface ReplayResult {
  /** Where the log goes on. */
  endLsn: number;
  /** Checksum of the last frame before that; undefined when there is none. */
  previousChecksum: number | undefined;
  timeMicroseconds: number;
  /** Transactions that changed something. */
  transactions: number;
  /** Why replay ended, in a sentence. */
  reason: string;
}

/** What replay tells the store. */
export interface ReplayHost {
  readonly freeSpace: FreeSpace;
  /** Transactions that end after it are left out. */
  readonly limit: number;
  /** A transaction that named a snapshot was applied: its state is to become a version. */
  snapshotApplied(): void;
  /** A transaction that restores something comes next: the state before it is to become a version … */
  restoring(): void;
  /** … and the state after it too. */
  restored(): void;
  /** The states that such a transaction needs. */
  readonly past: PastStates;
  /** Something that was durable is not what it was; replay goes on. */
  damaged(message: string): void;
}

/**
 * Replays the log onto the live state, up to the first transaction that is not whole. With `confirm` the data
 * that it maps is written again.
 */
export function replay(
  state: TreeState,
  directory: StorageDirectory,
  data: Device,
  control: ControlBlock,
  knownDurableLsn: number,
  confirm: boolean,
  host: ReplayHost,
): ReplayResult {
  const reader = new LogReader(directory, {
    storeId: control.storeId,
    segmentSize: control.segmentSize,
    from: state.lsn,
    limit: host.limit,
    knownDurableLsn,
  });
  const result: ReplayResult = {
    endLsn: state.lsn,
    previousChecksum: undefined,
    timeMicroseconds: state.timeMicroseconds,
    transactions: 0,
    reason: '',
  };
  const buffer = Buffer.allocUnsafeSlow(state.pageSize);
  let durableLsn: number | undefined;
  try {
    for (const transaction of reader) {
      let snapshots = 0;
      let restores = false;
      if (!dataIsWhole(transaction.payload, data, buffer, confirm)) {
        result.reason = `the transaction that ends at ${transaction.endLsn} names data that was not written`;
        durableLsn ??= claimedDurable(directory, control, transaction.startLsn, knownDurableLsn);
        if (transaction.endLsn > durableLsn) return result;
        // It was durable once: not a torn end but damage. Reading the page is an error; the rest must not go with it.
        host.damaged(`the data of the transaction that ends at ${transaction.endLsn} is damaged`);
      }
      applyTransaction(
        state,
        transaction.payload,
        transaction.startLsn,
        transaction.endLsn,
        transaction.timeMicroseconds,
        {
          past: host.past,
          observer: {
            snapshot() {
              snapshots++;
            },
            restoring() {
              restores = true;
              host.restoring();
            },
            mapped(page, count) {
              if (host.freeSpace.claim(page, count)) return;
              throw new LsnfsError(
                'CORRUPT_LOG',
                `the log at ${transaction.startLsn} maps pages that are in use: ${page}`,
                {
                  lsn: transaction.startLsn,
                  page,
                },
              );
            },
          },
        },
      );
      if (restores) host.restored();
      else if (snapshots > 0) host.snapshotApplied();
      result.endLsn = transaction.endLsn;
      result.previousChecksum = transaction.checksum;
      result.timeMicroseconds = transaction.timeMicroseconds;
      if (!isOnlyCheckpoint(transaction.payload)) result.transactions++;
    }
    result.reason = reader.end?.reason ?? '';
    result.previousChecksum ??= reader.end?.previousChecksum;
    return result;
  } finally {
    reader.close();
  }
}

/** A checkpoint record changes nothing: a log that holds no more than that was closed cleanly. */
function isOnlyCheckpoint(payload: Uint8Array): boolean {
  const records = new RecordReader(payload);
  while (records.next()) if (records.op !== RECORD.checkpoint) return false;
  return true;
}

/** The highest LSN that the rest of the log, or the caller, says was durable. */
function claimedDurable(
  directory: StorageDirectory,
  control: ControlBlock,
  from: number,
  known: number,
): number {
  const reader = new LogReader(directory, {
    storeId: control.storeId,
    segmentSize: control.segmentSize,
    from,
  });
  try {
    while (reader.next() !== undefined);
    return Math.max(known, reader.end?.durableLsn ?? 0);
  } finally {
    reader.close();
  }
}

/** Whether all data pages that the transaction names are in the data file; with `confirm` they are written again. */
function dataIsWhole(payload: Uint8Array, data: Device, buffer: Buffer, confirm: boolean): boolean {
  const records = new RecordReader(payload);
  while (records.next()) {
    if (records.op !== RECORD.map) continue;
    for (let i = 0; i < records.count; i++) {
      const position = (records.page + i) * buffer.length;
      if (data.read(position, buffer, 0, buffer.length) !== buffer.length) return false;
      if (crc32(buffer) !== records.checksum(i)) return false;
      if (confirm) data.write(position, buffer, 0, buffer.length);
    }
  }
  return true;
}

/** The checkpoint of the newest slot, or of the older one when the newest one's roots are damaged. */
export function openNewestCheckpoint(
  cache: PageCache,
  slots: ControlSlots,
  warn: (message: string) => void,
): OpenedCheckpoint {
  try {
    return openCheckpoint(cache, slots.newest);
  } catch (error) {
    if (!(error instanceof CorruptPageError) || slots.older === undefined) throw error;
    const opened = openCheckpoint(cache, slots.older);
    warn(`the newest checkpoint cannot be read (${error.message}): recovering from the one before it`);
    return opened;
  }
}
