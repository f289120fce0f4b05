/**
 * The long run of the corruption laboratory:
 *
 *   npm run test:corruption -- [--seed S] [--cases N] [--store NAME] [--every-byte]
 *   npm run test:corruption -- --store NAME --seed S --case K          one case again
 *   npm run test:corruption -- --store NAME --seed S --byte FILE:OFFSET
 *
 * Does N cases of random damage (default: 20,000) over all stores, or one; with --every-byte it then flips every byte
 * of the small ones. Ends with exit code 1 at the first finding, and the command that does that case again.
 */
import { parseArgs } from 'node:util';
import {
  everyByte,
  type FailedCase,
  type Prepared,
  prepare,
  recipe,
  runByte,
  runCase,
} from '../test/lab/corruption-run.ts';
import { RECIPES } from '../test/lab/corruption-store.ts';
import type { Outcome } from '../test/lab/corruption-use.ts';

const PROGRESS_MS = 5000;

const { values } = parseArgs({
  options: {
    seed: { type: 'string' },
    cases: { type: 'string', default: '20000' },
    store: { type: 'string' },
    case: { type: 'string' },
    byte: { type: 'string' },
    'every-byte': { type: 'boolean', default: false },
  },
});

const seed = values.seed === undefined ? Math.floor(Math.random() * 2 ** 31) : Number(values.seed);

/** Counts what cases came to, and says now and then how far it is. */
class Progress {
  private readonly name: string;
  private readonly started = performance.now();
  private told = this.started;
  private done = 0;
  private readonly outcomes = new Map<Outcome, number>();

  constructor(name: string) {
    this.name = name;
  }

  add(outcome: Outcome): void {
    this.done++;
    this.outcomes.set(outcome, (this.outcomes.get(outcome) ?? 0) + 1);
    if (performance.now() - this.told < PROGRESS_MS) return;
    this.told = performance.now();
    this.tell();
  }

  tell(): void {
    const seconds = (performance.now() - this.started) / 1000;
    const counts = [...this.outcomes].map(([outcome, count]) => `${count} ${outcome}`).join(', ');
    const rate = (this.done / seconds).toFixed(0);
    process.stdout.write(
      `${this.name}: ${this.done} cases in ${seconds.toFixed(0)} s, ${rate}/s: ${counts}\n`,
    );
  }
}

async function random(prepared: Prepared, cases: number): Promise<void> {
  const progress = new Progress(prepared.name);
  for (let index = 0; index < cases; index++) progress.add(await runCase(prepared, seed, index));
  progress.tell();
}

async function bytes(prepared: Prepared): Promise<void> {
  const progress = new Progress(`${prepared.name}, every byte`);
  for (const place of everyByte(prepared)) progress.add(await runByte(prepared, seed, place));
  progress.tell();
}

async function main(): Promise<void> {
  const recipes = values.store === undefined ? RECIPES : [recipe(values.store)];
  process.stdout.write(`seed ${seed}\n`);
  for (const one of recipes) {
    const prepared = await prepare(one, seed);
    if (values.case !== undefined)
      process.stdout.write(`${await runCase(prepared, seed, Number(values.case))}\n`);
    else if (values.byte !== undefined) {
      const [file, offset] = values.byte.split(':') as [string, string];
      process.stdout.write(`${await runByte(prepared, seed, { file, offset: Number(offset) })}\n`);
    } else {
      await random(prepared, Math.ceil(Number(values.cases) / recipes.length));
      if (values['every-byte'] && one.small === true) await bytes(prepared);
    }
  }
}

main().catch((error: FailedCase) => {
  process.stderr.write(`${error.name === 'FailedCase' ? error.message : error.stack}\n`);
  process.exitCode = 1;
});
