/** The log of a store that is open for reading only: it has an end and takes nothing. */
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import type { DurabilityCallback, Log } from '../wal/log.ts';
import { listSegments } from '../wal/segment.ts';

export class ClosedLog implements Log {
  readonly lsn: number;
  readonly durableLsn: number;
  readonly failure = undefined;
  readonly segmentCount: number;
  readonly segmentSize: number;

  constructor(lsn: number, segmentSize: number, directory: StorageDirectory) {
    this.lsn = lsn;
    this.durableLsn = lsn;
    this.segmentSize = segmentSize;
    this.segmentCount = listSegments(directory, segmentSize).length;
  }

  private refuse(): never {
    throw new LsnfsError('READ_ONLY', 'the store is open for reading only');
  }

  reserve(): void {
    this.refuse();
  }
  append(): number {
    return this.refuse();
  }
  noteDataDirty(): void {
    this.refuse();
  }
  sync(): Promise<void> {
    return Promise.resolve();
  }
  syncNow(): boolean {
    return true;
  }
  requestSync(): void {}
  onDurable(_lsn: number, callback: DurabilityCallback): void {
    queueMicrotask(() => callback(undefined));
  }
  poll(): void {}
  writeWhenDurable(): void {
    this.refuse();
  }
  syncData(): Promise<void> {
    return Promise.resolve();
  }
  onDataSynced(callback: DurabilityCallback): void {
    queueMicrotask(() => callback(undefined));
  }
  trim(): number {
    return this.refuse();
  }
  flushToFiles(): void {}
  close(): Promise<void> {
    return Promise.resolve();
  }
}
