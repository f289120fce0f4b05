/**
 * The cases of `conformance/system/*.py`: rules of POSIX and Linux, made by real processes of real users. Python runs them
 * all on one file system and says of each what does not hold.
 */
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { NATIVE_LOSSES, type NativeLoss } from '../../fuse/native/capabilities.ts';
import { SYSTEM_CASES } from './compare-file-systems.ts';

export interface SystemCase {
  /** "AREA.CASE". */
  readonly name: string;
  readonly rule: string;
  /** How a mount differs from ext4 in it, by the name in docs/MOUNT.md. */
  readonly difference: string | null;
  readonly only: 'mount' | null;
  /** What a binding may lack. */
  readonly needs: readonly string[];
  /** Whether it fails each time without that; otherwise it is not run. */
  readonly sure: boolean;
}

interface Outcome {
  readonly name: string;
  /** What does not hold, or "". */
  readonly message: string;
}

export interface SystemRun {
  /** Those of the long command as well. */
  readonly long: boolean;
  /** After that the programs are ended. */
  readonly timeoutMs: number;
  /** What the binding of the mount lacks. */
  readonly lacks?: readonly NativeLoss[];
}

/** What of the needs of a case the binding fuse-native lacks. */
export function lossesOf({ needs }: SystemCase): NativeLoss[] {
  return needs.filter((need): need is NativeLoss => Object.hasOwn(NATIVE_LOSSES, need));
}

/** All that the binding fuse-native lacks. */
export const ALL_LOSSES: readonly NativeLoss[] = Object.keys(NATIVE_LOSSES) as NativeLoss[];

/** Runs a program of the cases; each line of its output is one value. Everything that it started ends with it. */
function python<Value>(timeoutMs: number, ...words: string[]): Promise<Value[]> {
  // timeout(1) has a process group of its own, and ends all of it.
  const command = ['-s', 'KILL', String(timeoutMs / 1000), 'python3', join(SYSTEM_CASES, 'run.py'), ...words];
  const child = spawn('timeout', command, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', LC_ALL: 'C.UTF-8' },
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      if (code !== 0) reject(new Error(`run.py ${words.join(' ')} ended with ${code}: ${errors}${output}`));
      else
        resolve(
          output
            .split('\n')
            .filter(Boolean)
            .map((line) => JSON.parse(line) as Value),
        );
    });
  });
}

function optionsOf({ long, lacks = [] }: SystemRun): string[] {
  return [...(long ? ['--long'] : []), ...(lacks.length > 0 ? ['--lacks', lacks.join(',')] : [])];
}

export function listSystemCases(run: SystemRun): Promise<SystemCase[]> {
  return python<SystemCase>(run.timeoutMs, 'list', ...optionsOf(run));
}

/** What does not hold of each case, by name; "" when all does. "native" makes an ext4 in the directory. */
export async function runSystemCases(
  what: 'native' | 'mount',
  directory: string,
  run: SystemRun,
): Promise<Map<string, string>> {
  const outcomes = await python<Outcome>(run.timeoutMs, what, directory, ...optionsOf(run));
  return new Map(outcomes.map(({ name, message }) => [name, message]));
}

/** What is wrong with the outcome of a case on the binding fuse-native, or undefined. `message`: undefined when it was not run. */
export function nativeFault(one: SystemCase, message: string | undefined): string | undefined {
  const losses = lossesOf(one);
  if (losses.length === 0) return message === '' || one.difference !== null ? undefined : `${message}`;
  if (!one.sure) return undefined;
  return message === '' ? `holds, although the binding is said to lack ${losses.join(', ')}` : undefined;
}
