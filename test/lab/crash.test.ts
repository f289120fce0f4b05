/**
 * Nothing that was promised is lost, whenever the power fails: crash states of random lives, each recovered and
 * verified. `npm run test:crash` is the long run of the same.
 */
import test from 'ava';
import { seedOf, share } from '../helpers/random.ts';
import { Explorer } from './crash-explorer.ts';

const STATES = share(1500);

test('crash states: what was promised is there, and what is there was done', async (t) => {
  const seed = seedOf(t, 'crash states');
  const explorer = new Explorer({ seed, states: STATES });
  const start = performance.now();
  const failure = await explorer.run();
  const seconds = (performance.now() - start) / 1000;
  t.is(failure, undefined);
  const { states, distinct, lives, recoveriesCrashed, pastStates } = explorer.summary;
  t.log(
    `${states} states (${distinct} distinct) of ${lives} lives, ${Math.round(states / seconds)} a second`,
  );
  t.is(states, STATES);
  // A life is counted at its end, and few states may all be of the first.
  t.true(distinct > STATES / 4 && lives >= Math.floor(STATES / 500), `${distinct} distinct, ${lives} lives`);
  t.true(recoveriesCrashed > STATES / 20 && pastStates > STATES / 4, `${recoveriesCrashed} ${pastStates}`);
});

test('the same seed makes the same operations and the same crashes', async (t) => {
  const seed = seedOf(t, 'crash states');
  const explore = async (): Promise<{ digests: string[]; summary: object }> => {
    const explorer = new Explorer({ seed, states: 150 });
    t.is(await explorer.run(), undefined);
    return { digests: explorer.digests, summary: explorer.summary };
  };
  t.deepEqual(await explore(), await explore());
});
