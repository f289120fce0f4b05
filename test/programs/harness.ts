/**
 * Runs real programs on a mount, with the checks that they bring along, and says in a table what came out.
 *
 * A case is one program with one question. It has a store of its own (MountedStore: verified as a whole at the end of the
 * case, and nothing left behind, whatever way this process ends), a seed, and time. What it needs and what is not here
 * is a failure, unless that is allowed.
 */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { systemErrorCode } from '../../src/errors.ts';
import { MountedStore, type MountedStoreOptions, type Owner } from '../helpers/mounted-store.ts';
import { Random } from '../helpers/random.ts';

/** The longest that a case may take; cases have an eye on the single steps themselves. */
const CASE_LIMIT_MS = 20 * 60_000;

export interface ProgramCase {
  /** `--only` takes it, or how it begins. */
  readonly name: string;
  /** What is checked, for the table. */
  readonly checks: string;
  /** Programs by name, or files by path, that must be there. */
  readonly needs: readonly string[];
  run(scene: Scene): Promise<void>;
}

/** What a case works with. */
export class Scene implements Owner {
  readonly random: Random;
  readonly seed: number;
  /** Figures that say how much was done. */
  readonly notes: string[] = [];
  private readonly teardowns: (() => unknown)[] = [];

  constructor(seed: number) {
    this.seed = seed;
    this.random = new Random(seed);
  }

  teardown(work: () => unknown): void {
    this.teardowns.push(work);
  }

  note(text: string): void {
    this.notes.push(text);
  }

  /** A mounted store; `mountOptions` are those of `lsnfs mount`. */
  async store(options: MountedStoreOptions = {}, ...mountOptions: string[]): Promise<MountedStore> {
    const where = await MountedStore.createUnmounted(this, options);
    await where.mount(...mountOptions);
    return where;
  }

  /** Does the teardowns, the last first. Returns what they failed with. */
  async end(): Promise<unknown[]> {
    const errors: unknown[] = [];
    for (const work of this.teardowns.reverse()) {
      await Promise.resolve()
        .then(work)
        .catch((error: unknown) => errors.push(error));
    }
    return errors;
  }
}

export interface Row {
  readonly name: string;
  readonly checks: string;
  readonly result: 'passed' | 'failed' | 'missing';
  readonly seconds: number;
  readonly details: string;
}

/** Runs one case. */
export async function runCase(one: ProgramCase, seed: number): Promise<Row> {
  const { name, checks } = one;
  const missing = one.needs.filter((program) => findProgram(program) === undefined);
  if (missing.length > 0)
    return { name, checks, result: 'missing', seconds: 0, details: `not installed: ${missing.join(', ')}` };
  const start = performance.now();
  const scene = new Scene(seed);
  const problems: unknown[] = [];
  try {
    await within(CASE_LIMIT_MS, name, one.run(scene));
  } catch (error) {
    problems.push(error);
  }
  problems.push(...(await scene.end()));
  const seconds = (performance.now() - start) / 1000;
  if (problems.length === 0)
    return { name, checks, result: 'passed', seconds, details: scene.notes.join('; ') };
  const details = problems.map((error) => (error instanceof Error ? (error.stack ?? error.message) : error));
  return { name, checks, result: 'failed', seconds, details: details.join('\n') };
}

/** The rows below each other, with the columns' names above. */
export function table(rows: readonly Row[]): string {
  const cells = [
    ['program', 'what was checked', 'result', 'seconds'],
    ...rows.map((row) => [row.name, row.checks, row.result, row.seconds.toFixed(1)]),
  ];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) =>
    row
      .map((cell, column) => (column === 3 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!)))
      .join('  '),
  );
  return `${lines.join('\n')}\n`;
}

/** Debian puts the servers of each version of PostgreSQL into a directory of their own. */
const POSTGRESQL = '/usr/lib/postgresql';

/** Where a program is: among those of the newest PostgreSQL, in the path, or where daemons are. Or whether a file is there. */
export function findProgram(name: string): string | undefined {
  if (name.startsWith('/')) return existsSync(name) ? name : undefined;
  const versions = existsSync(POSTGRESQL) ? readdirSync(POSTGRESQL).map(Number) : [];
  const servers = versions.sort((a, b) => b - a).map((version) => `${POSTGRESQL}/${version}/bin`);
  const path = [...(process.env.PATH ?? '').split(':'), '/usr/sbin', '/sbin', '/usr/bin', '/bin'];
  return [...servers, ...path].map((directory) => `${directory}/${name}`).find((file) => existsSync(file));
}

/** What is found only where it is looked for; `needs` has made sure of it. */
export function programPath(name: string): string {
  const path = findProgram(name);
  if (path === undefined) throw new Error(`${name} is not installed`);
  return path;
}

/** Waits so long for something that must come. @throws Error that names what did not come */
export async function within<Result>(
  milliseconds: number,
  what: string,
  promise: Promise<Result>,
): Promise<Result> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<never>((_, reject) => {
    const error = new Error(`${what}: nothing came of it in ${milliseconds / 1000} s`);
    timer = setTimeout(() => reject(error), milliseconds);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** The processes whose working directory is at or below a directory. The mount itself is not touched. */
export function processesIn(directory: string): number[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .map(Number)
    .filter((pid) => {
      try {
        const place = readlinkSync(`/proc/${pid}/cwd`);
        return place === directory || place.startsWith(`${directory}/`);
      } catch (error) {
        // It ended meanwhile, is a zombie, or is not root's to look at, and so none of ours.
        const code = systemErrorCode(error);
        if (code === 'ENOENT' || code === 'ESRCH' || code === 'EACCES') return false;
        throw error;
      }
    });
}

/** @throws AssertionError that names the first lines in which two lists differ */
export function assertSameLines(actual: readonly string[], expected: readonly string[], what: string): void {
  const [here, there] = [new Set(actual), new Set(expected)];
  const extra = actual.filter((line) => !there.has(line)).map((line) => `+ ${line}`);
  const gone = expected.filter((line) => !here.has(line)).map((line) => `- ${line}`);
  const short = (line: string) => (line.length < 400 ? line : `${line.slice(0, 120)} … ${line.slice(-250)}`);
  const differences = [...extra.slice(0, 8), ...gone.slice(0, 8)].map(short);
  assert.equal(
    differences.length,
    0,
    `${what}: ${extra.length + gone.length} lines:\n${differences.join('\n')}`,
  );
  assert.deepEqual(actual, expected, what);
}

/** A word for bash. */
export function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/** Whether loop devices can be had; containers mostly have none. */
export async function hasLoopDevices(): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const child = spawn(programPath('losetup'), ['-f'], { stdio: 'ignore' });
    child.once('error', reject);
    child.once('close', (code) => resolve(code === 0));
  });
}
