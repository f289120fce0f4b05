/**
 * Seeded random numbers for tests. Every random test prints its seed, and LSNFS_TEST_SEED=… runs it again with that one.
 */
import type { ExecutionContext } from 'ava';

/** The seed of this run: from LSNFS_TEST_SEED, or new. Logged with the test. */
export function seedOf(t: ExecutionContext, what: string): number {
  const given = process.env.LSNFS_TEST_SEED;
  const seed = given === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(given);
  t.log(`${what}: LSNFS_TEST_SEED=${seed}`);
  return seed;
}

/** Marsaglia's xorshift32: small, fast, the same everywhere. */
export class Random {
  private state: number;

  constructor(seed: number) {
    this.state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  }

  /** 32 random bits. */
  next(): number {
    let x = this.state;
    x ^= x << 13;
    x >>>= 0;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state;
  }

  /** A whole number in [0, limit). */
  below(limit: number): number {
    return this.next() % limit;
  }

  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.next() >>> 8;
    return bytes;
  }
}
