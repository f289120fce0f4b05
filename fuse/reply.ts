/**
 * The reply to the request at hand, built in one preallocated buffer.
 *
 * Offsets are of the body, which starts behind the header; data of a READ goes straight there. The buffer is
 * reused, so an encoder writes every field of its structure, padding included.
 */

import type { Attributes, FileSystemStatistics } from '../src/vfs/file-system.ts';
import type { ShownOwner } from './messages.ts';
import {
  ATTRIBUTES,
  ATTRIBUTES_OUT,
  DIRENT,
  ENTRY_OUT,
  MAX_WRITE,
  nodeHigh,
  OPEN_OUT,
  OUT_HEADER,
  STATFS_OUT,
  STATX_MASK,
  STATX_OUT,
} from './protocol.ts';

/** The largest body: a READ or a directory listing of as many pages as were negotiated. */
export const REPLY_BODY_SIZE = MAX_WRITE;
const TWO_32 = 2 ** 32;

export class Reply {
  readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  private readonly halves: Uint16Array;
  private readonly shownUid: number | undefined;
  private readonly shownGid: number | undefined;

  /** `shown`: whom all files are said to belong to, whatever their attributes say. */
  constructor(shown: ShownOwner = {}, bodySize = REPLY_BODY_SIZE) {
    this.shownUid = shown.uid;
    this.shownGid = shown.gid;
    const buffer = new ArrayBuffer(OUT_HEADER.SIZE + ((bodySize + 7) & ~7));
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
    this.halves = new Uint16Array(buffer);
  }

  get bodyCapacity(): number {
    return this.bytes.length - OUT_HEADER.SIZE;
  }

  /** Writes the header. `error` is 0 or a negative errno. Returns the length of the whole reply. */
  finish(uniqueLow: number, uniqueHigh: number, error: number, bodyLength: number): number {
    const { words } = this;
    const length = OUT_HEADER.SIZE + bodyLength;
    words[OUT_HEADER.length >> 2] = length;
    words[OUT_HEADER.error >> 2] = error;
    words[OUT_HEADER.unique >> 2] = uniqueLow;
    words[(OUT_HEADER.unique >> 2) + 1] = uniqueHigh;
    return length;
  }

  u16(offset: number, value: number): void {
    this.halves[(OUT_HEADER.SIZE + offset) >> 1] = value;
  }
  u32(offset: number, value: number): void {
    this.words[(OUT_HEADER.SIZE + offset) >> 2] = value;
  }
  /** A number of up to 53 bits, or a negative one. */
  u64(offset: number, value: number): void {
    const at = (OUT_HEADER.SIZE + offset) >> 2;
    this.words[at] = value;
    this.words[at + 1] = Math.floor(value / TWO_32);
  }
  /** A node id, or the inode number of it. */
  node(offset: number, door: number, inode: number): void {
    const at = (OUT_HEADER.SIZE + offset) >> 2;
    this.words[at] = inode;
    this.words[at + 1] = nodeHigh(door, inode);
  }
  zero(offset: number, length: number): void {
    this.bytes.fill(0, OUT_HEADER.SIZE + offset, OUT_HEADER.SIZE + offset + length);
  }
  copy(offset: number, source: Uint8Array): void {
    this.bytes.set(source, OUT_HEADER.SIZE + offset);
  }

  /** struct fuse_attr. */
  attributes(offset: number, door: number, a: Attributes): void {
    this.node(offset + ATTRIBUTES.inode, door, a.inode);
    this.u64(offset + ATTRIBUTES.size, a.size);
    this.u64(offset + ATTRIBUTES.blocks, a.blocks);
    this.u64(offset + ATTRIBUTES.accessSeconds, a.accessSeconds);
    this.u64(offset + ATTRIBUTES.modifySeconds, a.modifySeconds);
    this.u64(offset + ATTRIBUTES.changeSeconds, a.changeSeconds);
    const at = (OUT_HEADER.SIZE + offset + ATTRIBUTES.accessNanoseconds) >> 2;
    const { words } = this;
    words[at] = a.accessNanoseconds;
    words[at + 1] = a.modifyNanoseconds;
    words[at + 2] = a.changeNanoseconds;
    words[at + 3] = a.mode;
    words[at + 4] = a.links;
    words[at + 5] = this.shownUid ?? a.uid;
    words[at + 6] = this.shownGid ?? a.gid;
    words[at + 7] = a.device;
    words[at + 8] = a.blockSize;
    words[at + 9] = 0;
  }

  /** struct fuse_entry_out: a node that the kernel counts one more reference to. */
  entry(offset: number, door: number, a: Attributes, entrySeconds: number, attributeSeconds: number): void {
    this.node(offset + ENTRY_OUT.node, door, a.inode);
    this.u64(offset + ENTRY_OUT.generation, 0);
    this.u64(offset + ENTRY_OUT.entryValid, entrySeconds);
    this.u64(offset + ENTRY_OUT.attributesValid, attributeSeconds);
    this.u32(offset + ENTRY_OUT.entryValidNanoseconds, 0);
    this.u32(offset + ENTRY_OUT.attributesValidNanoseconds, 0);
    this.attributes(offset + ENTRY_OUT.attributes, door, a);
  }
  /** An entry that says for how long the name is known not to exist. */
  negativeEntry(entrySeconds: number): void {
    this.zero(0, ENTRY_OUT.SIZE);
    this.u64(ENTRY_OUT.entryValid, entrySeconds);
  }

