/**
 * Rows of the catalog and of the registry.
 *
 * versions tree:   [LSN u64be] → time µs u64 | root page u48 | root checksum u32 | flags u8
 * lifetimes tree:  [death u64be][birth u64be][page u48be] → count u32: pages that states in [birth, death) hold
 * lives tree:      [page u48be] → count u48 | lives u32 | since u64: pages that a restore brought back to life
 * free tree:       [page u48be] → count u48 | after u64: free once the checkpoint after `after` is durable
 * registry tree:   [name] → LSN u64 | created at µs u64 | message length u16 | message (UTF-8) | tags, each length u8 | UTF-8
 */
import { assert } from '../errors.ts';
import { ByteReader, exactU64BE, putU16, putU32, putU48, putU64, putU64BE } from './bytes.ts';
import type { PageRef } from './page.ts';

export interface VersionRow {
  lsn: number;
  timeMicroseconds: number;
  root: PageRef;
  /** It cannot be opened any more; its pages are being reclaimed. */
  dropped: boolean;
  /** It is the first version after a restore: replay from an older one would need what was restored. */
  restored: boolean;
}

const VERSION_DROPPED = 1;
const VERSION_RESTORED = 2;

export function versionKey(lsn: number): Buffer {
  const key = Buffer.allocUnsafe(8);
  putU64BE(key, 0, lsn);
  return key;
}

export function encodeVersionRow(row: Readonly<VersionRow>): Buffer {
  const value = Buffer.allocUnsafe(19);
  putU64(value, 0, row.timeMicroseconds);
  putU48(value, 8, row.root.number);
  putU32(value, 14, row.root.checksum);
  value[18] = (row.dropped ? VERSION_DROPPED : 0) | (row.restored ? VERSION_RESTORED : 0);
  return value;
}

export function decodeVersionRow(key: Uint8Array, value: Uint8Array): VersionRow {
  const lsn = exactU64BE(
    new ByteReader(key, 0, key.length, 'the key of a version').view(8),
    0,
    'the key of a version',
  );
  const reader = new ByteReader(value, 0, value.length, 'the row of a version');
  const timeMicroseconds = reader.u64();
  const number = reader.u48();
  const checksum = reader.u32();
  const flags = reader.u8();
  return {
    lsn,
    timeMicroseconds,
    root: { number, lsn, checksum },
    dropped: (flags & VERSION_DROPPED) !== 0,
    restored: (flags & VERSION_RESTORED) !== 0,
  };
}

export interface Lifetime {
  page: number;
  count: number;
  /** The first LSN whose state can hold the pages … */
  birth: number;
  /** … and the first whose state does not. */
  death: number;
}

function putU48BE(bytes: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / 2 ** 32);
  bytes[at] = high >>> 8;
  bytes[at + 1] = high;
  bytes[at + 2] = value >>> 24;
  bytes[at + 3] = value >>> 16;
  bytes[at + 4] = value >>> 8;
  bytes[at + 5] = value;
}

function getU48BE(bytes: Uint8Array, at: number): number {
  const high = (bytes[at]! << 8) | bytes[at + 1]!;
  const low =
    ((bytes[at + 2]! << 24) | (bytes[at + 3]! << 16) | (bytes[at + 4]! << 8) | bytes[at + 5]!) >>> 0;
  return high * 2 ** 32 + low;
}

export function lifetimeKey(death: number, birth: number, page: number): Buffer {
  const key = Buffer.allocUnsafe(22);
  putU64BE(key, 0, death);
  putU64BE(key, 8, birth);
  putU48BE(key, 16, page);
  return key;
}

export function encodeLifetime(count: number): Buffer {
  const value = Buffer.allocUnsafe(4);
  putU32(value, 0, count);
  return value;
}

export function decodeLifetime(key: Uint8Array, value: Uint8Array): Lifetime {
  const keyReader = new ByteReader(key, 0, key.length, 'the key of a lifetime');
  const death = exactU64BE(keyReader.view(8), 0, 'the key of a lifetime');
  const birth = exactU64BE(keyReader.view(8), 0, 'the key of a lifetime');
  const page = getU48BE(keyReader.view(6), 0);
  const reader = new ByteReader(value, 0, value.length, 'the row of a lifetime');
  return { death, birth, page, count: reader.u32() };
}

