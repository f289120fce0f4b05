/**
 * Beginning a log, and going on with one after recovery.
 *
 * Before the first append everything behind the end that recovery found is wiped out, and what is kept is written again
 * and synced. A process that was killed leaves transactions that the next one reads from the page cache but no disk
 * holds yet; and when a sync has failed, Linux counts the pages as clean although the disk never got them, so that
 * another sync alone would report success and write nothing (fsync(2); "fsyncgate"). Each step can be interrupted anywhere and done again, because until all are done and synced nothing is
 * appended: recovery finds the same end again.
 */
import { encodeSegmentHeader, SEGMENT_HEADER_SIZE } from '../encoding/frame.ts';
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import type { LogOptions } from './log.ts';
import {
  listSegments,
  removeHalfMadeSegment,
  SegmentFiles,
  segmentName,
  segmentOfEnd,
  WAL_DIRECTORY,
} from './segment.ts';

const CHUNK_SIZE = 1024 * 1024;

/** Makes an empty log: its directory and first segment. May be done again after a crash in its midst. */
export function initializeLog(
  directory: StorageDirectory,
  options: { readonly storeId: Uint8Array; readonly segmentSize: number },
): void {
  const { storeId, segmentSize } = options;
  directory.makeDirectory(WAL_DIRECTORY);
  removeHalfMadeSegment(directory);
  for (const index of listSegments(directory, segmentSize)) directory.remove(segmentName(index, segmentSize));
  const files = new SegmentFiles(directory, segmentSize, -1);
  try {
    files.prepare(0);
    const header = new Uint8Array(SEGMENT_HEADER_SIZE);
    encodeSegmentHeader(header, 0, { storeId, segmentSize, firstLsn: 0, previousChecksum: 0 });
    files.write(0, header, 0, header.length);
    for (const device of files.takeUnsynced()) device.syncNow();
  } finally {
    files.close();
  }
  directory.syncDirectory('');
}

/** Makes the end of the log what `options` says and everything before it durable. Returns the segments there are. */
export function prepareTail(
  options: Pick<LogOptions, 'directory' | 'segmentSize' | 'endLsn' | 'syncFrom' | 'dataDevice'>,
): { first: number; prepared: number } {
  const { directory, segmentSize, endLsn } = options;
  const tail = segmentOfEnd(endLsn, segmentSize);
  removeHalfMadeSegment(directory);
  const segments = listSegments(directory, segmentSize);
  if (!segments.includes(tail)) {
    const name = segmentName(tail, segmentSize);
    throw new LsnfsError('CORRUPT_LOG', `segment ${name}, in which the log ends, is missing`, {
      segment: name,
      endLsn,
    });
  }
  let prepared = tail;
  while (segments.includes(prepared + 1) && isUnused(directory, prepared + 1, segmentSize)) prepared++;
  for (const index of segments.toReversed()) {
    if (index > prepared) directory.remove(segmentName(index, segmentSize));
  }
  const syncFrom = Math.min(tail, Math.floor(options.syncFrom / segmentSize));
  for (const index of segments) {
    if (index < syncFrom || index > tail) continue;
    const device = directory.open(segmentName(index, segmentSize));
    try {
      const start = index * segmentSize;
      writeAgain(device, Math.max(0, options.syncFrom - start), Math.min(segmentSize, endLsn - start));
      if (index === tail) wipe(device, endLsn - start, segmentSize);
      device.syncNow();
    } finally {
      device.close();
    }
  }
  directory.syncDirectory(WAL_DIRECTORY);
  options.dataDevice.syncNow();
  return { first: firstOfRun(segments, tail), prepared };
}

/** The first of the segments that lead to `tail` without a gap. */
function firstOfRun(segments: readonly number[], tail: number): number {
  let first = tail;
  while (segments.includes(first - 1)) first--;
  return first;
}

/** Whether a segment has its full size and nothing but zeros: one that was made ahead of need. */
function isUnused(directory: StorageDirectory, index: number, segmentSize: number): boolean {
  const device = directory.open(segmentName(index, segmentSize), { readOnly: true });
  try {
    return device.size() === segmentSize && firstWritten(device, 0, segmentSize) < 0;
  } finally {
    device.close();
  }
}

const zeros = Buffer.alloc(CHUNK_SIZE);

/** The offset of the first chunk from `position` on that is not all zeros, or -1. */
function firstWritten(device: Device, position: number, end: number): number {
  const chunk = Buffer.allocUnsafeSlow(Math.max(0, Math.min(CHUNK_SIZE, end - position)));
  for (let at = position; at < end; at += CHUNK_SIZE) {
    const length = device.read(at, chunk, 0, Math.min(CHUNK_SIZE, end - at));
    if (chunk.compare(zeros, 0, length, 0, length) !== 0) return at;
  }
  return -1;
}

/** Writes what stands in [position, end) to the same place. */
function writeAgain(device: Device, position: number, end: number): void {
  const chunk = Buffer.allocUnsafeSlow(Math.max(0, Math.min(CHUNK_SIZE, end - position)));
  for (let at = position; at < end; at += CHUNK_SIZE) {
    const length = device.read(at, chunk, 0, Math.min(CHUNK_SIZE, end - at));
    device.write(at, chunk, 0, length);
  }
}

/** Zeros from `position` to the end of the segment, written only where something else stands. */
function wipe(device: Device, position: number, segmentSize: number): void {
  for (let at = firstWritten(device, position, segmentSize); at >= 0; ) {
    const length = Math.min(CHUNK_SIZE, segmentSize - at);
    device.write(at, zeros, 0, length);
    at = firstWritten(device, at + length, segmentSize);
  }
  // A short file (a copy that was cut off) gets its space back.
  const size = device.size();
  for (let at = size; at < segmentSize; at += CHUNK_SIZE) {
    device.write(at, zeros, 0, Math.min(CHUNK_SIZE, segmentSize - at));
  }
}
