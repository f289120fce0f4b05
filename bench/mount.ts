/**
 * The mount beside what a user would take instead: `npm run bench [-- --rounds N]`.
 *
 * Each round runs every workload on lsnfs, on bindfs over the native file system, and on the native file system
 * itself, one after the other, so that what else the machine does hits all alike. Printed are the medians of the
 * rounds and, first, what they are relative to bindfs. Everything is below one temporary directory, and gone afterwards.
 */
import * as fs from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { isInstalled, median, run } from './measure.ts';

interface Row {
  readonly title: string;
  readonly workload: string;
  readonly argument?: string;
  /** Whether more is better (a rate) or less (a time). */
  readonly unit: 'ms' | '/s';
  /** Whether the kernel's caches are dropped before. */
  readonly cold?: boolean;
}

const here = fileURLToPath(new URL('.', import.meta.url));
const root = join(here, '..', '..');
const roundsAt = process.argv.indexOf('--rounds');
const rounds = roundsAt < 0 ? 5 : Number(process.argv[roundsAt + 1]);
if (!Number.isInteger(rounds) || rounds < 1) throw new Error('--rounds takes a whole number from 1 on');

const base = fs.mkdtempSync(join(tmpdir(), 'lsnfs-bench-'));
const archive = join(base, 'tree.tar');
const places = {
  lsnfs: join(base, 'lsnfs'),
  bindfs: join(base, 'bindfs'),
  native: join(base, 'native'),
};
type Place = keyof typeof places;

const rows: readonly Row[] = [
  { title: 'create 5,000 files of 1 KB', workload: 'create', unit: 'ms' },
  { title: 'untar a source tree', workload: 'untar', argument: archive, unit: 'ms' },
  { title: 'find in it, cold', workload: 'find', unit: 'ms', cold: true },
  { title: 'find in it, warm', workload: 'find', unit: 'ms' },
  { title: 'grep -r in it, cold', workload: 'grep', unit: 'ms', cold: true },
  { title: 'rm -rf of it', workload: 'remove', unit: 'ms' },
  { title: '20,000 appends of 100 bytes', workload: 'append', unit: 'ms' },
  { title: '1 GB written, with fsync', workload: 'write', unit: 'ms' },
  { title: '1 GB read, cold', workload: 'read', unit: 'ms', cold: true },
  { title: '1 GB read, warm', workload: 'read', unit: 'ms' },
  { title: 'fsyncs, 1 process', workload: 'fsyncs', argument: '1', unit: '/s' },
  { title: 'fsyncs, 4 processes', workload: 'fsyncs', argument: '4', unit: '/s' },
];

function lsnfs(...args: string[]): string {
  return run(process.execPath, [join(here, '..', 'cli', 'main.js'), ...args]);
}

function format(value: number | undefined): string {
  return value === undefined ? '–' : Math.round(value).toLocaleString('en');
}

const withBindfs = isInstalled('bindfs');
if (!withBindfs) process.stderr.write('bindfs is not installed: its column stays empty\n');
const measured = new Map<string, Map<Place, number[]>>(rows.map(({ title }) => [title, new Map()]));
const clean: (() => void)[] = [() => fs.rmSync(base, { recursive: true, force: true })];
let residentKib = 0;

try {
  run('tar', ['-cf', archive, '-C', join(root, 'node_modules'), '.']);
  for (let round = 0; round < rounds; round++) {
    for (const place of Object.keys(places) as Place[]) {
      if (place === 'bindfs' && !withBindfs) continue;
      const directory = places[place];
      fs.mkdirSync(directory);
      let end: () => void;
      if (place === 'lsnfs') {
        const store = join(base, 'store');
        lsnfs('init', store);
        lsnfs('mount', store, directory);
        end = () => {
          lsnfs('unmount', directory);
          fs.rmSync(store, { recursive: true });
        };
      } else if (place === 'bindfs') {
        const below = join(base, 'below');
        fs.mkdirSync(below);
        run('bindfs', [below, directory]);
        end = () => {
          run('umount', [directory]);
          fs.rmSync(below, { recursive: true });
        };
      } else end = () => {};
      clean.push(end);
      for (const row of rows) {
        if (row.cold === true) {
          run('sync', []);
          fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
        }
        const output = run(process.execPath, [
          join(here, 'workloads.js'),
          row.workload,
          directory,
          row.argument ?? '',
        ]);
        const values = measured.get(row.title)!;
        values.set(place, [...(values.get(place) ?? []), Number(output)]);
      }
      if (place === 'lsnfs') {
        const { pid } = JSON.parse(lsnfs('status', directory, '--json')) as { pid: number };
        const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
        residentKib = Math.max(residentKib, Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0));
      }
      clean.pop()!();
      fs.rmSync(directory, { recursive: true });
      // What one place still has to write must not slow the next one down.
      run('sync', []);
      process.stderr.write(`round ${round + 1} of ${rounds}: ${place}\n`);
    }
  }
  const files = run('tar', ['-tf', archive]).split('\n').length;
  const lines = [
    `Medians of ${rounds} interleaved rounds; the source tree has ${files.toLocaleString('en')} entries. Resident at most: ${Math.round(residentKib / 1024)} MiB.`,
    '',
    '| | lsnfs : bindfs (above 1: lsnfs is ahead) | lsnfs | bindfs | native | |',
    '|---|---:|---:|---:|---:|---|',
  ];
  for (const { title, unit } of rows) {
    const values = measured.get(title)!;
    const [own, bound, native] = (['lsnfs', 'bindfs', 'native'] as const).map((place) => {
      const list = values.get(place);
      return list === undefined ? undefined : median(list);
    });
    const ratio =
      own === undefined || bound === undefined ? '–' : (unit === 'ms' ? bound / own : own / bound).toFixed(2);
    lines.push(`| ${title} | ${ratio} | ${format(own)} | ${format(bound)} | ${format(native)} | ${unit} |`);
  }
  process.stdout.write(`${lines.join('\n')}\n`);
} finally {
  for (const step of clean.reverse()) step();
}
