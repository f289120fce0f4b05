/**
 * The inode record: the value of an inode key. Its layout, to the byte, is in docs/FORMAT.md.
 *
 * A record is a fixed part of 80 bytes, followed by the content itself when the file (or the target of a
 * symbolic link) is small: then FLAG_INLINE is set, no extents exist, and the record is exactly 80 + size bytes
 * long. All other content is in extents. One field serves three purposes, by the type of the inode: the mapped
 * pages of a file or symbolic link, the parent of a directory, the number of a device.
 *
 * The bytes come from disk: `decodeInode` accepts only what `encodeInode` can have written.
 */
import { LsnfsError } from '../errors.ts';
import { getI64, getU16, getU32, getU64, putI64, putU16, putU32, putU64 } from './bytes.ts';
import { MAX_INODE } from './keys.ts';

/** Offsets in the record, each derived from the last. All integers little-endian. */
export const INODE_MODE = 0; // u16: type and permission bits, as st_mode
export const INODE_FLAGS = INODE_MODE + 2; // u16: FLAG_*; other bits are zero
export const INODE_UID = INODE_FLAGS + 2; // u32
export const INODE_GID = INODE_UID + 4; // u32
export const INODE_LINKS = INODE_GID + 4; // u32: 0 while an orphan
export const INODE_SIZE = INODE_LINKS + 4; // u64
export const INODE_EXTRA = INODE_SIZE + 8; // u64: pages | parent | device
export const INODE_ACCESS = INODE_EXTRA + 8; // i64 seconds
export const INODE_MODIFY = INODE_ACCESS + 8; // i64 seconds
export const INODE_CHANGE = INODE_MODIFY + 8; // i64 seconds
export const INODE_BIRTH = INODE_CHANGE + 8; // i64 seconds
export const INODE_ACCESS_NS = INODE_BIRTH + 8; // u32
export const INODE_MODIFY_NS = INODE_ACCESS_NS + 4; // u32
export const INODE_CHANGE_NS = INODE_MODIFY_NS + 4; // u32
export const INODE_BIRTH_NS = INODE_CHANGE_NS + 4; // u32
export const INODE_CONTENT = INODE_BIRTH_NS + 4; // 80: inline content

/** The content is in the record. */
export const FLAG_INLINE = 0x01;
/** The inode has extended attributes; without it the tree need not be asked. */
export const FLAG_XATTRS = 0x02;
/** … among them system.posix_acl_access. */
export const FLAG_ACCESS_ACL = 0x04;
/** … among them system.posix_acl_default. */
export const FLAG_DEFAULT_ACL = 0x08;
/** … among them security.capability, which every write removes. */
export const FLAG_CAPABILITY = 0x10;
/** Pages past the end of the file are mapped (fallocate with KEEP_SIZE). */
export const FLAG_PREALLOCATED = 0x20;
/** An unnamed file (O_TMPFILE) that may be given a name. */
export const FLAG_LINKABLE = 0x40;
const FLAGS_KNOWN = 0x7f;

const TYPE_MASK = 0o170000;
const TYPE_DIRECTORY = 0o040000;
const TYPE_REGULAR = 0o100000;
const TYPE_SYMLINK = 0o120000;
const TYPE_CHARACTER = 0o020000;
const TYPE_BLOCK = 0o060000;
const TYPE_FIFO = 0o010000;
const TYPE_SOCKET = 0o140000;

/** A file may be as large as this; every offset and block number below it is exact in a double. */
export const MAX_FILE_SIZE = 2 ** 50;

/** Bytes of a symbolic link's target: PATH_MAX of Linux without the NUL. */
export const SYMLINK_MAX = 4095;

/** Content up to this size is kept in the inode record: a quarter of a page, so that three records fit a page. */
export function inlineMax(pageSize: number): number {
  return pageSize >>> 2;
}

/** The decoded record. `content` may be longer than `size`; what is past the size is scrap. */
export class InodeRecord {
  mode = 0;
  flags = 0;
  uid = 0;
  gid = 0;
  links = 0;
  size = 0;
  /** Mapped pages of file data (st_blocks). */
  pages = 0;
  /** Directories: the directory that this one is an entry of; the root is its own parent. */
  parent = 0;
  device = 0;
  accessSeconds = 0;
  accessNanoseconds = 0;
  modifySeconds = 0;
  modifyNanoseconds = 0;
  changeSeconds = 0;
  changeNanoseconds = 0;
  birthSeconds = 0;
  birthNanoseconds = 0;
  content: Buffer | null = null;

  get isDirectory(): boolean {
    return (this.mode & TYPE_MASK) === TYPE_DIRECTORY;
  }
  get isRegular(): boolean {
    return (this.mode & TYPE_MASK) === TYPE_REGULAR;
  }
  get isSymlink(): boolean {
    return (this.mode & TYPE_MASK) === TYPE_SYMLINK;
  }
}

/** Writes the record into `target` (80 bytes and the inline content must fit). Returns its length. */
export function encodeInode(record: Readonly<InodeRecord>, target: Buffer): number {
  putU16(target, INODE_MODE, record.mode);
  putU16(target, INODE_FLAGS, record.flags);
  putU32(target, INODE_UID, record.uid);
  putU32(target, INODE_GID, record.gid);
  putU32(target, INODE_LINKS, record.links);
  putU64(target, INODE_SIZE, record.size);
  putU64(target, INODE_EXTRA, extraOf(record));
  putI64(target, INODE_ACCESS, record.accessSeconds);
  putI64(target, INODE_MODIFY, record.modifySeconds);
  putI64(target, INODE_CHANGE, record.changeSeconds);
  putI64(target, INODE_BIRTH, record.birthSeconds);
  putU32(target, INODE_ACCESS_NS, record.accessNanoseconds);
  putU32(target, INODE_MODIFY_NS, record.modifyNanoseconds);
  putU32(target, INODE_CHANGE_NS, record.changeNanoseconds);
  putU32(target, INODE_BIRTH_NS, record.birthNanoseconds);
  if ((record.flags & FLAG_INLINE) === 0 || record.size === 0) return INODE_CONTENT;
  record.content!.copy(target, INODE_CONTENT, 0, record.size);
  return INODE_CONTENT + record.size;
}

