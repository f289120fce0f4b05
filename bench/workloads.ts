/**
 * The workloads of the mount benchmark, each in a process of its own: `node workloads.js NAME DIRECTORY SHARE [ARGUMENT]`
 * works in the directory, as much as that part of the full sizes, and prints its figures by name, as JSON.
 */
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { noise, quantile } from './measure.ts';
import { workloadSizes } from './workload-sizes.ts';

const MIB = 1024 * 1024;

const [name, directory, share, argument] = process.argv.slice(2);
const sizes = workloadSizes(Number(share));

/** Of statx (linux/stat.h, linux/fcntl.h). */
const STATX_BYTES = 256;
const STATX_BASIC_STATS = 0x7ff;
const AT_EMPTY_PATH = 0x1000;
const AT_STATX_FORCE_SYNC = 0x2000;

/** What is used of koffi. */
interface Koffi {
  load(path: null): {
    func(name: string, result: string, parameters: unknown[]): (...args: unknown[]) => number;
  };
  pointer(type: unknown): unknown;
  out(type: unknown): unknown;
}

type Figures = Record<string, number>;

/** Bytes that differ from run to run. */
const freshNoise = (length: number): Buffer => noise(length, process.pid * 2654435761);

function milliseconds(work: () => void): Figures {
  const start = performance.now();
  work();
  return { ms: performance.now() - start };
}

function script(directory: string, text: string): void {
  execFileSync('bash', ['-euo', 'pipefail', '-c', text], {
    cwd: directory,
    maxBuffer: 256 * MIB,
    stdio: 'pipe',
  });
}

function timed(text: string): (directory: string, argument: string) => Figures {
  return (directory, argument) =>
    milliseconds(() => script(directory, text.replaceAll('ARGUMENT', argument)));
}

const smallFile = (directory: string, i: number): string => join(directory, 'files', `file-${i}`);

