/**
 * Records: the changes of which transactions are made.
 *
 * A transaction's payload is one record after the other, without padding. A record is an op byte and fields of
 * fixed width (little-endian), then its bytes: nothing has to be parsed to know where a field is, and the frame's
 * checksum has seen it all. The log holds file data in the main, so that variable-length integers would save little.
 *
 * RecordWriter encodes into one growing buffer that is used again for every transaction. RecordReader decodes in
 * place: fields are members, byte strings are views into the payload. Whatever does not fit, is unknown or
 * impossible is CORRUPT_RECORD, also though the checksum was right: what is read from disk is never trusted.
 */
import { assert, LsnfsError } from '../errors.ts';
import {
  getU16,
  getU32,
  getU48,
  getU64,
  getU64BE,
  MAX_U48,
  putU16,
  putU32,
  putU48,
  putU64,
} from './bytes.ts';
import {
  KEY_MAX,
  KIND_EXTENT,
  KIND_INODE,
  KIND_ORPHAN,
  KIND_XATTR,
  keyInode,
  NAME_MAX,
  TREE,
  type TreeId,
} from './keys.ts';

export const RECORD = {
  put: 1,
  delete: 2,
  write: 3,
  map: 4,
  unmap: 5,
  allocate: 6,
  nextInode: 7,
  snapshot: 8,
  snapshotDelete: 9,
  checkpoint: 10,
  restore: 11,
  restoreFrom: 12,
  origin: 13,
  take: 14,
} as const;
export type RecordOp = (typeof RECORD)[keyof typeof RECORD];

/** Sizes of the records before their bytes: op and fixed fields. */
export const PUT_SIZE = 1 + 1 + 2 + 4; // op, tree u8, key length u16, value length u32
export const DELETE_SIZE = 1 + 1 + 2; // op, tree u8, key length u16
export const WRITE_SIZE = 1 + 8 + 8 + 4; // op, inode u64, offset u64, length u32
export const MAP_SIZE = 1 + 8 + 8 + 6 + 2; // op, inode u64, block u64, page u48, count u16; then u32 checksums
export const UNMAP_SIZE = 1 + 8 + 8 + 8; // op, inode u64, block u64, count u64 (all ones: to the end)
export const ALLOCATE_SIZE = 1 + 8 + 8 + 8; // op, inode u64, block u64, count u64
export const NEXT_INODE_SIZE = 1 + 8; // op, value u64
export const SNAPSHOT_SIZE = 1 + 8 + 2 + 2; // op, created at u64 (µs), name length u16, message length u16
export const SNAPSHOT_DELETE_SIZE = 1 + 2; // op, name length u16
export const CHECKPOINT_SIZE = 1 + 8 + 8 + 6 + 8 + 4; // op, lsn u64, time u64 (µs), root page u48, LSN u64, checksum u32
export const RESTORE_SIZE = 1 + 8; // op, LSN of the state u64
export const RESTORE_FROM_SIZE = 1 + 8; // op, LSN of the state u64
export const TAKE_SIZE = 1 + 8; // op, inode u64
export const ORIGIN_SIZE = 1 + 4 + 4; // op, uid u32, pid u32

/** Pages that one MAP record can name. */
export const MAP_COUNT_MAXIMUM = 1024;
/** Blocks that one ALLOCATE may set aside: what a record of 25 bytes makes of memory stays bounded. */
export const ALLOCATE_COUNT_MAXIMUM = 2 ** 24;
/** Bytes of a snapshot's name and message. */
export const SNAPSHOT_NAME_MAXIMUM = NAME_MAX;
export const SNAPSHOT_MESSAGE_MAXIMUM = 4096;

const INITIAL_CAPACITY = 64 * 1024;
/** A buffer that grew beyond this for one giant transaction is given back at the next reset. */
const KEPT_CAPACITY = 4 * 1024 * 1024;

/** Encodes the records of one transaction, one after the other. */
export class RecordWriter {
  /** The encoded records are bytes[0, length). The buffer changes when it grows. */
  bytes: Buffer;
  length = 0;
  /** Records since the last reset. */
  count = 0;

  constructor(capacity: number = INITIAL_CAPACITY) {
    this.bytes = Buffer.allocUnsafeSlow(capacity);
  }

