/**
 * `npm run test:crash -- [--states 100000] [--seed N] [--workers 2]`: the long run of the crash laboratory
 * (test/lab/crash-explorer.ts). The chains of lives are shared out among processes.
 *
 * The first failure ends it with status 1, and with one command that makes that crash again:
 *
 *   npm run test:crash -- --seed S --life L [--state K] [--trace]   only that life's crash states, or one of them
 *   … --shrink                                                      leaves out actions as long as the life still fails
 *   … --actions 3,7,8                                               the same life with these actions only
 *   … --canary NAME                                                 on a disk that breaks a rule (crash-canaries.ts)
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { CANARIES } from '../test/lab/crash-canaries.ts';
import {
  Explorer,
  type ExplorerOptions,
  emptySummary,
  type Failure,
  type Summary,
} from '../test/lab/crash-explorer.ts';

const { values } = parseArgs({
  options: {
    states: { type: 'string', default: '100000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    workers: { type: 'string', default: '2' },
    life: { type: 'string' },
    state: { type: 'string' },
    canary: { type: 'string' },
    actions: { type: 'string' },
    shrink: { type: 'boolean', default: false },
    trace: { type: 'boolean', default: false },
    /** Of a worker, given by the process that started it. */
    chain: { type: 'string' },
  },
});

function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 0) return value;
  throw new Error(`--${option} is a whole number, not '${text}'`);
}

const states = wholeNumber('states', values.states);
const seed = wholeNumber('seed', values.seed);
const workers = Math.max(1, wholeNumber('workers', values.workers));
const { canary } = values;
if (canary !== undefined && CANARIES[canary] === undefined) {
  throw new Error(`--canary is one of ${Object.keys(CANARIES).join(', ')}, not '${canary}'`);
}
const base = { seed, states, ...(canary !== undefined && { view: CANARIES[canary]! }) };

/** How often a worker reports, and how often that is printed. */
const REPORT_STATES = 100;
const PRINT_MS = 10_000;
const SHRINK_LIMIT_MS = 120_000;
const start = performance.now();

interface Report {
  readonly summary: Summary;
  readonly done: boolean;
  readonly failure: Failure | undefined;
}

function describe(summaries: Iterable<Summary>): string {
  const total = emptySummary();
  for (const summary of summaries) {
    for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += summary[key];
  }
  const seconds = (performance.now() - start) / 1000;
  const rate = Math.round(total.states / seconds);
  return (
    `${seconds.toFixed(0).padStart(6)} s  ${total.states} states (${total.distinct} distinct), ${rate}/s; ` +
    `${total.lives} lives, ${total.lsns} LSNs; ${total.recoveries} recoveries, ${total.recoveriesCrashed} crashed; ` +
    `${total.pastStates} past states`
  );
}

function say(text: string): void {
  process.stdout.write(`${text}\n`);
}

function report(failure: Failure, actions?: readonly number[]): void {
  const { life, state, action, where, message } = failure;
  const broken = canary === undefined ? '' : ` --canary ${canary}`;
  const same = `npm run test:crash -- --seed ${seed} --life ${life}${broken}`;
  const done = actions === undefined ? '' : ` --actions ${actions.join()}`;
  say(`FAILED: seed ${seed}, life ${life}, state ${state ?? '-'}, action ${action}, ${where}`);
  say(message);
  say(`again:  ${same}${state === undefined ? '' : ` --state ${state}`}${done}`);
  if (actions === undefined) say(`shrink: ${same} --shrink`);
}

/** One of the processes of a long run. */
async function work(firstChain: number): Promise<void> {
  let told = 0;
  const send = (message: Report): Promise<void> =>
    new Promise((resolve) => {
      process.send!(message, () => resolve());
    });
  const explorer = new Explorer({
    ...base,
    states: Math.ceil(states / workers),
    firstChain,
    chainStep: workers,
    progress: (summary) => {
      if (summary.states < told + REPORT_STATES) return;
      told = summary.states;
      void send({ summary, done: false, failure: undefined });
    },
  });
  const failure = await explorer.run();
  await send({ summary: explorer.summary, done: true, failure });
  process.disconnect();
}

/** Starts the workers and tells what they do. Returns the first failure. */
function lead(): Promise<Failure | undefined> {
  return new Promise((resolve, reject) => {
    const summaries = new Map<number, Summary>();
    const children: ChildProcess[] = [];
    let left = workers;
    let printed = performance.now();
    const end = (failure: Failure | undefined): void => {
      for (const child of children) child.kill();
      say(describe(summaries.values()));
      resolve(failure);
    };
    for (let worker = 0; worker < workers; worker++) {
      const child = fork(
        fileURLToPath(import.meta.url),
        [...process.argv.slice(2), '--seed', `${seed}`, '--chain', `${worker}`],
        {
          execArgv: ['--max-semi-space-size=32'],
        },
      );
      children.push(child);
      let finished = false;
      child.on('message', (message) => {
        const { summary, done, failure } = message as Report;
        summaries.set(worker, summary);
        if (failure !== undefined) {
          end(failure);
          return;
        }
        if (done) {
          finished = true;
          if (--left === 0) end(undefined);
        } else if (performance.now() - printed > PRINT_MS) {
          printed = performance.now();
          say(describe(summaries.values()));
        }
      });
      child.on('exit', (status, signal) => {
        if (!finished && signal !== 'SIGTERM') reject(new Error(`a worker ended with ${status ?? signal}`));
      });
    }
  });
}

/** Leaves out actions, more at first and then single ones, as long as the life still fails. */
async function shrink(life: number): Promise<void> {
  const only = { life, state: undefined };
  const first = await new Explorer({ ...base, only }).run();
  if (first?.life !== life) {
    say('it does not fail');
    return;
  }
  let failure: Failure = first;
  // What comes after the failure is none of it.
  let actions = Array.from({ length: first.action + 1 }, (_, action) => action);
  const deadline = performance.now() + SHRINK_LIMIT_MS;
  for (let size = Math.ceil(actions.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < actions.length && performance.now() < deadline; ) {
      const candidate = [...actions.slice(0, from), ...actions.slice(from + size)];
      const found = await new Explorer({ ...base, only, actions: new Set(candidate) }).run();
      if (found?.life === life) [actions, failure] = [candidate, found];
      else from += size;
    }
  }
  say(`${actions.length} of ${first.action + 1} actions are enough:`);
  report(failure, actions);
}

async function replay(life: number): Promise<void> {
  const only = { life, state: values.state === undefined ? undefined : wholeNumber('state', values.state) };
  const actions = values.actions
    ?.split(',')
    .filter((text) => text !== '')
    .map((text) => wholeNumber('actions', text));
  const options: ExplorerOptions = {
    ...base,
    only,
    ...(actions !== undefined && { actions: new Set(actions) }),
    ...(values.trace && { trace: say }),
  };
  const explorer = new Explorer(options);
  const failure = await explorer.run();
  say(describe([explorer.summary]));
  if (failure === undefined) return;
  report(failure, actions);
  process.exitCode = 1;
}

if (values.chain !== undefined) await work(wholeNumber('chain', values.chain));
else if (values.life !== undefined) {
  const life = wholeNumber('life', values.life);
  if (values.shrink) await shrink(life);
  else await replay(life);
} else {
  say(
    `${states} crash states, seed ${seed}, ${workers} processes${canary === undefined ? '' : `, canary ${canary}`}`,
  );
  const failure = await lead();
  if (failure !== undefined) {
    report(failure);
    process.exitCode = 1;
  }
}
