/**
 * Integers in bytes. Formats on disk are little-endian; keys are big-endian, so that byte order is number order.
 * 48-bit and 64-bit quantities are JavaScript numbers (exact to 2^53): BigInt is five times slower.
 */
import { LsnfsError } from '../errors.ts';

export const MAX_U48 = 2 ** 48 - 1;
const TWO_32 = 2 ** 32;

export function getU16(b: Uint8Array, at: number): number {
  return b[at]! | (b[at + 1]! << 8);
}
export function putU16(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >>> 8;
}
export function getU32(b: Uint8Array, at: number): number {
  return (b[at]! | (b[at + 1]! << 8) | (b[at + 2]! << 16) | (b[at + 3]! << 24)) >>> 0;
}
export function putU32(b: Uint8Array, at: number, value: number): void {
  b[at] = value;
  b[at + 1] = value >>> 8;
  b[at + 2] = value >>> 16;
  b[at + 3] = value >>> 24;
}
/** Reads 48 bits: page numbers. */
export function getU48(b: Uint8Array, at: number): number {
  return getU32(b, at) + getU16(b, at + 4) * TWO_32;
}
export function putU48(b: Uint8Array, at: number, value: number): void {
  putU32(b, at, value >>> 0);
  putU16(b, at + 4, Math.floor(value / TWO_32));
}
/** Reads 64 bits as a number; above 2^53 it is inexact, and callers that read from disk must refuse it. */
export function getU64(b: Uint8Array, at: number): number {
  return getU32(b, at) + getU32(b, at + 4) * TWO_32;
}
export function putU64(b: Uint8Array, at: number, value: number): void {
  putU32(b, at, value >>> 0);
  putU32(b, at + 4, Math.floor(value / TWO_32));
}
/** Reads a signed 64-bit number (seconds before 1970 are negative). */
export function getI64(b: Uint8Array, at: number): number {
  return getU32(b, at) + (getU32(b, at + 4) | 0) * TWO_32;
}
export function putI64(b: Uint8Array, at: number, value: number): void {
  putU32(b, at, value >>> 0);
  putU32(b, at + 4, Math.floor(value / TWO_32));
}
/** Reads 64 bits, most significant byte first: the numbers inside keys. */
export function getU64BE(b: Uint8Array, at: number): number {
  const high = ((b[at]! << 24) | (b[at + 1]! << 16) | (b[at + 2]! << 8) | b[at + 3]!) >>> 0;
  const low = ((b[at + 4]! << 24) | (b[at + 5]! << 16) | (b[at + 6]! << 8) | b[at + 7]!) >>> 0;
  return high * TWO_32 + low;
}
export function putU64BE(b: Uint8Array, at: number, value: number): void {
  const high = Math.floor(value / TWO_32);
  b[at] = high >>> 24;
  b[at + 1] = high >>> 16;
  b[at + 2] = high >>> 8;
  b[at + 3] = high;
  b[at + 4] = value >>> 24;
  b[at + 5] = value >>> 16;
  b[at + 6] = value >>> 8;
  b[at + 7] = value;
}

/** A bounds-checked reader for bytes from outside: whatever does not fit is a CORRUPT_RECORD error. */
export class ByteReader {
  readonly bytes: Uint8Array;
  position: number;
  readonly end: number;
  private readonly what: string;

  constructor(bytes: Uint8Array, start: number, end: number, what: string) {
    this.bytes = bytes;
    this.position = start;
    this.end = end;
    this.what = what;
  }

  get remaining(): number {
    return this.end - this.position;
  }

  private take(count: number): number {
    const at = this.position;
    if (count > this.end - at) this.fail(`needs ${count} bytes at ${at}, has ${this.end - at}`);
    this.position = at + count;
    return at;
  }

  fail(why: string): never {
    throw new LsnfsError('CORRUPT_RECORD', `${this.what} is damaged: ${why}`, { at: this.position });
  }

  u8(): number {
    return this.bytes[this.take(1)]!;
  }
  u16(): number {
    return getU16(this.bytes, this.take(2));
  }
  u32(): number {
    return getU32(this.bytes, this.take(4));
  }
  u48(): number {
    return getU48(this.bytes, this.take(6));
  }
  /** An unsigned 64-bit number that must be exact in a double. */
  u64(): number {
    const value = getU64(this.bytes, this.take(8));
    if (!Number.isSafeInteger(value)) this.fail('a number exceeds 2^53');
    return value;
  }
  i64(): number {
    return getI64(this.bytes, this.take(8));
  }
  /** A view of the next `count` bytes; copy it to keep it. */
  view(count: number): Uint8Array {
    const at = this.take(count);
    return this.bytes.subarray(at, at + count);
  }
}

/** A big-endian number in a key that must be exact in a double. @throws LsnfsError CORRUPT_RECORD, naming `what`. */
export function exactU64BE(b: Uint8Array, at: number, what: string): number {
  const value = getU64BE(b, at);
  if (Number.isSafeInteger(value)) return value;
  throw new LsnfsError('CORRUPT_RECORD', `${what} is damaged: a number exceeds 2^53`, { at });
}

/** Compares two byte strings as memcmp does, shorter first. */
export function compareBytes(a: Uint8Array, b: Uint8Array): number {
  const length = a.length < b.length ? a.length : b.length;
  for (let i = 0; i < length; i++) {
    const difference = a[i]! - b[i]!;
    if (difference !== 0) return difference;
  }
  return a.length - b.length;
}
