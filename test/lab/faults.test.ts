/**
 * A sample of the laboratory of failing disks; `npm run test:faults -- --all` is the long run. Each failure prints the
 * command that does the run again.
 */
import test from 'ava';
import { seedOf, share } from '../helpers/random.ts';
import { draw, prepare, runPlan } from './fault-run.ts';
import { type Plan, plansFor, type TracedOperation } from './faults.ts';

/** Runs of each program. */
const SAMPLE = { program: 12, threaded: 10, hurry: 4, 'threaded-hurry': 4 };

/** A plan for a single fault at the first operation that is one of these. */
function planAt(
  trace: readonly TracedOperation[],
  kind: string,
  matches: (operation: TracedOperation) => boolean,
): Plan {
  const at = trace.findIndex(matches);
  const plan = plansFor(trace).find((candidate) => candidate.at === at && candidate.kind === kind);
  if (plan === undefined) throw new Error('there is no such operation');
  return plan;
}

test('the programs do the same operations each time, of every kind', async (t) => {
  const [one, other] = [await prepare('program', 1), await prepare('program', 2)];
  t.deepEqual(one.trace, other.trace);
  const kinds = new Set(one.trace.map(({ kind }) => kind));
  t.deepEqual(
    [...kinds].sort(),
    [
      'exists',
      'freeBytes',
      'list',
      'makeDirectory',
      'open',
      'read',
      'rename',
      'size',
      'sync',
      'syncDirectory',
      'write',
    ],
    'truncate and remove are not among them',
  );
  t.true(one.plans.length > 2000, `${one.plans.length}`);
});

for (const [name, count] of Object.entries(SAMPLE)) {
  test(`a sample of what can fail in the ${name}: right answers, nothing lost, and a way on`, async (t) => {
    const seed = seedOf(t, name);
    const prepared = await prepare(name, seed);
    const outcomes = new Map<string, number>();
    // A few plans may all meet what does no harm; ten do not.
    for (const plan of draw(prepared, seed, share(count))) {
      const outcome = await runPlan(prepared, plan, seed, 1);
      outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1);
    }
    t.log(
      `${prepared.operations} operations, ${[...outcomes].map(([what, times]) => `${times} ${what}`).join(', ')}`,
    );
    const unharmed = outcomes.get('unharmed') ?? 0;
    t.true(share(count) < 10 || unharmed < count, 'the faults do not reach the engine');
  });
}

test('a failed sync, or a failed write of the log or the control block, is the end of the store', async (t) => {
  const prepared = await prepare('program', 1);
  const { trace } = prepared;
  const inSession = ({ step }: TracedOperation): boolean => !['initialize', 'open', 'close'].includes(step);
  const cases: [string, (operation: TracedOperation) => boolean][] = [
    ['EIO', ({ kind, name }) => kind === 'sync' && name === 'data'],
    ['EIO', ({ kind, name }) => kind === 'sync' && name === 'control'],
    ['ENOSPC', ({ kind, name }) => kind === 'sync' && name === 'control'],
    ['short-EIO', ({ kind, name }) => kind === 'write' && name === 'control'],
    ['EDQUOT', ({ kind, name }) => kind === 'sync' && /^wal\/\d/.test(name)],
    ['short-ENOSPC', ({ kind, name }) => kind === 'write' && /^wal\/\d/.test(name)],
  ];
  for (const [kind, matches] of cases) {
    const plan = planAt(trace, kind, (operation) => inSession(operation) && matches(operation));
    t.is(await runPlan(prepared, plan, 1, 1), 'failed store', `${plan.at} ${kind}`);
  }
});

test('a read, an opening and a want of room are failures of a call and not of the store', async (t) => {
  const prepared = await prepare('program', 1);
  const { trace } = prepared;
  const changes = ({ step }: TracedOperation): boolean => /^(write|create|mkdir|read all)/.test(step);
  const cases: [string, (operation: TracedOperation) => boolean][] = [
    ['EIO', ({ kind, step }) => kind === 'read' && step === 'read all'],
    ['EMFILE', ({ kind, name }) => kind === 'open' && name === 'wal/preparing'],
    ['short-ENOSPC', ({ kind, name }) => kind === 'write' && name === 'wal/preparing'],
    ['EIO', ({ kind, name }) => kind === 'write' && name === 'data'],
    ['EIO', ({ kind }) => kind === 'freeBytes'],
  ];
  for (const [kind, matches] of cases) {
    const plan = planAt(trace, kind, (operation) => changes(operation) && matches(operation));
    const outcome = await runPlan(prepared, plan, 1, 1);
    t.true(outcome === 'failed calls' || outcome === 'unharmed', `${plan.at} ${kind}: ${outcome}`);
  }
});
