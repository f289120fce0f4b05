/**
 * `npm run test:programs -- [--only NAME] [--seed N] [--allow-missing] [--list]`: real programs on a mount, with their own checks
 * (test/programs/). `--only` can be given more than once, and takes the beginning of a name, too.
 *
 * A line for each case as it ends, and a table of all at the end. Status 1 if one failed, or could not be run for want of a
 * program and nobody allowed that.
 */
import { parseArgs } from 'node:util';
import { PROGRAM_CASES } from '../test/programs/cases.ts';
import { type Row, runCase, table } from '../test/programs/harness.ts';
import { whyNoMount } from './why-no-mount.ts';

const { values } = parseArgs({
  options: {
    only: { type: 'string', multiple: true, default: [] },
    seed: { type: 'string', default: String(Math.floor(Math.random() * 2 ** 31)) },
    'allow-missing': { type: 'boolean', default: false },
    list: { type: 'boolean', default: false },
  },
});

const seed = Number(values.seed);
if (!Number.isSafeInteger(seed) || seed < 0)
  throw new Error(`--seed is a whole number, not '${values.seed}'`);
const names = PROGRAM_CASES.map((one) => one.name);
for (const only of values.only) {
  if (!names.some((name) => name.startsWith(only)))
    throw new Error(`--only ${only}: there are ${names.join(', ')}`);
}
const wanted = PROGRAM_CASES.filter(
  ({ name }) => values.only.length === 0 || values.only.some((only) => name.startsWith(only)),
);

if (values.list) {
  for (const { name, checks } of wanted) process.stdout.write(`${name}: ${checks}\n`);
  process.exit(0);
}
const reason = whyNoMount();
if (reason !== undefined) {
  process.stderr.write(`test:programs mounts, which cannot be done here: ${reason}\n`);
  process.exit(1);
}

process.stdout.write(`${wanted.length} cases, seed ${seed}\n`);
const rows: Row[] = [];
for (const one of wanted) {
  const row = await runCase(one, seed);
  rows.push(row);
  process.stdout.write(`${row.name}: ${row.result}, ${row.seconds.toFixed(1)} s\n`);
  if (row.details !== '') process.stdout.write(`${row.details.replace(/^/gm, '    ')}\n`);
  if (row.result === 'failed')
    process.stdout.write(`    again: npm run test:programs -- --only ${row.name} --seed ${seed}\n`);
}
process.stdout.write(`\n${table(rows)}`);
const failed = rows.filter(
  ({ result }) => result === 'failed' || (result === 'missing' && !values['allow-missing']),
);
process.stdout.write(
  `${rows.filter(({ result }) => result === 'passed').length} passed, ${failed.length} failed\n`,
);
process.exitCode = failed.length === 0 ? 0 : 1;
