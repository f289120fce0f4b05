/** The laboratory finds mistakes: disks that break one rule are noticed within 2,000 crash states. */
import test from 'ava';
import { seedOf } from '../helpers/random.ts';
import { CANARIES } from './crash-canaries.ts';
import { Explorer } from './crash-explorer.ts';

const STATES = 2000;

for (const [name, view] of Object.entries(CANARIES)) {
  test(`the canary ${name} is found`, async (t) => {
    const seed = seedOf(t, name);
    const explorer = new Explorer({ seed, states: STATES, view });
    const failure = await explorer.run();
    t.not(failure, undefined, `nothing was found in ${explorer.summary.states} states`);
    t.log(`${explorer.summary.states} states: ${failure!.message.split('\n')[0]!.slice(0, 120)}`);
  });
}
