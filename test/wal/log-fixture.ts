/** Logs for tests: how one is made, recovered and read, whatever directory it lies in. */
import * as fs from 'node:fs';
import * as os from 'node:os';
import * as path from 'node:path';
import type { Device, StorageDirectory } from '../../src/storage/device.ts';
import type { LogOptions } from '../../src/wal/log.ts';
import { type LogEnd, LogReader, type LogReaderOptions } from '../../src/wal/reader.ts';
import { FIRST_LSN } from '../../src/wal/segment.ts';
import { initializeLog } from '../../src/wal/tail.ts';

export const SEGMENT_SIZE = 1024 * 1024;
export const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i * 7 + 1);

/** A generator of the same numbers in [0, 1) for the same seed. */
export function randomFrom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function randomPayload(random: () => number, length: number): Uint8Array {
  const bytes = new Uint8Array(length);
  for (let i = 0; i < length; i++) bytes[i] = random() * 256;
  return bytes;
}

/** A directory on disk that `remove` takes away. */
export function temporaryDirectory(): { path: string; remove: () => void } {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'lsnfs-test-'));
  return { path: directory, remove: () => fs.rmSync(directory, { recursive: true, force: true }) };
}

export function makeLog(directory: StorageDirectory): void {
  initializeLog(directory, { storeId: STORE_ID, segmentSize: SEGMENT_SIZE });
}

export function readerOptions(from = FIRST_LSN): LogReaderOptions {
  return {
    storeId: STORE_ID,
    segmentSize: SEGMENT_SIZE,
    from,
    ...(from === FIRST_LSN ? { previousChecksum: 0 } : {}),
  };
}

export interface ReadTransaction {
  startLsn: number;
  endLsn: number;
  timeMicroseconds: number;
  durableLsn: number;
  checksum: number;
  payload: Uint8Array;
}

/** All transactions (copied) and the end. */
export function readAll(
  directory: StorageDirectory,
  options: Partial<LogReaderOptions> = {},
): { transactions: ReadTransaction[]; end: LogEnd } {
  const reader = new LogReader(directory, { ...readerOptions(options.from), ...options });
  try {
    const transactions: ReadTransaction[] = [];
    for (const transaction of reader) {
      transactions.push({ ...transaction, payload: Uint8Array.from(transaction.payload) });
    }
    return { transactions, end: reader.end! };
  } finally {
    reader.close();
  }
}

/** What a log is opened with after a recovery that read everything. */
export function optionsAfter(directory: StorageDirectory, end: LogEnd, dataDevice: Device): LogOptions {
  return {
    directory,
    storeId: STORE_ID,
    segmentSize: SEGMENT_SIZE,
    endLsn: end.lsn,
    previousChecksum: end.previousChecksum ?? 0,
    lastTimeMicroseconds: end.timeMicroseconds,
    syncFrom: FIRST_LSN,
    dataDevice,
    commitIntervalMs: 1000,
  };
}

/** Recovers the whole log and says how to go on. */
export function recover(directory: StorageDirectory): LogOptions {
  const { end } = readAll(directory);
  return optionsAfter(directory, end, directory.open('data', { create: true }));
}