/** Runs children of this program together, and sums what they print. */
async function together(processes: number, words: (child: number) => readonly string[]): Promise<number> {
  const counts = await Promise.all(
    Array.from({ length: processes }, (_, i) => {
      const child = spawn(process.execPath, [fileURLToPath(import.meta.url), ...words(i)]);
      let output = '';
      child.stdout.on('data', (data) => {
        output += data;
      });
      return new Promise<number>((resolve, reject) => {
        child.on('error', reject);
        child.on('close', (code) =>
          code === 0
            ? resolve((JSON.parse(output) as { count: number }).count)
            : reject(new Error(`a child failed: ${code}`)),
        );
      });
    }),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

/** Input and output operations a second of fio jobs on one file. */
function fio(directory: string, words: string): Figures {
  const output = execFileSync(
    'fio',
    [
      '--name=bench',
      `--filename=${join(directory, 'fio')}`,
      `--size=${sizes.fioMib}m`,
      '--ioengine=psync',
      '--group_reporting',
      '--time_based',
      `--runtime=${sizes.fioMs}ms`,
      '--randseed=1',
      '--output-format=json',
      ...words.split(' '),
    ],
    { encoding: 'utf8', maxBuffer: 64 * MIB },
  );
  const { jobs } = JSON.parse(output) as { jobs: { read: { iops: number }; write: { iops: number } }[] };
  return { rate: jobs.reduce((sum, { read, write }) => sum + read.iops + write.iops, 0) };
}

/** A PostgreSQL of the user nobody below the directory; argument: the directory of its programs, and that of its socket. */
function pgbench(directory: string, argument: string): Figures {
  const [programs, socket] = argument.split(' ') as [string, string];
  const data = join(directory, 'postgresql', 'data');
  const as = `setpriv --reuid 65534 --regid 65534 --clear-groups env HOME=/nonexistent PGHOST=${socket} PGUSER=nobody PGDATABASE=postgres`;
  script(
    '/',
    `mkdir -p ${data} ${socket}; chown -R 65534:65534 ${join(directory, 'postgresql')} ${socket}
     ${as} ${programs}/initdb -D ${data} -A trust -E UTF8 --locale=C > /dev/null
     ${as} ${programs}/pg_ctl -D ${data} -w -l ${socket}/log -o "-c listen_addresses= -c unix_socket_directories=${socket} -c shared_buffers=16MB" start > /dev/null
     ${as} ${programs}/pgbench -i -s 10 -q > /dev/null 2>&1`,
  );
  try {
    const tps = (words: string): number => {
      const output = execFileSync(
        'bash',
        ['-c', `${as} ${programs}/pgbench -c 4 -j 2 -T ${Math.ceil(sizes.pgbenchMs / 1000)} ${words}`],
        {
          encoding: 'utf8',
        },
      );
      return Number(/tps = ([\d.]+)/.exec(output)?.[1]);
    };
    return { readwrite: tps(''), select: tps('-S') };
  } finally {
    script('/', `${as} ${programs}/pg_ctl -D ${data} -m fast -w stop > /dev/null`);
  }
}

const workloads: Record<string, (directory: string, argument: string) => Figures | Promise<Figures>> = {
  create(directory) {
    const content = freshNoise(1024);
    fs.mkdirSync(join(directory, 'files'));
    return milliseconds(() => {
      for (let i = 0; i < sizes.smallFiles; i++) {
        const file = fs.openSync(smallFile(directory, i), 'wx');
        fs.writeSync(file, content);
        fs.closeSync(file);
      }
    });
  },
  stat: timed(`cd files; seq -f file-%.0f 0 ${sizes.smallFiles - 1} | xargs stat -c %s > /dev/null`),
  /** Node asks for the time of birth, too, which is a request more. */
  nodeStat(directory) {
    return milliseconds(() => {
      for (let i = 0; i < sizes.smallFiles; i++) fs.statSync(smallFile(directory, i));
    });
  },
  readSmall(directory) {
    return milliseconds(() => {
      for (let i = 0; i < sizes.smallFiles; i++) fs.readFileSync(smallFile(directory, i));
    });
  },
  removeSmall(directory) {
    return milliseconds(() => {
      for (let i = 0; i < sizes.smallFiles; i++) fs.unlinkSync(smallFile(directory, i));
      fs.rmdirSync(join(directory, 'files'));
    });
  },
  /** What a request costs: names that are not there, each another one, which no cache can know. */
  lookups(directory) {
    const times: number[] = [];
    for (let i = 0; i < sizes.requests; i++) {
      const start = process.hrtime.bigint();
      fs.statSync(join(directory, `no-${process.pid}-${i}`), { throwIfNoEntry: false });
      times.push(Number(process.hrtime.bigint() - start) / 1e6);
    }
    return { p50: quantile(times, 0.5), p99: quantile(times, 0.99) };
  },
  /** Each is one request: the kernel is told not to answer from what it remembers. */
  async getattrs(directory) {
    // By a name that the build does not look for: the package is optional.
    const module: string = 'koffi';
    const { default: koffi } = (await import(module)) as { default: Koffi };
    const statx = koffi
      .load(null)
      .func('statx', 'int', ['int', 'str', 'int', 'uint', koffi.out(koffi.pointer('uint8_t'))]);
    const path = join(directory, 'asked');
    fs.writeFileSync(path, freshNoise(1024), { flush: true });
    const file = fs.openSync(path, 'r');
    const result = Buffer.alloc(STATX_BYTES);
    const times: number[] = [];
    for (let i = 0; i < sizes.requests; i++) {
      const start = process.hrtime.bigint();
      const status = statx(file, '', AT_EMPTY_PATH | AT_STATX_FORCE_SYNC, STATX_BASIC_STATS, result);
      times.push(Number(process.hrtime.bigint() - start) / 1e6);
      if (status !== 0) throw new Error('statx failed');
    }
    fs.closeSync(file);
    return { p50: quantile(times, 0.5), p99: quantile(times, 0.99), 'p99.9': quantile(times, 0.999) };
  },
  untar: timed('mkdir tree; tar -xf ARGUMENT -C tree'),
  find: timed('find tree -newer /proc/self/exe > /dev/null'),
  grep: timed('grep -r "no such text anywhere" tree | cat || true'),
  remove: timed('rm -rf tree'),
  npmCi: timed(
    `mkdir npm-ci; cp ARGUMENT/package*.json npm-ci; cd npm-ci
     npm ci --offline --prefer-offline --ignore-scripts --no-audit --no-fund --silent --cache ARGUMENT/cache`,
  ),
  clone: timed('git clone -q ARGUMENT repository'),
  status: timed('git -C repository status --porcelain'),
  sqlite: timed(
    `{ echo "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (a INTEGER PRIMARY KEY, b TEXT);"
     for i in $(seq ${sizes.inserts}); do echo "INSERT INTO t (b) VALUES (hex(randomblob(100)));"; done; } | sqlite3 sqlite.db > /dev/null`,
  ),
  append(directory) {
    const line = freshNoise(100);
    const file = fs.openSync(join(directory, 'log'), 'a');
    const time = milliseconds(() => {
      for (let i = 0; i < sizes.appends; i++) fs.writeSync(file, line);
    });
    fs.closeSync(file);
    return time;
  },
  write(directory) {
    const content = freshNoise(MIB);
    const file = fs.openSync(join(directory, 'large'), 'w');
    const time = milliseconds(() => {
      for (let i = 0; i < sizes.largeMib; i++) fs.writeSync(file, content);
      fs.fsyncSync(file);
    });
    fs.closeSync(file);
    return time;
  },
  read(directory) {
    const content = Buffer.alloc(MIB);
    const file = fs.openSync(join(directory, 'large'), 'r');
    const time = milliseconds(() => {
      while (fs.readSync(file, content) > 0);
    });
    fs.closeSync(file);
    return time;
  },
  fio,
  pgbench,
  /** One of the processes of `fsyncs`: how many it did. */
  syncer(directory, name) {
    const content = freshNoise(4096);
    const file = fs.openSync(join(directory, `sync-${name}`), 'w');
    let count = 0;
    const end = performance.now() + sizes.syncMs;
    for (; performance.now() < end; count++) {
      fs.writeSync(file, content, 0, content.length, 0);
      fs.fsyncSync(file);
    }
    fs.closeSync(file);
    return { count };
  },
  async fsyncs(directory, processes) {
    const count = await together(Number(processes), (child) => ['syncer', directory, share!, String(child)]);
    return { rate: count / (sizes.syncMs / 1000) };
  },
};

if (name !== undefined && directory !== undefined) {
  const workload = workloads[name];
  if (workload === undefined) throw new Error(`there is no workload ${name}`);
  process.stdout.write(`${JSON.stringify(await workload(directory, argument ?? ''))}\n`);
}
