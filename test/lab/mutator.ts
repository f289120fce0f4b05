/**
 * Seeded damage of inputs for the fuzzers: starts from a valid encoding and changes a little of it, so that what is
 * behind the first checks is reached. Numbers are those at which code breaks: powers of two, one less, one more.
 */
import type { Random } from '../helpers/random.ts';

const EDGES = [
  0n,
  1n,
  2n,
  7n,
  8n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  0xfffn,
  0x1000n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  0x40000n,
  0x7fffffffn,
  0x80000000n,
  0xffffffffn,
  0x100000000n,
  1n << 40n,
  (1n << 47n) - 1n,
  1n << 47n,
  (1n << 48n) - 1n,
  1n << 50n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];

export class Mutator {
  readonly random: Random;

  constructor(random: Random) {
    this.random = random;
  }

  below(limit: number): number {
    return this.random.below(limit);
  }

  chance(one: number): boolean {
    return this.random.below(one) === 0;
  }

  pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)]!;
  }

  /** A 64-bit number at which something may break. */
  edge(): bigint {
    const edge = this.pick(EDGES);
    return this.chance(4) ? BigInt.asUintN(64, edge + BigInt(this.below(5) - 2)) : edge;
  }

  /** As `edge`, as a number; beyond 2^53 it is rounded. */
  number(): number {
    return this.chance(3) ? this.below(200) : Number(this.edge());
  }

  /** Changes some bytes or numbers in place. */
  scribble(bytes: Buffer, from = 0, end = bytes.length): void {
    const to = Math.min(end, bytes.length);
    if (to <= from) return;
    for (let n = 1 + this.below(this.chance(3) ? 8 : 2); n > 0; n--) {
      const at = from + this.below(to - from);
      const room = to - at;
      const how = this.below(8);
      if (how < 3) bytes[at] = bytes[at]! ^ (1 << this.below(8));
      else if (how < 4) bytes[at] = this.below(256);
      else if (how < 5) {
        if (room >= 2) bytes.writeUInt16LE(Number(this.edge() & 0xffffn), at);
      } else if (how < 6) {
        if (room >= 4) bytes.writeUInt32LE(Number(this.edge() & 0xffffffffn), at);
      } else if (how < 7) {
        if (room >= 8) bytes.writeBigUInt64LE(this.edge(), at);
      } else if (room >= 8) bytes.writeBigUInt64BE(this.edge(), at);
    }
  }

  /** A changed copy, of another length perhaps; `others` are what parts are taken from. */
  mutate(valid: Uint8Array, others: readonly Uint8Array[] = []): Buffer {
    let bytes = Buffer.from(valid);
    for (let n = 1 + this.below(3); n > 0; n--) {
      const how = this.below(10);
      const at = this.below(bytes.length + 1);
      if (how < 5) this.scribble(bytes);
      else if (how < 6) bytes = Buffer.from(bytes.subarray(0, at));
      else if (how < 7) {
        const end = Math.min(bytes.length, at + 1 + this.below(16));
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(end)]);
      } else if (how < 8) {
        bytes = Buffer.concat([
          bytes.subarray(0, at),
          this.random.bytes(1 + this.below(16)),
          bytes.subarray(at),
        ]);
      } else if (how < 9) {
        const end = Math.min(bytes.length, at + this.below(64));
        bytes = Buffer.concat([bytes.subarray(0, end), bytes.subarray(at)]);
      } else if (others.length > 0) {
        const other = this.pick(others);
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(this.below(other.length + 1))]);
      }
    }
    return bytes;
  }
}