function extraOf(record: Readonly<InodeRecord>): number {
  switch (record.mode & TYPE_MASK) {
    case TYPE_DIRECTORY:
      return record.parent;
    case TYPE_CHARACTER:
    case TYPE_BLOCK:
      return record.device;
    default:
      return record.pages;
  }
}

/**
 * Reads a record into `record`; inline content is copied.
 * @throws LsnfsError CORRUPT_RECORD, naming `inode`.
 */
export function decodeInode(
  record: InodeRecord,
  inode: number,
  bytes: Buffer,
  start: number,
  length: number,
): void {
  if (length < INODE_CONTENT) fail(inode, `${length} bytes instead of ${INODE_CONTENT} or more`);
  const mode = getU16(bytes, start + INODE_MODE);
  const flags = getU16(bytes, start + INODE_FLAGS);
  const size = getU64(bytes, start + INODE_SIZE);
  const extra = getU64(bytes, start + INODE_EXTRA);
  if ((flags & ~FLAGS_KNOWN) !== 0) fail(inode, `unknown flags ${flags}`);
  if (size > MAX_FILE_SIZE) fail(inode, `size ${size}`);
  if (!Number.isSafeInteger(extra)) fail(inode, 'a number exceeds 2^53');
  if ((mode & TYPE_MASK) === TYPE_SYMLINK && size > SYMLINK_MAX) fail(inode, `a target of ${size} bytes`);
  record.mode = mode;
  record.flags = flags;
  record.uid = getU32(bytes, start + INODE_UID);
  record.gid = getU32(bytes, start + INODE_GID);
  record.links = getU32(bytes, start + INODE_LINKS);
  record.size = size;
  record.pages = 0;
  record.parent = 0;
  record.device = 0;
  switch (mode & TYPE_MASK) {
    case TYPE_DIRECTORY:
      if (extra > MAX_INODE) fail(inode, `parent ${extra}`);
      record.parent = extra;
      break;
    case TYPE_CHARACTER:
    case TYPE_BLOCK:
      if (extra > 0xffffffff) fail(inode, `device ${extra}`);
      record.device = extra;
      break;
    case TYPE_REGULAR:
    case TYPE_SYMLINK:
      record.pages = extra;
      break;
    case TYPE_FIFO:
    case TYPE_SOCKET:
      if (extra !== 0) fail(inode, 'a reserved field is not zero');
      break;
    default:
      fail(inode, `mode ${mode.toString(8)}`);
  }
  record.accessSeconds = seconds(inode, bytes, start + INODE_ACCESS);
  record.modifySeconds = seconds(inode, bytes, start + INODE_MODIFY);
  record.changeSeconds = seconds(inode, bytes, start + INODE_CHANGE);
  record.birthSeconds = seconds(inode, bytes, start + INODE_BIRTH);
  record.accessNanoseconds = nanoseconds(inode, bytes, start + INODE_ACCESS_NS);
  record.modifyNanoseconds = nanoseconds(inode, bytes, start + INODE_MODIFY_NS);
  record.changeNanoseconds = nanoseconds(inode, bytes, start + INODE_CHANGE_NS);
  record.birthNanoseconds = nanoseconds(inode, bytes, start + INODE_BIRTH_NS);
  record.content = null;
  if ((flags & FLAG_INLINE) === 0) {
    if (length !== INODE_CONTENT) fail(inode, `${length - INODE_CONTENT} bytes too many`);
  } else {
    if (!record.isRegular && !record.isSymlink) fail(inode, 'content in an inode that is not a file');
    if (record.pages !== 0) fail(inode, 'inline content and mapped pages');
    if (length !== INODE_CONTENT + size)
      fail(inode, `${length - INODE_CONTENT} bytes of content, size ${size}`);
    if (size > 0) {
      const content = Buffer.allocUnsafe(size);
      bytes.copy(content, 0, start + INODE_CONTENT, start + length);
      record.content = content;
    }
  }
}

/** Whether a record is that of a regular file with all of its content in it. One that is damaged is none. */
export function isInlineFile(bytes: Buffer, start: number, length: number): boolean {
  if (length < INODE_CONTENT) return false;
  const flags = getU16(bytes, start + INODE_FLAGS);
  return (
    (flags & FLAG_INLINE) !== 0 &&
    (flags & ~FLAGS_KNOWN) === 0 &&
    (getU16(bytes, start + INODE_MODE) & TYPE_MASK) === TYPE_REGULAR &&
    getU64(bytes, start + INODE_SIZE) === length - INODE_CONTENT
  );
}

function seconds(inode: number, bytes: Uint8Array, at: number): number {
  const value = getI64(bytes, at);
  if (!Number.isSafeInteger(value)) fail(inode, 'a time exceeds 2^53 seconds');
  return value;
}

function nanoseconds(inode: number, bytes: Uint8Array, at: number): number {
  const value = getU32(bytes, at);
  if (value > 999_999_999) fail(inode, `${value} nanoseconds`);
  return value;
}

function fail(inode: number, why: string): never {
  throw new LsnfsError('CORRUPT_RECORD', `the record of inode ${inode} is damaged: ${why}`, { inode });
}
