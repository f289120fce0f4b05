/**
 * What the fuzzers have in common: a parser under test, cases by number, and the judge.
 *
 * A case may do what it likes with its input but throw anything that is not an LsnfsError, run on without end, or ask
 * for much memory because the input says so. Cases that share a state (a session, an open store) come in batches: a
 * case is done again by doing its batch again up to it.
 */
import { LsnfsError } from '../../src/errors.ts';
import { Random } from '../helpers/random.ts';
import { Mutator } from './mutator.ts';

/** The largest buffer that a small input may have made. */
const ALLOCATION_MAX = 64 * 1024 * 1024;

export interface FuzzSession {
  /** One case. What it throws is judged; promises are waited for. */
  step(mutator: Mutator): void | Promise<void>;
  /** After the last case of a batch: what must hold then. */
  end?(): void | Promise<void>;
}

export interface FuzzParser {
  readonly name: string;
  /** Cases that share one session; 1: each case has its own. */
  readonly batch: number;
  /** Of how many parts of all cases this parser gets: the cheap ones more. */
  readonly share: number;
  start(mutator: Mutator): FuzzSession | Promise<FuzzSession>;
}

/** What an input did is wrong. */
export class FuzzFinding extends Error {
  override readonly name = 'FuzzFinding';
}

export function find(what: string): never {
  throw new FuzzFinding(what);
}

/** Counts steps of one case and throws when they are more than any honest case needs. */
export class StepLimit {
  private steps = 0;
  private readonly limit: number;

  constructor(limit: number) {
    this.limit = limit;
  }

  count(what: string): void {
    if (++this.steps > this.limit) find(`more than ${this.limit} steps: ${what}`);
  }

  reset(): void {
    this.steps = 0;
  }
}

/** Runs `work`, and lets pass what a parser may throw: LsnfsErrors. Returns undefined then. */
export function tolerate<T>(work: () => T): T | undefined {
  try {
    return work();
  } catch (error) {
    if (error instanceof LsnfsError) return undefined;
    throw error;
  }
}

/** Makes large buffers a finding as long as it is in force. Returns what ends it. */
export function limitAllocations(): () => void {
  const { alloc, allocUnsafe, allocUnsafeSlow } = Buffer;
  const limited =
    <Rest extends unknown[]>(make: (size: number, ...rest: Rest) => Buffer<ArrayBuffer>) =>
    (size: number, ...rest: Rest): Buffer<ArrayBuffer> => {
      if (size > ALLOCATION_MAX) find(`a buffer of ${size} bytes was asked for`);
      return make.call(Buffer, size, ...rest);
    };
  Buffer.alloc = limited(alloc);
  Buffer.allocUnsafe = limited(allocUnsafe);
  Buffer.allocUnsafeSlow = limited(allocUnsafeSlow);
  return () => Object.assign(Buffer, { alloc, allocUnsafe, allocUnsafeSlow });
}

/** A case that went wrong, with the command that does it again. */
export class FailedFuzzCase extends Error {
  override readonly name = 'FailedFuzzCase';
}

function mutatorOf(parser: FuzzParser, seed: number, index: number): Mutator {
  let mixed = seed;
  for (const letter of parser.name) mixed = (mixed * 31 + letter.charCodeAt(0)) % 2 ** 31;
  const random = new Random((mixed * 4_000_037 + index * 2 + 1) % 2 ** 31);
  for (let i = 0; i < 8; i++) random.next();
  return new Mutator(random);
}

async function judged(parser: FuzzParser, seed: number, index: number, work: () => unknown): Promise<void> {
  try {
    const result = work();
    if (result instanceof Promise) await result;
  } catch (error) {
    if (error instanceof LsnfsError) return;
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    const again = `npm run test:fuzz -- --parser ${parser.name} --seed ${seed} --case ${index}`;
    throw new FailedFuzzCase(`${parser.name}, case ${index}: ${text}\nagain: ${again}`);
  }
}

/** Does the cases [from, to); those before `from` in its batch are done first. @throws FailedFuzzCase */
export async function runCases(parser: FuzzParser, seed: number, from: number, to: number): Promise<void> {
  const unlimit = limitAllocations();
  try {
    for (let index = from - (from % parser.batch); index < to; ) {
      const end = Math.min(to, index + parser.batch);
      const session = await parser.start(mutatorOf(parser, seed, -1 - index));
      for (; index < end; index++) {
        await judged(parser, seed, index, () => session.step(mutatorOf(parser, seed, index)));
      }
      if (session.end !== undefined) {
        const last = end - 1;
        // What must hold at the end may not fail with an LsnfsError either.
        await judged(parser, seed, last, async () => {
          try {
            await session.end!();
          } catch (error) {
            find(`at the end of the batch: ${error instanceof Error ? error.stack : String(error)}`);
          }
        });
      }
    }
  } finally {
    unlimit();
  }
}
