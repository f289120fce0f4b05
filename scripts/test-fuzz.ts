/**
 * The long run of the fuzzers:
 *
 *   npm run test:fuzz -- [--cases 1000000] [--seed S] [--parser NAME]
 *   npm run test:fuzz -- --parser NAME --seed S --case K          one case again (with those before it in its batch)
 *
 * Says for each parser how many cases it did and how many a second. Ends with exit code 1 at the first finding, and
 * the command that does that case again.
 */
import { parseArgs } from 'node:util';
import { type FuzzParser, runCases } from '../test/lab/fuzz-parser.ts';
import { casesOf, PARSERS, parserNamed } from '../test/lab/fuzz-run.ts';

const PROGRESS_MS = 5000;
/** Cases between two looks at the clock, at least. */
const CHUNK = 500;

const { values } = parseArgs({
  options: {
    cases: { type: 'string', default: '1000000' },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    parser: { type: 'string' },
    case: { type: 'string' },
  },
});

const seed = Number(values.seed);

function say(parser: FuzzParser, done: number, started: number): void {
  const seconds = (performance.now() - started) / 1000;
  const rate = Math.round(done / seconds);
  process.stdout.write(`${parser.name.padEnd(14)} ${done} cases in ${seconds.toFixed(1)} s, ${rate}/s\n`);
}

async function fuzz(parser: FuzzParser, cases: number): Promise<void> {
  const started = performance.now();
  let told = started;
  const chunk = Math.ceil(CHUNK / parser.batch) * parser.batch;
  for (let from = 0; from < cases; from += chunk) {
    await runCases(parser, seed, from, Math.min(cases, from + chunk));
    if (performance.now() - told < PROGRESS_MS) continue;
    told = performance.now();
    say(parser, Math.min(cases, from + chunk), started);
  }
  say(parser, cases, started);
}

async function main(): Promise<void> {
  process.stdout.write(`seed ${seed}\n`);
  if (values.case !== undefined) {
    const parser = parserNamed(values.parser ?? '');
    await runCases(parser, seed, Number(values.case), Number(values.case) + 1);
    process.stdout.write(`${parser.name}, case ${values.case}: nothing found\n`);
    return;
  }
  const started = performance.now();
  const cases = Number(values.cases);
  let done = 0;
  for (const parser of values.parser === undefined ? PARSERS : [parserNamed(values.parser)]) {
    const count = values.parser === undefined ? casesOf(parser, cases) : cases;
    await fuzz(parser, count);
    done += count;
  }
  const seconds = ((performance.now() - started) / 1000).toFixed(0);
  process.stdout.write(`${done} cases in ${seconds} s, nothing found\n`);
}

main().catch((error: Error) => {
  process.stderr.write(`${error.name === 'FailedFuzzCase' ? error.message : error.stack}\n`);
  process.exitCode = 1;
});
