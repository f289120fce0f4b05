/**
 * One request of the kernel, decoded where it was read.
 *
 * The buffer is reused for every request, so behind the end of a request lie bytes of older ones: `bodyEnd` bounds
 * everything. Fixed parts are bounded by the dispatcher (SMALLEST_BODY); whatever has a length of its own (names,
 * values, data) is taken through the methods here, which refuse with EINVAL what does not lie within the request.
 */
import { PosixError } from '../src/errors.ts';
import { doorOfNode, IN_HEADER, inodeOfNode, MAX_WRITE, WRITE_IN } from './protocol.ts';

/** Room for the largest request; the kernel refuses to be read with less than that. */
export const REQUEST_BUFFER_SIZE = MAX_WRITE + Math.max(8192, IN_HEADER.SIZE + WRITE_IN.SIZE);

const TWO_32 = 2 ** 32;
export const NAME_MAX = 255;
const SLASH = 0x2f;
const DOT = 0x2e;

export class Request {
  readonly bytes: Uint8Array;
  private readonly words: Uint32Array;
  opcode = 0;
  /** The node's door (0: live) and inode number. */
  door = 0;
  inode = 0;
  uid = 0;
  gid = 0;
  pid = 0;
  /** Where the body ends: the length of the request without extensions. */
  bodyEnd = 0;
  /** Where the string ended that was taken last: after its NUL. */
  private stringEnd = 0;

  constructor(size = REQUEST_BUFFER_SIZE) {
    const buffer = new ArrayBuffer((size + 7) & ~7);
    this.bytes = new Uint8Array(buffer);
    this.words = new Uint32Array(buffer);
  }

  /** Decodes the header of the `length` bytes in the buffer. False: not even a header, nobody can be answered. */
  decode(length: number): boolean {
    if (length < IN_HEADER.SIZE) return false;
    const { words } = this;
    this.opcode = words[IN_HEADER.opcode >> 2]!;
    const low = words[IN_HEADER.node >> 2]!;
    const high = words[(IN_HEADER.node >> 2) + 1]!;
    this.door = doorOfNode(high);
    this.inode = inodeOfNode(low, high);
    this.uid = words[IN_HEADER.uid >> 2]!;
    this.gid = words[IN_HEADER.gid >> 2]!;
    this.pid = words[IN_HEADER.pid >> 2]!;
    const extension = (words[IN_HEADER.extensionLength >> 2]! & 0xffff) * 8;
    // A length that is not the request's own, or extensions larger than it: an empty body, which every opcode
    // that needs one refuses.
    const trusted = words[IN_HEADER.length >> 2] === length && extension <= length - IN_HEADER.SIZE;
    this.bodyEnd = trusted ? length - extension : IN_HEADER.SIZE;
    this.stringEnd = IN_HEADER.SIZE;
    return true;
  }

  get bodySize(): number {
    return this.bodyEnd - IN_HEADER.SIZE;
  }
  get uniqueLow(): number {
    return this.words[IN_HEADER.unique >> 2]!;
  }
  get uniqueHigh(): number {
    return this.words[(IN_HEADER.unique >> 2) + 1]!;
  }

  /** The field at `offset` of the body. */
  u32(offset: number): number {
    return this.words[(IN_HEADER.SIZE + offset) >> 2]!;
  }
  /** An unsigned 64-bit field; above 2^53 inexact (handles and offsets of the kernel are below it). */
  u64(offset: number): number {
    const at = (IN_HEADER.SIZE + offset) >> 2;
    return this.words[at]! + this.words[at + 1]! * TWO_32;
  }
  i64(offset: number): number {
    const at = (IN_HEADER.SIZE + offset) >> 2;
    return this.words[at]! + (this.words[at + 1]! | 0) * TWO_32;
  }
  /** An offset or a length in a file. @throws EINVAL when it is negative, EFBIG when it exceeds 2^53. */
  offset64(offset: number): number {
    const value = this.i64(offset);
    if (value < 0) throw new PosixError('EINVAL');
    if (value > Number.MAX_SAFE_INTEGER) throw new PosixError('EFBIG');
    return value;
  }
  doorAt(offset: number): number {
    return doorOfNode(this.words[((IN_HEADER.SIZE + offset) >> 2) + 1]!);
  }
  inodeAt(offset: number): number {
    const at = (IN_HEADER.SIZE + offset) >> 2;
    return inodeOfNode(this.words[at]!, this.words[at + 1]!);
  }

  /**
   * A NUL-terminated string of at most `longest` bytes at `offset` of the body.
   * @throws EINVAL when it is empty or has no end, ENAMETOOLONG.
   */
  string(offset: number, longest: number): Uint8Array {
    const start = IN_HEADER.SIZE + offset;
    const { bytes, bodyEnd } = this;
    let end = start;
    while (end < bodyEnd && bytes[end] !== 0) end++;
    if (end >= bodyEnd || end === start) throw new PosixError('EINVAL');
    if (end - start > longest) throw new PosixError('ENAMETOOLONG');
    this.stringEnd = end + 1;
    return bytes.subarray(start, end);
  }
  /** The string behind the last one. */
  nextString(longest: number): Uint8Array {
    return this.string(this.stringEnd - IN_HEADER.SIZE, longest);
  }
  /** A directory entry's name: no slash, and "." and ".." only where `dots` says so. */
  name(offset: number, dots = false): Uint8Array {
    return checkName(this.string(offset, NAME_MAX), dots);
  }
  nextName(): Uint8Array {
    return checkName(this.string(this.stringEnd - IN_HEADER.SIZE, NAME_MAX), false);
  }

  /** Where `length` bytes at `offset` of the body start in `bytes`. @throws EINVAL when they are not all there. */
  data(offset: number, length: number): number {
    const start = IN_HEADER.SIZE + offset;
    if (length > this.bodyEnd - start) throw new PosixError('EINVAL');
    return start;
  }
  /** The `length` bytes behind the last string. */
  dataAfterString(length: number): Uint8Array {
    const start = this.data(this.stringEnd - IN_HEADER.SIZE, length);
    return this.bytes.subarray(start, start + length);
  }
}

function checkName(name: Uint8Array, dots: boolean): Uint8Array {
  for (let i = 0; i < name.length; i++) if (name[i] === SLASH) throw new PosixError('EINVAL');
  if (!dots && name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
    throw new PosixError('EINVAL');
  }
  return name;
}