  reset(): void {
    this.length = 0;
    this.count = 0;
    if (this.bytes.length > KEPT_CAPACITY) this.bytes = Buffer.allocUnsafeSlow(INITIAL_CAPACITY);
  }

  /** Takes the records after a mark back: `length` and `count` as they were. */
  truncate(length: number, count: number): void {
    assert(length <= this.length && count <= this.count, 'a mark lies before the end');
    this.length = length;
    this.count = count;
  }

  /** Begins a record of `size` bytes; returns where its op byte stands. */
  private begin(op: RecordOp, size: number): number {
    const at = this.length;
    if (at + size > this.bytes.length) this.grow(at + size);
    this.bytes[at] = op;
    this.length = at + size;
    this.count++;
    return at;
  }

  private grow(needed: number): void {
    const grown = Buffer.allocUnsafeSlow(Math.max(needed, this.bytes.length * 2));
    this.bytes.copy(grown, 0, 0, this.length);
    this.bytes = grown;
  }

  put(tree: TreeId, key: Uint8Array, value: Uint8Array): void {
    assert(key.length <= KEY_MAX, 'a key is too long');
    const at = this.begin(RECORD.put, PUT_SIZE + key.length + value.length);
    const b = this.bytes;
    b[at + 1] = tree;
    putU16(b, at + 2, key.length);
    putU32(b, at + 4, value.length);
    b.set(key, at + PUT_SIZE);
    b.set(value, at + PUT_SIZE + key.length);
  }

  delete(tree: TreeId, key: Uint8Array): void {
    assert(key.length <= KEY_MAX, 'a key is too long');
    const at = this.begin(RECORD.delete, DELETE_SIZE + key.length);
    this.bytes[at + 1] = tree;
    putU16(this.bytes, at + 2, key.length);
    this.bytes.set(key, at + DELETE_SIZE);
  }

  /** File data source[start, start + length) that the log itself carries. */
  write(inode: number, offset: number, source: Uint8Array, start: number, length: number): void {
    const at = this.begin(RECORD.write, WRITE_SIZE + length);
    const b = this.bytes;
    putU64(b, at + 1, inode);
    putU64(b, at + 9, offset);
    putU32(b, at + 17, length);
    b.set(
      start === 0 && length === source.length ? source : source.subarray(start, start + length),
      at + WRITE_SIZE,
    );
  }

  /** Pages page … page + count - 1 of the data file become file blocks block … block + count - 1. */
  map(inode: number, block: number, page: number, count: number, checksums: ArrayLike<number>): void {
    assert(
      count >= 1 && count <= MAP_COUNT_MAXIMUM && checksums.length >= count,
      'a run has 1 to 1024 pages',
    );
    const at = this.begin(RECORD.map, MAP_SIZE + 4 * count);
    const b = this.bytes;
    putU64(b, at + 1, inode);
    putU64(b, at + 9, block);
    putU48(b, at + 17, page);
    putU16(b, at + 23, count);
    for (let i = 0; i < count; i++) putU32(b, at + MAP_SIZE + 4 * i, checksums[i]!);
  }

  /** A hole of `count` blocks; Infinity reaches to the end of the file. */
  unmap(inode: number, block: number, count: number): void {
    const at = this.begin(RECORD.unmap, UNMAP_SIZE);
    const b = this.bytes;
    putU64(b, at + 1, inode);
    putU64(b, at + 9, block);
    if (count === Number.POSITIVE_INFINITY) b.fill(0xff, at + 17, at + 25);
    else putU64(b, at + 17, count);
  }

  /** Holes among these blocks become zeroed pages. */
  allocate(inode: number, block: number, count: number): void {
    const at = this.begin(RECORD.allocate, ALLOCATE_SIZE);
    putU64(this.bytes, at + 1, inode);
    putU64(this.bytes, at + 9, block);
    putU64(this.bytes, at + 17, count);
  }

  nextInode(value: number): void {
    const at = this.begin(RECORD.nextInode, NEXT_INODE_SIZE);
    putU64(this.bytes, at + 1, value);
  }

