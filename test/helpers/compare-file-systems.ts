/**
 * Random calls on ext4 and on a mounted store, which must answer alike (conformance/system/compare.py): in the end
 * the store is mounted anew, and must show what its kernel had shown.
 */
import { existsSync, mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { MountedStore, Owner } from './mounted-store.ts';
import { PythonProgram } from './mounting.ts';

const EXT4_MAGIC = 0xef53;

/** Whether temporary files lie on ext4. */
export function hasExt4(): boolean {
  return statfsSync(tmpdir()).type === EXT4_MAGIC;
}

/** The directory of package.json, from wherever the compiled code lies. */
export function projectDirectory(): string {
  let directory = import.meta.dirname;
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

/** The folder of the python programs. */
export const SYSTEM_CASES: string = join(projectDirectory(), 'test/vfs/conformance/system');

export interface Comparison {
  readonly seed: number;
  readonly steps: number;
  /** Prints each call before it is made. */
  readonly trace?: boolean;
}

/** `where` is mounted for all users. Returns what it prints in the end. @throws Error that names the first difference. */
export async function compareFileSystems(
  owner: Owner,
  where: MountedStore,
  { seed, steps, trace = false }: Comparison,
): Promise<string> {
  const native = mkdtempSync(join(tmpdir(), 'lsnfs-compare-'));
  owner.teardown(() => rmSync(native, { recursive: true, force: true }));
  const name = `compare-${seed}`;
  await where.shell(`mkdir ${name}`);
  const mounted = join(where.mountpoint, name);
  const words = [
    '-B',
    join(SYSTEM_CASES, 'compare.py'),
    native,
    mounted,
    '--seed',
    `${seed}`,
    '--steps',
    `${steps}`,
  ];
  const program = new PythonProgram(trace ? [...words, '--trace'] : words, '/');
  owner.teardown(() => program.end());
  const lines: string[] = [];
  for (;;) {
    const line = await program.line();
    if (line === 'remount') break;
    lines.push(line);
    if (trace) process.stdout.write(`${line}\n`);
    // After what it has found it says the seed and the last calls, and ends.
    if (line.startsWith('seed ')) throw new Error(await rest(program, lines));
  }
  await where.unmount();
  await where.mount('--allow-other');
  program.go();
  const last = await program.line();
  if (!last.startsWith(`${steps} calls`)) throw new Error(await rest(program, [last]));
  return last;
}

/** Everything that the program has still to say. */
async function rest(program: PythonProgram, lines: string[]): Promise<string> {
  try {
    for (;;) lines.push(await program.line());
  } catch {
    // It has ended.
    return lines.join('\n');
  }
}