export interface Lives {
  page: number;
  count: number;
  /** How many lifetimes the pages have that are not reclaimed, the present one included: at least 1. */
  lives: number;
  /** The LSN of the restore that began the newest of them. */
  since: number;
}

export function livesKey(page: number): Buffer {
  return freeKey(page);
}

export function encodeLives(row: Readonly<Lives>): Buffer {
  const value = Buffer.allocUnsafe(18);
  putU48(value, 0, row.count);
  putU32(value, 6, row.lives);
  putU64(value, 10, row.since);
  return value;
}

export function decodeLives(key: Uint8Array, value: Uint8Array): Lives {
  const page = getU48BE(new ByteReader(key, 0, key.length, 'the key of restored pages').view(6), 0);
  const reader = new ByteReader(value, 0, value.length, 'the row of restored pages');
  return { page, count: reader.u48(), lives: reader.u32(), since: reader.u64() };
}

export interface FreeRun {
  page: number;
  count: number;
  /** LSN of the checkpoint that freed the run; 0 when it may be used at once. */
  after: number;
}

export function freeKey(page: number): Buffer {
  const key = Buffer.allocUnsafe(6);
  putU48BE(key, 0, page);
  return key;
}

export function encodeFreeRun(count: number, after: number): Buffer {
  const value = Buffer.allocUnsafe(14);
  putU48(value, 0, count);
  putU64(value, 6, after);
  return value;
}

/** The row whose key is the first `keyLength` of some bytes, and whose value is bytes[start, start + length). */
export function freeRunAt(
  key: Uint8Array,
  keyLength: number,
  bytes: Uint8Array,
  start: number,
  length: number,
): FreeRun {
  const keyReader = new ByteReader(key, 0, keyLength, 'the key of free space');
  if (keyLength < 6) keyReader.fail(`has ${keyLength} bytes`);
  const reader = new ByteReader(bytes, start, start + length, 'the row of free space');
  return { page: getU48BE(key, 0), count: reader.u48(), after: reader.u64() };
}

export function decodeFreeRun(key: Uint8Array, value: Uint8Array): FreeRun {
  return freeRunAt(key, key.length, value, 0, value.length);
}

export interface SnapshotRow {
  name: string;
  lsn: number;
  createdMicroseconds: number;
  message: string;
  /** Tags of who holds it, sorted: while there is one it is not deleted. */
  holds: readonly string[];
}

export function encodeSnapshotRow(row: Readonly<SnapshotRow>): Buffer {
  const message = Buffer.from(row.message, 'utf8');
  const start = Buffer.alloc(18);
  putU64(start, 0, row.lsn);
  putU64(start, 8, row.createdMicroseconds);
  putU16(start, 16, message.length);
  const tags = row.holds.flatMap((tag) => {
    const bytes = Buffer.from(tag, 'utf8');
    assert(bytes.length > 0 && bytes.length <= 255, 'a tag has 1 to 255 bytes');
    return [Buffer.of(bytes.length), bytes];
  });
  return Buffer.concat([start, message, ...tags]);
}

/** The LSN of a snapshot whose row is bytes[start, start + length). */
export function snapshotRowLsn(bytes: Uint8Array, start: number, length: number): number {
  return new ByteReader(bytes, start, start + length, 'the row of a snapshot').u64();
}

export function decodeSnapshotRow(key: Uint8Array, value: Uint8Array): SnapshotRow {
  const reader = new ByteReader(value, 0, value.length, 'the row of a snapshot');
  const lsn = reader.u64();
  const createdMicroseconds = reader.u64();
  const message = Buffer.from(reader.view(reader.u16())).toString('utf8');
  const holds: string[] = [];
  while (reader.remaining > 0) holds.push(Buffer.from(reader.view(reader.u8())).toString('utf8'));
  return { name: Buffer.from(key).toString('utf8'), lsn, createdMicroseconds, message, holds };
}