  snapshot(name: string, createdAtMicroseconds: number, message: string): void {
    const nameBytes = Buffer.from(name);
    const messageBytes = Buffer.from(message);
    assert(nameBytes.length >= 1 && nameBytes.length <= SNAPSHOT_NAME_MAXIMUM, 'a name has 1 to 255 bytes');
    assert(messageBytes.length <= SNAPSHOT_MESSAGE_MAXIMUM, 'a message has up to 4096 bytes');
    const at = this.begin(RECORD.snapshot, SNAPSHOT_SIZE + nameBytes.length + messageBytes.length);
    putU64(this.bytes, at + 1, createdAtMicroseconds);
    putU16(this.bytes, at + 9, nameBytes.length);
    putU16(this.bytes, at + 11, messageBytes.length);
    this.bytes.set(nameBytes, at + SNAPSHOT_SIZE);
    this.bytes.set(messageBytes, at + SNAPSHOT_SIZE + nameBytes.length);
  }

  snapshotDelete(name: string): void {
    const nameBytes = Buffer.from(name);
    assert(nameBytes.length >= 1 && nameBytes.length <= SNAPSHOT_NAME_MAXIMUM, 'a name has 1 to 255 bytes');
    const at = this.begin(RECORD.snapshotDelete, SNAPSHOT_DELETE_SIZE + nameBytes.length);
    putU16(this.bytes, at + 1, nameBytes.length);
    this.bytes.set(nameBytes, at + SNAPSHOT_DELETE_SIZE);
  }

  checkpoint(
    lsn: number,
    timeMicroseconds: number,
    rootPage: number,
    rootLsn: number,
    rootChecksum: number,
  ): void {
    const at = this.begin(RECORD.checkpoint, CHECKPOINT_SIZE);
    const b = this.bytes;
    putU64(b, at + 1, lsn);
    putU64(b, at + 9, timeMicroseconds);
    putU48(b, at + 17, rootPage);
    putU64(b, at + 23, rootLsn);
    putU32(b, at + 31, rootChecksum);
  }

  /** The files become those of the state at `lsn`. The first record of its transaction. */
  restore(lsn: number): void {
    const at = this.begin(RECORD.restore, RESTORE_SIZE);
    putU64(this.bytes, at + 1, lsn);
  }

  /** The TAKE records that follow mean the state at `lsn`. */
  restoreFrom(lsn: number): void {
    const at = this.begin(RECORD.restoreFrom, RESTORE_FROM_SIZE);
    putU64(this.bytes, at + 1, lsn);
  }

  /** An inode's record, attributes and content become what they are in the state that RESTORE_FROM named. */
  take(inode: number): void {
    const at = this.begin(RECORD.take, TAKE_SIZE);
    putU64(this.bytes, at + 1, inode);
  }

  /** Who asked for the transaction: its first record, if it has one. */
  origin(uid: number, pid: number): void {
    const at = this.begin(RECORD.origin, ORIGIN_SIZE);
    putU32(this.bytes, at + 1, uid);
    putU32(this.bytes, at + 5, pid);
  }
}

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });
const TREE_IDS: ReadonlySet<number> = new Set(Object.values(TREE));
const NO_BYTES = new Uint8Array(0);

/**
 * Reads the records of a payload one after the other: `while (reader.next()) switch (reader.op) …`. The members
 * that belong to the op are valid until the next call; views point into the payload.
 */
export class RecordReader {
  /** The payload; records are decoded from bytes[0, end). */
  bytes: Uint8Array = NO_BYTES;
  private end = 0;

  op: RecordOp = RECORD.put;
  /** The record is bytes[recordStart, recordEnd). */
  recordStart = 0;
  recordEnd = 0;
  /** PUT, DELETE. */
  tree: TreeId = TREE.namespace;
  keyStart = 0;
  keyLength = 0;
  /** PUT: the value; WRITE: the data. */
  valueStart = 0;
  valueLength = 0;
  /** WRITE, MAP, UNMAP, ALLOCATE, TAKE. */
  inode = 0;
  /** WRITE: byte offset in the file. */
  offset = 0;
  /** MAP, UNMAP, ALLOCATE: the first block, and how many (UNMAP: Infinity reaches to the end). */
  block = 0;
  count = 0;
  /** MAP: the first page of the run. */
  page = 0;
  /** NEXT_INODE. */
  nextInode = 0;
  /** SNAPSHOT: created at. CHECKPOINT: sealed at. */
  timeMicroseconds = 0;
  /** SNAPSHOT, SNAPSHOT_DELETE. */
  name = '';
  /** SNAPSHOT. */
  message = '';
  /** CHECKPOINT: the sealed LSN and the catalog root. RESTORE, RESTORE_FROM: that of the state. */
  lsn = 0;
  rootPage = 0;
  rootLsn = 0;
  rootChecksum = 0;
  /** ORIGIN. */
  uid = 0;
  pid = 0;

