/** A case of the conformance suite, and how it says what failed: the call, and the rule that it broke. */
import { LsnfsError } from '../../../src/errors.ts';
import type { Answer, DirectoryEntry, Feature, PathName, Posix } from './posix.ts';

export interface ConformanceCase {
  readonly name: string;
  readonly needs: readonly Feature[];
  readonly run: (posix: Posix) => Promise<void>;
}

export class ConformanceFailure extends Error {
  override readonly name = 'ConformanceFailure';
}

/** Collects the cases of one subject. */
export class CaseList {
  readonly cases: ConformanceCase[] = [];
  private readonly subject: string;

  constructor(subject: string) {
    this.subject = subject;
  }

  /** `name` states the rule. */
  add(name: string, run: (posix: Posix) => Promise<void>, ...needs: Feature[]): void {
    this.cases.push({ name: `${this.subject}: ${name}`, needs, run });
  }
}

function show(value: unknown): string {
  if (typeof value === 'bigint') return `${value}n`;
  if (Buffer.isBuffer(value))
    return value.length > 64 ? `${value.length} bytes` : JSON.stringify(value.toString('latin1'));
  return JSON.stringify(value) ?? String(value);
}

/** What is compared must be equal. `what` names the call and what of its answer. */
export function equal<T extends string | number | bigint | boolean | undefined>(
  what: string,
  actual: T,
  expected: T,
): void {
  if (actual !== expected)
    throw new ConformanceFailure(`${what}: expected ${show(expected)}, got ${show(actual)}`);
}

export function same(what: string, actual: Buffer, expected: Buffer | string): void {
  const wanted = typeof expected === 'string' ? Buffer.from(expected) : expected;
  if (actual.equals(wanted)) return;
  let at = 0;
  while (at < Math.min(actual.length, wanted.length) && actual[at] === wanted[at]) at++;
  throw new ConformanceFailure(
    `${what}: expected ${show(wanted)}, got ${show(actual)}; they differ at byte ${at} of ${wanted.length} and ${actual.length}`,
  );
}

export function holds(what: string, condition: boolean, details = ''): void {
  if (!condition) throw new ConformanceFailure(details === '' ? what : `${what}: ${details}`);
}

/** Calls and catches; returns the code of the error, or undefined when there was none. */
export async function codeOf(call: () => Answer<unknown>): Promise<string | undefined> {
  try {
    await call();
    return undefined;
  } catch (error) {
    if (error instanceof LsnfsError) return error.errno;
    if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
    throw error;
  }
}

/** The call must fail with this code. `what` names the call and the rule. */
export async function fails(code: string, what: string, call: () => Answer<unknown>): Promise<void> {
  const found = await codeOf(call);
  if (found !== code) throw new ConformanceFailure(`${what}: expected ${code}, got ${found ?? 'success'}`);
}

/** All entries of a directory, with "." and "..". */
export async function list(posix: Posix, path: PathName, bytes = 32_768): Promise<DirectoryEntry[]> {
  const fd = await posix.opendir(path);
  const all: DirectoryEntry[] = [];
  for (;;) {
    const some = await posix.getdents(fd, bytes);
    if (some.length === 0) break;
    all.push(...some);
  }
  await posix.close(fd);
  return all;
}

/** The names in a directory, without "." and "..", in order. */
export async function names(posix: Posix, path: PathName): Promise<string[]> {
  const entries = await list(posix, path);
  return entries
    .map(({ name }) => name.toString('latin1'))
    .filter((name) => name !== '.' && name !== '..')
    .sort();
}

export async function writeFile(
  posix: Posix,
  path: PathName,
  content: string | Buffer,
  mode = 0o644,
): Promise<void> {
  const fd = await posix.open(path, 0o1101, mode);
  const data = Buffer.from(content);
  if (data.length > 0) equal('pwrite: bytes written', await posix.pwrite(fd, 0, data), data.length);
  await posix.close(fd);
}

export async function readFile(posix: Posix, path: PathName): Promise<Buffer> {
  const fd = await posix.open(path, 0);
  const { size } = await posix.fstat(fd);
  const content = await posix.pread(fd, 0, size + 1);
  await posix.close(fd);
  return content;
}

export async function withFile<T>(
  posix: Posix,
  path: PathName,
  flags: number,
  use: (fd: number) => Promise<T>,
): Promise<T> {
  const fd = await posix.open(path, flags, 0o644);
  const result = await use(fd);
  await posix.close(fd);
  return result;
}

/** Bytes that differ from place to place, so that misplaced data shows. */
export function pattern(length: number, seed = 1): Buffer {
  const bytes = Buffer.allocUnsafe(length);
  let x = seed * 2654435761;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = (x >>> 24) | 1;
  }
  return bytes;
}
