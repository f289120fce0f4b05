/**
 * The workloads of the mount benchmark, each in a process of its own: `node workloads.js NAME DIRECTORY [ARGUMENT]`
 * works in the directory and prints its figure.
 */
import { execFileSync, spawn } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

const MIB = 1024 * 1024;
/** How long the processes of `fsyncs` work. */
const FSYNC_MS = 2000;

/** Bytes that do not compress and differ from run to run. */
function noise(length: number): Buffer {
  const bytes = Buffer.alloc(length);
  let x = (process.pid * 2654435761) >>> 0 || 1;
  for (let i = 0; i < length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes.writeInt32LE(x | 0, i);
  }
  return bytes;
}

function milliseconds(work: () => void): number {
  const start = performance.now();
  work();
  return performance.now() - start;
}

const workloads: Record<string, (directory: string, argument: string) => number | Promise<number>> = {
  create(directory) {
    const content = noise(1024);
    fs.mkdirSync(join(directory, 'files'));
    return milliseconds(() => {
      for (let i = 0; i < 5000; i++) {
        const file = fs.openSync(join(directory, 'files', `file-${i}`), 'wx');
        fs.writeSync(file, content);
        fs.closeSync(file);
      }
    });
  },
  untar(directory, archive) {
    const target = join(directory, 'tree');
    fs.mkdirSync(target);
    return milliseconds(() => execFileSync('tar', ['-xf', archive, '-C', target]));
  },
  find(directory) {
    return milliseconds(() =>
      execFileSync('find', [join(directory, 'tree'), '-newer', '/proc/self/exe'], { maxBuffer: 64 * MIB }),
    );
  },
  grep(directory) {
    return milliseconds(() => {
      execFileSync('sh', [
        '-c',
        'grep -r "no such text anywhere" "$1" | wc -l',
        'sh',
        join(directory, 'tree'),
      ]);
    });
  },
  remove(directory) {
    return milliseconds(() => execFileSync('rm', ['-rf', join(directory, 'tree')]));
  },
  append(directory) {
    const line = noise(100);
    const file = fs.openSync(join(directory, 'log'), 'a');
    const time = milliseconds(() => {
      for (let i = 0; i < 20_000; i++) fs.writeSync(file, line);
    });
    fs.closeSync(file);
    return time;
  },
  write(directory) {
    const content = noise(MIB);
    const file = fs.openSync(join(directory, 'large'), 'w');
    const time = milliseconds(() => {
      for (let i = 0; i < 1024; i++) fs.writeSync(file, content);
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
  /** One of the processes of `fsyncs`: how many it did. */
  syncer(directory, name) {
    const content = noise(4096);
    const file = fs.openSync(join(directory, `sync-${name}`), 'w');
    let count = 0;
    const end = performance.now() + FSYNC_MS;
    for (; performance.now() < end; count++) {
      fs.writeSync(file, content, 0, content.length, 0);
      fs.fsyncSync(file);
    }
    fs.closeSync(file);
    return count;
  },
  async fsyncs(directory, processes) {
    const counts = await Promise.all(
      Array.from({ length: Number(processes) }, (_, i) => {
        const child = spawn(process.execPath, [
          fileURLToPath(import.meta.url),
          'syncer',
          directory,
          String(i),
        ]);
        let output = '';
        child.stdout.on('data', (data) => {
          output += data;
        });
        return new Promise<number>((resolve, reject) => {
          child.on('error', reject);
          child.on('close', (code) =>
            code === 0 ? resolve(Number(output)) : reject(new Error(`a syncer failed: ${code}`)),
          );
        });
      }),
    );
    return counts.reduce((sum, count) => sum + count, 0) / (FSYNC_MS / 1000);
  },
};

const [name, directory, argument] = process.argv.slice(2);
if (name !== undefined && directory !== undefined) {
  const workload = workloads[name];
  if (workload === undefined) throw new Error(`there is no workload ${name}`);
  process.stdout.write(`${await workload(directory, argument ?? '')}\n`);
}