  constructor(payload: Uint8Array = NO_BYTES, length: number = payload.length) {
    this.open(payload, length);
  }

  /** Starts at the beginning of a payload. */
  open(payload: Uint8Array, length: number = payload.length): void {
    this.bytes = payload;
    this.end = length;
    this.recordStart = 0;
    this.recordEnd = 0;
  }

  /** PUT, DELETE: a view of the key. */
  get key(): Uint8Array {
    return this.bytes.subarray(this.keyStart, this.keyStart + this.keyLength);
  }

  /** PUT: a view of the value. WRITE: a view of the data. */
  get value(): Uint8Array {
    return this.bytes.subarray(this.valueStart, this.valueStart + this.valueLength);
  }

  /** MAP: the checksum of the run's page with this index. */
  checksum(index: number): number {
    assert(index >= 0 && index < this.count, 'a page of the run');
    return getU32(this.bytes, this.recordStart + MAP_SIZE + 4 * index);
  }

  /**
   * Decodes the next record. Returns false at the end of the payload.
   * @throws LsnfsError CORRUPT_RECORD
   */
  next(): boolean {
    const at = this.recordEnd;
    this.recordStart = at;
    if (at >= this.end) return false;
    const b = this.bytes;
    const op = b[at]!;
    switch (op) {
      case RECORD.put:
        this.need(PUT_SIZE);
        this.readTree(at + 1);
        this.keyLength = getU16(b, at + 2);
        this.valueLength = getU32(b, at + 4);
        this.keyStart = at + PUT_SIZE;
        this.valueStart = this.keyStart + this.keyLength;
        this.checkKey();
        this.need(PUT_SIZE + this.keyLength + this.valueLength);
        break;
      case RECORD.delete:
        this.need(DELETE_SIZE);
        this.readTree(at + 1);
        this.keyLength = getU16(b, at + 2);
        this.keyStart = at + DELETE_SIZE;
        this.checkKey();
        this.need(DELETE_SIZE + this.keyLength);
        break;
      case RECORD.write:
        this.need(WRITE_SIZE);
        this.inode = this.exact(at + 1);
        this.offset = this.exact(at + 9);
        this.valueLength = getU32(b, at + 17);
        this.valueStart = at + WRITE_SIZE;
        this.need(WRITE_SIZE + this.valueLength);
        if (!Number.isSafeInteger(this.offset + this.valueLength))
          this.fail('a file would exceed 2^53 bytes');
        break;
      case RECORD.map:
        this.need(MAP_SIZE);
        this.inode = this.exact(at + 1);
        this.block = this.exact(at + 9);
        this.page = getU48(b, at + 17);
        this.count = getU16(b, at + 23);
        if (this.count < 1 || this.count > MAP_COUNT_MAXIMUM) this.fail(`a run of ${this.count} pages`);
        if (this.page + this.count - 1 > MAX_U48) this.fail('a run leaves the data file');
        this.checkBlocks();
        this.need(MAP_SIZE + 4 * this.count);
        break;
      case RECORD.unmap:
        this.need(UNMAP_SIZE);
        this.inode = this.exact(at + 1);
        this.block = this.exact(at + 9);
        if (getU32(b, at + 17) === 0xffffffff && getU32(b, at + 21) === 0xffffffff) {
          this.count = Number.POSITIVE_INFINITY;
        } else {
          this.count = this.exact(at + 17);
          this.checkBlocks();
        }
        break;
      case RECORD.allocate:
        this.need(ALLOCATE_SIZE);
        this.inode = this.exact(at + 1);
        this.block = this.exact(at + 9);
        this.count = this.exact(at + 17);
        if (this.count < 1 || this.count > ALLOCATE_COUNT_MAXIMUM)
          this.fail(`a range of ${this.count} blocks`);
        this.checkBlocks();
        break;
      case RECORD.nextInode:
        this.need(NEXT_INODE_SIZE);
        this.nextInode = this.exact(at + 1);
        break;
      case RECORD.snapshot: {
        this.need(SNAPSHOT_SIZE);
        this.timeMicroseconds = this.exact(at + 1);
        const nameLength = this.nameLength(at + 9);
        const messageLength = getU16(b, at + 11);
        if (messageLength > SNAPSHOT_MESSAGE_MAXIMUM) this.fail(`a message of ${messageLength} bytes`);
        this.need(SNAPSHOT_SIZE + nameLength + messageLength);
        this.name = this.text(at + SNAPSHOT_SIZE, nameLength);
        this.message = this.text(at + SNAPSHOT_SIZE + nameLength, messageLength);
        break;
      }
      case RECORD.snapshotDelete: {
        this.need(SNAPSHOT_DELETE_SIZE);
        const nameLength = this.nameLength(at + 1);
        this.need(SNAPSHOT_DELETE_SIZE + nameLength);
        this.name = this.text(at + SNAPSHOT_DELETE_SIZE, nameLength);
        break;
      }
      case RECORD.checkpoint:
        this.need(CHECKPOINT_SIZE);
        this.lsn = this.exact(at + 1);
        this.timeMicroseconds = this.exact(at + 9);
        this.rootPage = getU48(b, at + 17);
        this.rootLsn = this.exact(at + 23);
        this.rootChecksum = getU32(b, at + 31);
        break;
      case RECORD.restore:
      case RECORD.restoreFrom:
        this.need(RESTORE_SIZE);
        this.lsn = this.exact(at + 1);
        break;
      case RECORD.take:
        this.need(TAKE_SIZE);
        this.inode = this.exact(at + 1);
        break;
      case RECORD.origin:
        this.need(ORIGIN_SIZE);
        if (at > 0) this.fail('who asked is said amid a transaction');
        this.uid = getU32(b, at + 1);
        this.pid = getU32(b, at + 5);
        break;
      default:
        this.fail(`unknown op ${op}`);
    }
    this.op = op as RecordOp;
    return true;
  }

