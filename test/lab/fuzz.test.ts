/** A sample of the fuzzers; `npm run test:fuzz` is the long run. */
import test from 'ava';
import { seedOf, share } from '../helpers/random.ts';
import { FailedFuzzCase, type FuzzParser, runCases } from './fuzz-parser.ts';
import { casesOf, PARSERS } from './fuzz-run.ts';

const CASES = share(12_000);

for (const parser of PARSERS) {
  // One after the other: large buffers are a finding for whoever makes them meanwhile.
  test.serial(`hostile input: ${parser.name}`, async (t) => {
    const seed = seedOf(t, parser.name);
    await t.notThrowsAsync(runCases(parser, seed, 0, casesOf(parser, CASES)));
  });
}

test.serial(
  'a canary: a crash, a large buffer, and a batch that ends badly are found, with the command',
  async (t) => {
    const canary = (step: (index: number) => void, end?: () => void): FuzzParser => {
      let index = 0;
      return {
        name: 'canary',
        batch: 10,
        share: 1,
        start: () => ({ step: () => step(index++), ...(end !== undefined && { end }) }),
      };
    };
    const crashes = canary((index) => {
      if (index === 7) throw new TypeError('a bug');
    });
    const again = /a bug[\s\S]*again: npm run test:fuzz -- --parser canary --seed 5 --case 7$/;
    await t.throwsAsync(runCases(crashes, 5, 0, 20), { instanceOf: FailedFuzzCase, message: again });
    const greedy = canary(() => Buffer.alloc(1 << 30));
    await t.throwsAsync(runCases(greedy, 5, 0, 20), { message: /a buffer of 1073741824 bytes/ });
    const leaking = canary(
      () => {},
      () => {
        throw new Error('something is left');
      },
    );
    await t.throwsAsync(runCases(leaking, 5, 0, 20), { message: /something is left[\s\S]*--case 9$/ });
    t.is(Buffer.alloc(100 << 20).length, 100 << 20, 'the limit ends with the run');
  },
);
