/**
 * The laboratory finds mistakes: disks that break one rule are noticed, and the crash that showed it can be made again by
 * itself. Most are found within some hundred crash states; the limit is far beyond, so that no seed is unlucky.
 */
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { seedOf } from '../helpers/random.ts';
import { CANARIES } from './crash-canaries.ts';
import { Explorer, type Failure } from './crash-explorer.ts';

const STATES = 20_000;

/** What follows in a message is the engine's stack, which depends on who called. */
function firstLine(failure: Failure): Failure {
  return { ...failure, message: failure.message.split('\n')[0]! };
}

for (const [name, view] of Object.entries(CANARIES)) {
  test(`the canary ${name} is found, and found again`, async (t) => {
    const seed = seedOf(t, name);
    const explorer = new Explorer({ seed, states: STATES, view });
    const failure = await explorer.run();
    if (failure === undefined) {
      t.fail(`nothing was found in ${explorer.summary.states} states`);
      return;
    }
    t.log(`${explorer.summary.states} states: ${firstLine(failure).message.slice(0, 120)}`);
    const { life, state } = failure;
    const again = new Explorer({ seed, states: STATES, view, only: { life, state } });
    const found = await again.run();
    t.deepEqual(found && firstLine(found), firstLine(failure));
    t.true(again.summary.states <= 1);
  });
}

test('the long run ends with a command that makes the crash again', (t) => {
  const script = fileURLToPath(new URL('../../scripts/test-crash.js', import.meta.url));
  const run = (
    parameters: readonly string[],
  ): { status: number | null; found: string[]; command: string[] } => {
    const done = spawnSync(process.execPath, [script, ...parameters], { encoding: 'utf8', timeout: 120_000 });
    const lines = done.stdout.split('\n');
    const at = lines.findIndex((line) => line.startsWith('FAILED: '));
    const again = lines.find((line) => line.startsWith('again:  npm run test:crash -- ')) ?? '';
    return {
      status: done.status,
      found: lines.slice(at, at + 2),
      command: again.split(' -- ')[1]?.split(' ') ?? [],
    };
  };
  const seed = String(seedOf(t, 'long run'));
  const first = run([
    '--states',
    String(STATES),
    '--seed',
    seed,
    '--workers',
    '2',
    '--canary',
    'early-commit',
  ]);
  t.is(first.status, 1);
  t.regex(first.found[0]!, new RegExp(`^FAILED: seed ${seed}, life `));
  const second = run(first.command);
  t.is(second.status, 1);
  t.deepEqual(second.found, first.found);
});