  /** The record has at least `size` bytes; the last call for a record says where it ends. */
  private need(size: number): void {
    if (size > this.end - this.recordStart) {
      this.fail(`needs ${size} bytes, and ${this.end - this.recordStart} are left`);
    }
    this.recordEnd = this.recordStart + size;
  }

  private exact(at: number): number {
    const value = getU64(this.bytes, at);
    if (!Number.isSafeInteger(value)) this.fail('a number exceeds 2^53');
    return value;
  }

  private readTree(at: number): void {
    const tree = this.bytes[at]!;
    if (!TREE_IDS.has(tree)) this.fail(`unknown tree ${tree}`);
    this.tree = tree as TreeId;
  }

  private checkKey(): void {
    if (this.keyLength === 0 || this.keyLength > KEY_MAX) this.fail(`a key of ${this.keyLength} bytes`);
  }

  private checkBlocks(): void {
    if (!Number.isSafeInteger(this.block + this.count)) this.fail('a block number exceeds 2^53');
  }

  private nameLength(at: number): number {
    const length = getU16(this.bytes, at);
    if (length < 1 || length > SNAPSHOT_NAME_MAXIMUM) this.fail(`a name of ${length} bytes`);
    return length;
  }

  private text(at: number, length: number): string {
    try {
      return utf8.decode(this.bytes.subarray(at, at + length));
    } catch (error) {
      if (error instanceof TypeError) this.fail('a text is not UTF-8');
      throw error;
    }
  }

  private fail(why: string): never {
    const details = { position: this.recordStart, op: this.bytes[this.recordStart] };
    throw new LsnfsError(
      'CORRUPT_RECORD',
      `the record at ${this.recordStart} of its transaction is damaged: ${why}`,
      details,
    );
  }
}

const RECORD_NAMES = new Map<number, string>(
  Object.entries(RECORD).map(([name, op]) => [op, name.replace(/[A-Z]/g, '_$&').toUpperCase()]),
);
const TREE_NAMES = new Map<number, string>(Object.entries(TREE).map(([name, id]) => [id, name]));

