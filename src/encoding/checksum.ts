/**
 * CRC-32 (polynomial 0xEDB88320, as in zlib, gzip and PNG), the one checksum of every format here.
 *
 * The `crc-32` package and Node's `zlib.crc32` compute the same value. A call into zlib costs more than the
 * work on small inputs, and the package is slower on pages; the crossover is near 400 bytes on Node 20.
 */

import * as zlib from 'node:zlib';
import crc32Package from 'crc-32';

const ZLIB_MINIMUM_BYTES = 400;

// zlib.crc32 came with Node 20.15; the types of @types/node for 20 know it from 20.15 too.
const native = zlib.crc32;

/** CRC-32 of `bytes[start, end)` as an unsigned 32-bit number, continuing from `seed`. */
export function crc32(bytes: Uint8Array, start = 0, end = bytes.length, seed = 0): number {
  const part = start === 0 && end === bytes.length ? bytes : bytes.subarray(start, end);
  return end - start >= ZLIB_MINIMUM_BYTES ? native(part, seed) : crc32Package.buf(part, seed) >>> 0;
}
