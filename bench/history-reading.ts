/**
 * Reading below `@…` on a mount beside reading the live state, which has the same content: what programs do there, with
 * the kernel's caches dropped, and again.
 */
import * as fs from 'node:fs';
import { join } from 'node:path';
import { copySourceTree } from '../scripts/source-tree.ts';
import { type HistoryBench, OTHERWISE } from './history-bench.ts';
import { dropCaches, lsnfs, run, whyNotDropCaches } from './measure.ts';
import { OWN, type Row } from './report.ts';
import type { Work } from './turns.ts';

/** Files that are written and not synced, one by one, between a version and the state that is read. */
const BEHIND = 1000;

/** At least so many, so that each comes first in one of them. */
const ROUNDS = 2;

/** What is run in the directory DIRECTORY, where two equal trees are. */
const PROGRAMS = {
  'ls -lR': 'ls -lR DIRECTORY/tree > /dev/null',
  'grep -r': 'grep -r "no such text anywhere" DIRECTORY/tree | cat',
  'diff -r': 'diff -r DIRECTORY/tree DIRECTORY/twin',
} as const;
const LIVE_AND_PAST = 'diff -r tree DIRECTORY/tree';
type State = '@snapshot' | '@lsn-N';

interface Reading {
  readonly row: Omit<Row, 'unit'>;
  readonly state: State;
  readonly isCold: boolean;
  readonly past: string;
  readonly live: string;
}

function readings(isQuick: boolean): Reading[] {
  const found: Reading[] = [];
  const add = (state: State, isCold: boolean, what: string, past: string, live: string): void => {
    const title = `${what}, ${isCold ? 'cold' : 'warm'}; otherwise: live`;
    found.push({ row: { title, target: { ratio: 1, of: OTHERWISE } }, state, isCold, past, live });
  };
  for (const [program, text] of Object.entries(PROGRAMS)) {
    if (isQuick && program === 'diff -r') continue;
    for (const isCold of [true, false]) add('@snapshot', isCold, `${program} below @snapshot`, text, text);
    // What lies behind a version differs from one when it is first read only.
    if (!isQuick) add('@lsn-N', true, `${program} below @lsn-N`, text, text);
  }
  for (const isCold of isQuick ? [] : [true, false])
    add('@snapshot', isCold, 'diff -r of live and @snapshot', LIVE_AND_PAST, PROGRAMS['diff -r']);
  return found;
}

export async function measureReading(bench: HistoryBench): Promise<void> {
  const { report, place, cleanUp, say } = bench;
  const wanted = readings(bench.isQuick).filter(({ row }) => report.isWanted(row.title));
  if (wanted.length === 0) return;
  const directory = join(place, 'mounted');
  const store = join(place, 'store');
  fs.mkdirSync(directory);
  lsnfs('init', store);
  try {
    lsnfs('mount', store, directory);
  } catch (error) {
    for (const { row } of wanted) {
      report.declare({ ...row, unit: 'ms' });
      report.miss(row.title, OWN, `no mount: ${(error as Error).message}`);
    }
    return;
  }
  cleanUp.add(() => void lsnfs('unmount', directory));
  const files = copySourceTree(
    join(import.meta.dirname, '..', '..', 'node_modules'),
    join(directory, 'tree'),
  );
  run('cp', ['-a', 'tree', 'twin'], { directory });
  lsnfs('snapshot', 'create', directory, 'measured');
  say(`two trees of ${files} files are in the mounted store`);
  // A state that is no version: the files are no part of what is read.
  const other = join(directory, 'other');
  fs.mkdirSync(other);
  for (let i = 0; i < BEHIND; i++) fs.writeFileSync(join(other, `file-${i}`), 'a little');
  const { lsn } = JSON.parse(lsnfs('status', directory, '--json')) as { lsn: number };
  fs.writeFileSync(join(other, 'last'), 'a little');
  const names = { '@snapshot': '@measured', '@lsn-N': `@lsn-${lsn}` } as const;
  for (const { row, state, isCold, past, live } of wanted) {
    const work = (program: string, root: string): Work | string => {
      const whyNot = isCold ? whyNotDropCaches() : undefined;
      if (whyNot !== undefined) return whyNot;
      const text = program.replaceAll('DIRECTORY', root);
      const once = () => run('bash', ['-euo', 'pipefail', '-c', `{ ${text}; } || [ $? = 1 ]`], { directory });
      return { before: isCold ? dropCaches : once, run: once };
    };
    const works = { [OWN]: work(past, names[state]), [OTHERWISE]: work(live, '.') };
    await bench.turns.measure(row, works, { rounds: Math.max(ROUNDS, bench.rounds) });
  }
  report.remark(
    wanted[0]!.row.title,
    `this and the next on a mount, a tree of ${files} files, part of node_modules; @snapshot is a version, @lsn-N lies up to ${BEHIND.toLocaleString('en')} transactions behind one`,
  );
}
