/**
 * The mount beside what a user would take instead: `npm run bench:mount -- [--rounds 3] [--quick] [--only REGEX] [--systems A,B]
 * [--json FILE] [--compare FILE]`.
 *
 * Each round runs every workload on lsnfs, on bindfs and on a pass-through by fuse-native over the native file system, and
 * on the native file system itself, one after the other, each in a fresh directory. The workloads are programs; what
 * they print is measured in them. Everything is below one temporary directory, and gone afterwards.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { copySourceTree } from '../scripts/source-tree.ts';
import { findProgram } from '../test/programs/harness.ts';
import {
  CleanUp,
  dropCaches,
  isInstalled,
  lsnfs,
  residentMaximum,
  run,
  settle,
  wholeNumber,
  whyNotDropCaches,
} from './measure.ts';
import { OWN, Report, type Row } from './report.ts';
import { workloadSizes } from './workload-sizes.ts';

const NATIVE = 'native';
const BINDFS = 'bindfs';
const PASSTHROUGH = 'fuse-native';

interface MountRow extends Row {
  readonly workload: string;
  readonly argument?: string;
  /** Which of the figures that the workload prints. */
  readonly figure?: string;
  /** Whether the kernel's caches are dropped before. */
  readonly cold?: boolean;
  /** Programs that it needs. */
  readonly needs?: readonly string[];
  /** Why it cannot be measured. */
  readonly whyNot?: string | undefined;
  /** Left out of --quick. */
  readonly slow?: boolean;
}

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '..', '..');
const { values: given } = parseArgs({
  options: {
    rounds: { type: 'string', default: '3' },
    quick: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    systems: { type: 'string', default: [OWN, BINDFS, PASSTHROUGH, NATIVE].join(',') },
    json: { type: 'string' },
    compare: { type: 'string' },
  },
});
const rounds = given.quick ? 1 : wholeNumber('--rounds', given.rounds);
const systems = given.systems.split(',');

/** What --quick does of each workload. */
const QUICK_SHARE = 0.1;
const share = given.quick ? QUICK_SHARE : 1;
const sizes = workloadSizes(share);
const count = (number: number): string => number.toLocaleString('en');
const large = sizes.largeMib % 1024 === 0 ? `${sizes.largeMib / 1024} GB` : `${sizes.largeMib} MB`;

const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-mount-'));
const archive = join(base, 'tree.tar');
const origin = join(base, 'origin.git');
const initdb = findProgram('initdb');
const postgresql = initdb === undefined ? undefined : dirname(initdb);
const npmCi = join(root, 'bench', 'node_modules', '.cache', 'npm-ci');

const isKoffiInstalled = fs.existsSync(join(root, 'node_modules', 'koffi'));

const atLeastBindfs = { ratio: 1, of: BINDFS };
const fio = (kind: string, block: string, jobs: number, sync: boolean): string =>
  `--rw=${kind} --bs=${block} --numjobs=${jobs}${sync ? ' --fdatasync=1' : ''}`;

