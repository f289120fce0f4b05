/**
 * Seeded random numbers for tests. A run has one seed: LSNFS_TEST_SEED=N, which `npm test` takes from the commit unless it
 * is given, or a new one when it is absent or `random`. Each test mixes it with its title, so that no two draw alike,
 * and prints it; the same seed runs the test again.
 */
import type { ExecutionContext } from 'ava';

/** Seeds are whole numbers below it. */
const SEED_LIMIT = 2 ** 31;

const RUN_SEED = runSeed(process.env.LSNFS_TEST_SEED);

function runSeed(given: string | undefined): number {
  if (given === undefined || given === '' || given === 'random')
    return Math.floor(Math.random() * SEED_LIMIT);
  const seed = Number(given);
  if (Number.isSafeInteger(seed) && seed >= 0 && seed < SEED_LIMIT) return seed;
  throw new Error(`LSNFS_TEST_SEED is 'random' or a whole number below ${SEED_LIMIT}, not '${given}'`);
}

/**
 * What a test draws from: the run's seed, mixed with the test's title and `what`. Both are logged, the second for the long
 * run of a laboratory, which takes it as it is.
 */
export function seedOf(t: ExecutionContext, what: string): number {
  const seed = mixed(RUN_SEED, `${t.title}\0${what}`);
  t.log(`${what}: seed ${seed} of LSNFS_TEST_SEED=${RUN_SEED}`);
  return seed;
}

/**
 * How many random cases a test does of those that it would: all of them, or the part that LSNFS_TEST_SHARE says, a number
 * up to 1. At least one.
 */
export function share(cases: number): number {
  const part = Number(process.env.LSNFS_TEST_SHARE ?? 1);
  if (!(part > 0 && part <= 1)) throw new Error('LSNFS_TEST_SHARE is above 0 and at most 1');
  return Math.ceil(cases * part);
}

/** A seed that depends on every bit of another one and of a text (FNV-1a, and Murmur3's last step). */
function mixed(seed: number, text: string): number {
  let hash = 0x811c9dc5 ^ seed;
  for (const byte of Buffer.from(text)) hash = Math.imul(hash ^ byte, 0x01000193);
  hash = Math.imul(hash ^ (hash >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) & (SEED_LIMIT - 1);
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