/** "PUT", "NEXT_INODE": what a kind of record is called in texts. */
export function recordName(op: RecordOp): string {
  return RECORD_NAMES.get(op)!;
}

/** One line of text for the record that the reader stands on. */
export function describeRecord(reader: RecordReader): string {
  switch (reader.op) {
    case RECORD.put:
      return `PUT ${TREE_NAMES.get(reader.tree)} ${describeKey(reader)} = ${reader.valueLength} bytes`;
    case RECORD.delete:
      return `DELETE ${TREE_NAMES.get(reader.tree)} ${describeKey(reader)}`;
    case RECORD.write:
      return `WRITE inode ${reader.inode} offset ${reader.offset} length ${reader.valueLength}`;
    case RECORD.map:
      return `MAP inode ${reader.inode} blocks ${range(reader.block, reader.count)} = pages ${range(reader.page, reader.count)}`;
    case RECORD.unmap:
      return reader.count === Number.POSITIVE_INFINITY
        ? `UNMAP inode ${reader.inode} blocks ${reader.block}..end`
        : `UNMAP inode ${reader.inode} blocks ${range(reader.block, reader.count)}`;
    case RECORD.allocate:
      return `ALLOCATE inode ${reader.inode} blocks ${range(reader.block, reader.count)}`;
    case RECORD.nextInode:
      return `NEXT_INODE ${reader.nextInode}`;
    case RECORD.snapshot: {
      const message = reader.message === '' ? '' : ` message ${JSON.stringify(reader.message)}`;
      return `SNAPSHOT ${JSON.stringify(reader.name)} at ${describeTime(reader.timeMicroseconds)}${message}`;
    }
    case RECORD.snapshotDelete:
      return `SNAPSHOT_DELETE ${JSON.stringify(reader.name)}`;
    case RECORD.checkpoint: {
      const root = `root page ${reader.rootPage} lsn ${reader.rootLsn} checksum ${reader.rootChecksum}`;
      return `CHECKPOINT lsn ${reader.lsn} at ${describeTime(reader.timeMicroseconds)} ${root}`;
    }
    case RECORD.restore:
      return `RESTORE lsn ${reader.lsn}`;
    case RECORD.restoreFrom:
      return `RESTORE_FROM lsn ${reader.lsn}`;
    case RECORD.take:
      return `TAKE inode ${reader.inode}`;
    case RECORD.origin:
      return `ORIGIN uid ${reader.uid} process ${reader.pid}`;
  }
}

function range(first: number, count: number): string {
  return count === 1 ? `${first}` : `${first}..${first + count - 1}`;
}

/** A time in RFC 3339 with microseconds, or the number where it is no date. */
function describeTime(timeMicroseconds: number): string {
  const date = new Date(Math.floor(timeMicroseconds / 1000));
  if (Number.isNaN(date.getTime())) return `${timeMicroseconds}`;
  const below = String(timeMicroseconds % 1000).padStart(3, '0');
  return date.toISOString().replace('Z', `${below}Z`);
}

function describeKey(reader: RecordReader): string {
  const key = reader.key;
  if (reader.tree === TREE.namespace && key.length > 8)
    return `${keyInode(key)}/${quote(key, 8, key.length)}`;
  if (reader.tree === TREE.registry) return quote(key, 0, key.length);
  if (reader.tree === TREE.inodes && key.length >= 9) {
    const inode = keyInode(key);
    switch (key[8]) {
      case KIND_INODE:
        return `${inode}`;
      case KIND_XATTR:
        return `${inode} xattr ${quote(key, 9, Math.max(9, key.length - 3))}`;
      case KIND_EXTENT:
        if (key.length === 17) return `${inode} block ${getU64BE(key, 9)}`;
        break;
      case KIND_ORPHAN:
        if (key.length === 17) return `orphan ${getU64BE(key, 9)}`;
        break;
    }
  }
  return `0x${Buffer.from(key).toString('hex')}`;
}

/** A name as JSON text; bytes that are not UTF-8 in hexadecimal. */
function quote(bytes: Uint8Array, start: number, end: number): string {
  const part = bytes.subarray(start, end);
  try {
    return JSON.stringify(utf8.decode(part));
  } catch (error) {
    if (error instanceof TypeError) return `0x${Buffer.from(part).toString('hex')}`;
    throw error;
  }
}
