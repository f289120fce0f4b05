/**
 * The laboratory finds mistakes: disks that break one rule are noticed within 2,000 crash states, and the crash that
 * showed it can be made again by itself.
 */
import test from 'ava';
import { seedOf } from '../helpers/random.ts';
import { CANARIES } from './crash-canaries.ts';
import { Explorer } from './crash-explorer.ts';

const STATES = 2000;

for (const [name, view] of Object.entries(CANARIES)) {
  test(`the canary ${name} is found, and found again`, async (t) => {
    const seed = seedOf(t, name);
    const explorer = new Explorer({ seed, states: STATES, view });
    const failure = await explorer.run();
    t.not(failure, undefined, `nothing was found in ${explorer.summary.states} states`);
    const { life, state, message } = failure!;
    t.log(`${explorer.summary.states} states: ${message.split('\n')[0]!.slice(0, 120)}`);
    const again = new Explorer({ seed, states: STATES, view, only: { life, state } });
    t.deepEqual(await again.run(), failure);
    t.true(again.summary.states <= 1);
  });
}