const ROWS: readonly MountRow[] = [
  {
    title: `create ${count(sizes.smallFiles)} files of 1 KB`,
    workload: 'create',
    unit: 'ms',
    target: atLeastBindfs,
  },
  { title: 'stat of them, warm', workload: 'stat', unit: 'ms' },
  { title: 'stat of them, cold', workload: 'stat', unit: 'ms', cold: true, target: atLeastBindfs },
  {
    title: 'stat of them by Node, cold: with times of birth, which bindfs has not',
    workload: 'nodeStat',
    unit: 'ms',
    cold: true,
    slow: true,
  },
  { title: 'reading them, cold', workload: 'readSmall', unit: 'ms', cold: true },
  { title: 'reading them, warm', workload: 'readSmall', unit: 'ms' },
  { title: 'removing them', workload: 'removeSmall', unit: 'ms', target: atLeastBindfs },
  { title: 'lookup of nothing, median', workload: 'lookups', figure: 'p50', unit: 'ms' },
  { title: 'lookup of nothing, p99', workload: 'lookups', figure: 'p99', unit: 'ms' },
  ...(['p50', 'p99', 'p99.9'] as const).map(
    (figure): MountRow => ({
      title: `getattr of an open file, ${figure}`,
      workload: 'getattrs',
      figure,
      unit: 'ms',
      whyNot: isKoffiInstalled ? undefined : 'koffi is not installed',
    }),
  ),
  { title: 'untar a source tree', workload: 'untar', argument: archive, unit: 'ms', target: atLeastBindfs },
  { title: 'find in it, cold', workload: 'find', unit: 'ms', cold: true, target: atLeastBindfs },
  { title: 'find in it, warm', workload: 'find', unit: 'ms', target: atLeastBindfs, slow: true },
  { title: 'grep -r in it, cold', workload: 'grep', unit: 'ms', cold: true, target: atLeastBindfs },
  { title: 'rm -rf of it', workload: 'remove', unit: 'ms', target: atLeastBindfs },
  {
    title: 'npm ci, offline, 73 packages',
    workload: 'npmCi',
    argument: npmCi,
    unit: 'ms',
    whyNot: fs.existsSync(npmCi) ? undefined : "npm's cache could not be filled",
    slow: true,
  },
  { title: 'git clone', workload: 'clone', argument: origin, unit: 'ms', needs: ['git'], slow: true },
  { title: 'git status', workload: 'status', unit: 'ms', needs: ['git'], slow: true },
  { title: 'git status, cold', workload: 'status', unit: 'ms', cold: true, needs: ['git'], slow: true },
  {
    title: `${count(sizes.appends)} appends of 100 bytes`,
    workload: 'append',
    unit: 'ms',
    target: { ratio: 5, of: BINDFS },
  },
  {
    title: `${large} written, with fsync`,
    workload: 'write',
    unit: 'ms',
    target: { ratio: 0.8, of: NATIVE },
  },
  { title: `${large} read, cold`, workload: 'read', unit: 'ms', cold: true },
  { title: `${large} read, warm`, workload: 'read', unit: 'ms', target: { ratio: 0.8, of: NATIVE } },
  ...(['4k', '8k'] as const).flatMap((block): MountRow[] => {
    const row = (title: string, argument: string, more: Partial<MountRow> = {}): MountRow => ({
      title: `fio ${block} ${title}`,
      workload: 'fio',
      figure: 'rate',
      argument,
      unit: '/s',
      needs: ['fio'],
      slow: block === '8k' || argument.includes('--numjobs=8') || argument.includes('--fdatasync=1'),
      ...more,
    });
    return [
      row('random read, 1 job', fio('randread', block, 1, false), { target: atLeastBindfs }),
      row('random read, 8 jobs', fio('randread', block, 8, false), { target: atLeastBindfs }),
      row('random write, 1 job', fio('randwrite', block, 1, false)),
      row('random write, 8 jobs', fio('randwrite', block, 8, false)),
      row('random write and fdatasync, 1 job', fio('randwrite', block, 1, true)),
      row('random write and fdatasync, 8 jobs', fio('randwrite', block, 8, true)),
    ];
  }),
  ...([1, 4, 16] as const).map(
    (processes): MountRow => ({
      title: `fsyncs, ${processes === 1 ? '1 process' : `${processes} processes`}`,
      workload: 'fsyncs',
      figure: 'rate',
      argument: String(processes),
      unit: '/s',
      slow: processes === 4,
      ...(processes === 1 && { target: { ratio: 0.5, of: NATIVE } }),
      ...(processes === 16 && { target: atLeastBindfs }),
    }),
  ),
  {
    title: `${count(sizes.inserts)} inserts by sqlite3, WAL, FULL`,
    workload: 'sqlite',
    unit: 'ms',
    needs: ['sqlite3'],
  },
  ...(['readwrite', 'select'] as const).map(
    (figure): MountRow => ({
      title: `pgbench, 4 clients, ${figure === 'select' ? 'select only' : 'read and write'}`,
      workload: 'pgbench',
      figure,
      argument: `${postgresql ?? ''} ${join(base, 'socket')}`,
      unit: '/s',
      whyNot: postgresql === undefined ? 'postgresql is not installed' : undefined,
      target: { ratio: 1.2, of: BINDFS },
      slow: true,
    }),
  ),
];

/** Makes a system at a directory. Returns what takes it away. @throws Error when it cannot be had */
async function setUp(system: string, directory: string): Promise<() => Promise<void> | void> {
  const below = join(base, 'below');
  switch (system) {
    case OWN: {
      const store = join(base, 'store');
      lsnfs('init', store);
      lsnfs('mount', store, directory, '--allow-other');
      return () => {
        note(directory);
        lsnfs('unmount', directory);
        fs.rmSync(store, { recursive: true });
      };
    }
    case BINDFS:
      if (!isInstalled('bindfs')) throw new Error('bindfs is not installed');
      fs.mkdirSync(below);
      run('bindfs', [below, directory]);
      return () => {
        run('umount', [directory]);
        fs.rmSync(below, { recursive: true });
      };
    case PASSTHROUGH: {
      fs.mkdirSync(below);
      const server = spawn(process.execPath, [join(here, 'passthrough.js'), below, directory], {
        stdio: ['pipe', 'pipe', 'pipe'],
      });
      await mounted(server);
      return async () => {
        const ended = once(server, 'exit');
        server.stdin!.end();
        await ended;
        fs.rmSync(below, { recursive: true });
      };
    }
    case NATIVE:
      return () => {};
    default:
      throw new Error(`there is no system ${system}`);
  }
}

async function mounted(server: ChildProcess): Promise<void> {
  let why = '';
  server.stderr!.on('data', (text) => {
    why += text;
  });
  const first = await Promise.race([
    once(server.stdout!, 'data'),
    once(server, 'exit').then(() => undefined),
  ]);
  if (first === undefined)
    throw new Error(`the pass-through did not mount: ${why.trim().split('\n').at(-1) ?? ''}`);
}

