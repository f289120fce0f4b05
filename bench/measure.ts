/** What the benchmarks share: running programs under a timeout, and figures. */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** No program of a benchmark takes longer, in milliseconds; what does is ended, and is an error. */
const PROGRAM_TIMEOUT_MS = 1_800_000;
const OUTPUT_MAX = 64 * 1024 * 1024;

export interface RunOptions {
  /** Whether what it prints is thrown away, as it is written. Default: no, it is returned. */
  readonly quiet?: boolean;
  readonly environment?: Readonly<Record<string, string>>;
  readonly directory?: string;
  /** Exit statuses that are no failure. Default: 0. */
  readonly statuses?: readonly number[];
}

/** Runs a program and returns what it printed. @throws Error when it fails, takes too long or is not there. */
export function run(command: string, args: readonly string[], options: RunOptions = {}): string {
  const { error, status, signal, stdout, stderr } = spawnSync(command, args, {
    encoding: 'utf8',
    timeout: PROGRAM_TIMEOUT_MS,
    killSignal: 'SIGKILL',
    maxBuffer: OUTPUT_MAX,
    cwd: options.directory,
    stdio: ['ignore', options.quiet === true ? 'ignore' : 'pipe', 'pipe'],
    env: { ...process.env, ...options.environment },
  });
  if (error !== undefined) throw error;
  if (status === null || !(options.statuses ?? [0]).includes(status)) {
    const lines = stderr.trim().split('\n');
    const why = lines.find((line) => /^\w*error\b/i.test(line)) ?? lines.at(-1) ?? '';
    throw new Error(`${command} ${args[0] ?? ''} ended with ${signal ?? `status ${status}`}: ${why}`);
  }
  return stdout ?? '';
}

/** Runs the command of this build. */
export function lsnfs(...args: string[]): string {
  return run(process.execPath, [fileURLToPath(new URL('../bundle/lsnfs.js', import.meta.url)), ...args]);
}

/** What an option says. @throws Error when it is no whole number from 1 on */
export function wholeNumber(option: string, text: string): number {
  const value = Number(text);
  if (!Number.isSafeInteger(value) || value < 1)
    throw new Error(`${option}: ${text} is no whole number from 1 on`);
  return value;
}

/** Says on standard error what is under way, with the seconds since this was called. */
export function progress(): (text: string) => void {
  const started = performance.now();
  return (text) => {
    const seconds = ((performance.now() - started) / 1000).toFixed(0);
    process.stderr.write(`${seconds.padStart(6)} s  ${text}\n`);
  };
}

/** Why caches cannot be dropped, or undefined. */
export function whyNotDropCaches(): string | undefined {
  return process.getuid?.() === 0 ? undefined : 'dropping caches needs root';
}

/** Forgets what the kernel has in its caches. @throws Error for who is not root */
export function dropCaches(): void {
  fs.writeFileSync('/proc/sys/vm/drop_caches', '3');
}

/** What a directory takes on disk, in bytes; a file with several links once. */
export function diskBytes(directory: string): number {
  const seen = new Set<number>();
  let bytes = 0;
  for (const name of fs.readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    const { ino, blocks } = fs.lstatSync(join(directory, name));
    if (!seen.has(ino)) bytes += blocks * 512;
    seen.add(ino);
  }
  return bytes;
}

/** Whether a program is installed. */
export function isInstalled(command: string, versionOption = '--version'): boolean {
  const { error } = spawnSync(command, [versionOption], { stdio: 'ignore', timeout: 10_000 });
  return error === undefined;
}

export function median(values: readonly number[]): number {
  return quantile(values, 0.5);
}

/** The value below which a part of the values lies, from 0 to 1; between two values it is interpolated. */
export function quantile(values: readonly number[], part: number): number {
  if (values.length === 0) throw new Error('no values have no quantile');
  const sorted = [...values].sort((a, b) => a - b);
  const place = (sorted.length - 1) * part;
  const below = Math.floor(place);
  const [low, high] = [sorted[below]!, sorted[Math.ceil(place)]!];
  return low + (high - low) * (place - below);
}

/** Steps that undo what was set up, the last first; each is tried, whatever the others do. */
export class CleanUp {
  private readonly steps: (() => void)[] = [];

  add(step: () => void): void {
    this.steps.push(step);
  }

  /** What the last step would undo has been undone. */
  forgetLast(): void {
    this.steps.pop();
  }

  /** Does them, and ends the process, when a signal asks for its end: at once, or when a child that is waited for has ended. */
  runAtSignals(): void {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
      process.on(signal, () => {
        process.stderr.write(`ended by ${signal}\n`);
        this.run();
        process.exit(1);
      });
    }
  }

  /** Does them all, once. */
  run(): void {
    for (let step = this.steps.pop(); step !== undefined; step = this.steps.pop()) {
      try {
        step();
      } catch (error) {
        process.stderr.write(`clean-up: ${(error as Error).message}\n`);
        process.exitCode = 1;
      }
    }
  }
}

/** Bytes that do not compress, the same from the same seed (xorshift32). The length is a multiple of 4. */
export function noise(length: number, seed: number): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let x = seed >>> 0 || 1;
  for (let i = 0; i < length; i += 4) {
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    bytes.writeInt32LE(x | 0, i);
  }
  return bytes;
}

/** What a process had in memory at most, in MiB. */
export function residentMaximum(pid: number | 'self'): number {
  const status = fs.readFileSync(`/proc/${pid}/status`, 'utf8');
  return Number(/VmHWM:\s+(\d+)/.exec(status)?.[1] ?? 0) / 1024;
}

/** Writes out what a file system still holds back, so that nobody is measured writing what another left. */
export function settle(directory: string): void {
  run('sync', ['-f', directory]);
}