  attributesOut(door: number, a: Attributes, seconds: number): void {
    this.u64(ATTRIBUTES_OUT.valid, seconds);
    this.u32(ATTRIBUTES_OUT.validNanoseconds, 0);
    this.u32(ATTRIBUTES_OUT.padding, 0);
    this.attributes(ATTRIBUTES_OUT.attributes, door, a);
  }

  statxOut(door: number, a: Attributes, seconds: number): void {
    this.zero(0, STATX_OUT.SIZE);
    this.u64(STATX_OUT.valid, seconds);
    this.u32(STATX_OUT.mask, STATX_MASK);
    this.u32(STATX_OUT.blockSize, a.blockSize);
    this.u32(STATX_OUT.links, a.links);
    this.u32(STATX_OUT.uid, this.shownUid ?? a.uid);
    this.u32(STATX_OUT.gid, this.shownGid ?? a.gid);
    this.u16(STATX_OUT.mode, a.mode);
    this.node(STATX_OUT.inode, door, a.inode);
    this.u64(STATX_OUT.size, a.size);
    this.u64(STATX_OUT.blocks, a.blocks);
    this.statxTime(STATX_OUT.access, a.accessSeconds, a.accessNanoseconds);
    this.statxTime(STATX_OUT.birth, a.birthSeconds, a.birthNanoseconds);
    this.statxTime(STATX_OUT.change, a.changeSeconds, a.changeNanoseconds);
    this.statxTime(STATX_OUT.modify, a.modifySeconds, a.modifyNanoseconds);
    // new_decode_dev of the kernel.
    this.u32(STATX_OUT.deviceMajor, (a.device & 0xfff00) >>> 8);
    this.u32(STATX_OUT.deviceMinor, (a.device & 0xff) | ((a.device >>> 12) & 0xfff00));
  }
  private statxTime(offset: number, seconds: number, nanoseconds: number): void {
    this.u64(offset, seconds);
    this.u32(offset + 8, nanoseconds);
  }

  openOut(offset: number, handle: number, flags: number): void {
    this.u64(offset + OPEN_OUT.handle, handle);
    this.u32(offset + OPEN_OUT.openFlags, flags);
    this.u32(offset + OPEN_OUT.padding, 0);
  }

  statfsOut(s: FileSystemStatistics): void {
    this.zero(0, STATFS_OUT.SIZE);
    this.u64(STATFS_OUT.blocks, s.blocks);
    this.u64(STATFS_OUT.blocksFree, s.blocksFree);
    this.u64(STATFS_OUT.blocksAvailable, s.blocksAvailable);
    this.u64(STATFS_OUT.files, s.files);
    this.u64(STATFS_OUT.filesFree, s.filesFree);
    this.u32(STATFS_OUT.blockSize, s.blockSize);
    this.u32(STATFS_OUT.nameLength, s.nameMax);
    this.u32(STATFS_OUT.fragmentSize, s.blockSize);
  }

  /** struct fuse_dirent with its name. The caller has checked that `direntSize(name.length)` bytes fit. */
  dirent(offset: number, name: Uint8Array, door: number, inode: number, mode: number, cookie: number): void {
    this.node(offset + DIRENT.inode, door, inode);
    this.u64(offset + DIRENT.offset, cookie);
    this.u32(offset + DIRENT.nameLength, name.length);
    this.u32(offset + DIRENT.type, (mode >>> 12) & 0xf);
    const start = OUT_HEADER.SIZE + offset + DIRENT.SIZE;
    const end = OUT_HEADER.SIZE + offset + direntSize(name.length);
    const { bytes } = this;
    // Names are short: a loop beats the call of set() and subarray().
    let at = start;
    for (let i = 0; i < name.length; i++) bytes[at++] = name[i]!;
    while (at < end) bytes[at++] = 0;
  }
}

/** What an entry with a name of that length takes in a listing. */
export function direntSize(nameLength: number): number {
  return (DIRENT.SIZE + nameLength + 7) & ~7;
}

/** A whole reply without a body, for those who send it later and from elsewhere. */
export function statusReply(uniqueLow: number, uniqueHigh: number, error: number): Uint8Array {
  const reply = new Reply({}, 0);
  reply.finish(uniqueLow, uniqueHigh, error, 0);
  return reply.bytes;
}

/** A whole reply to a WRITE, likewise. */
export function writeReply(uniqueLow: number, uniqueHigh: number, size: number): Uint8Array {
  const reply = new Reply({}, 8);
  reply.u32(0, size);
  reply.u32(4, 0);
  reply.finish(uniqueLow, uniqueHigh, 0, 8);
  return reply.bytes;
}