let residentMib = 0;

/** What the daemon had in memory at most. */
function note(directory: string): void {
  const { pid } = JSON.parse(lsnfs('status', directory, '--json')) as { pid: number };
  residentMib = Math.max(residentMib, residentMaximum(pid));
}

const wanted = ROWS.filter((row) => !(given.quick && row.slow === true));
const report = new Report(systems, new RegExp(given.only));
const shown = wanted.filter((row) => report.declare(row));
const cleanUp = new CleanUp();
cleanUp.add(() => fs.rmSync(base, { recursive: true, force: true }));
cleanUp.runAtSignals();

/** Runs what the rows need, in their order; what goes before a wanted row may prepare it. */
function measure(system: string, directory: string): void {
  const needed = new Set(shown.flatMap(({ workload }) => [workload, ...(BEFORE[workload] ?? [])]));
  const figures = new Map<string, Record<string, number>>();
  for (const row of wanted) {
    const { workload, argument = '', title } = row;
    if (!needed.has(workload)) continue;
    const missing = row.needs?.find((program) => !isInstalled(program));
    const notCold = row.cold === true ? whyNotDropCaches() : undefined;
    const whyNot = missing === undefined ? (row.whyNot ?? notCold) : `${missing} is not installed`;
    if (whyNot !== undefined) {
      report.miss(title, system, whyNot);
      continue;
    }
    const key = `${workload} ${argument} ${row.cold === true}${row.figure === undefined ? title : ''}`;
    let found = figures.get(key);
    try {
      if (found === undefined) {
        settle(base);
        if (row.cold === true) dropCaches();
        const words = [join(here, 'workloads.js'), workload, directory, String(share), argument];
        found = JSON.parse(run(process.execPath, words)) as Record<string, number>;
        figures.set(key, found);
      }
      const value = found[row.figure ?? 'ms'];
      if (value === undefined) throw new Error(`${workload} has no figure ${row.figure ?? 'ms'}`);
      if (shown.includes(row)) report.add(title, system, value);
    } catch (error) {
      if (system === OWN) throw error;
      report.miss(title, system, (error as Error).message);
    }
  }
}

/** What a workload works on is made by another. */
const BEFORE: Readonly<Record<string, readonly string[]>> = {
  stat: ['create'],
  nodeStat: ['create'],
  readSmall: ['create'],
  removeSmall: ['create'],
  find: ['untar'],
  grep: ['untar'],
  remove: ['untar'],
  status: ['clone'],
  read: ['write'],
};

const NEEDS_ARCHIVE = ['untar', 'find', 'grep', 'remove', 'clone', 'status'];

try {
  fs.chmodSync(base, 0o755);
  if (shown.some(({ workload }) => NEEDS_ARCHIVE.includes(workload))) makeArchive();
  if (shown.some(({ workload }) => workload === 'clone' || workload === 'status')) makeRepository();
  for (let round = 0; shown.length > 0 && round < rounds; round++) {
    for (const system of systems) {
      const directory = join(base, system);
      fs.mkdirSync(directory);
      try {
        const end = await setUp(system, directory);
        cleanUp.add(() => void end());
        measure(system, directory);
        cleanUp.forgetLast();
        await end();
      } catch (error) {
        if (system === OWN) throw error;
        for (const { title } of shown) report.miss(title, system, (error as Error).message);
      }
      fs.rmSync(directory, { recursive: true });
      // What one has to write still must not slow the next one down.
      run('sync', []);
      process.stderr.write(`round ${round + 1} of ${rounds}: ${system}\n`);
    }
  }
} finally {
  cleanUp.run();
}

/** The project's dependencies, or, in short, some of them. */
function makeArchive(): void {
  const dependencies = join(root, 'node_modules');
  const part = join(base, 'part');
  if (given.quick) copySourceTree(dependencies, part);
  run('tar', ['-cf', archive, '-C', given.quick ? part : dependencies, '.']);
}

/** A repository with the files of node_modules as its only commit. */
function makeRepository(): void {
  const work = join(base, 'work');
  fs.mkdirSync(work);
  run('tar', ['-xf', archive, '-C', work]);
  const git = (...words: string[]) =>
    run('git', ['-C', work, '-c', 'user.name=bench', '-c', 'user.email=bench@localhost', ...words]);
  git('init', '-q');
  git('add', '-A', '-f');
  git('commit', '-q', '-m', 'all');
  run('git', ['clone', '-q', '--bare', work, origin]);
  fs.rmSync(work, { recursive: true });
}

report.conclude({
  notes: [
    `Median (least–most) of ${rounds} rounds, the systems in turn; ": PEER" is how many times lsnfs is better`,
    `Resident memory of the daemon at most: ${Math.round(residentMib)} MiB`,
  ],
  facts: { rounds, share, residentMib },
  json: given.json,
  compare: given.compare,
});
