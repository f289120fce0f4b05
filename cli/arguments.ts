/**
 * Parsing of what is typed: durations, page sizes, and arguments as bytes.
 */
import { readFileSync } from 'node:fs';
import { InvalidArgumentError } from 'commander';
import { LsnfsError } from '../src/errors.ts';
import { parseLsn } from '../src/history/targets.ts';
import { textOfBytes } from '../src/plugin/text.ts';

const UNITS: Record<string, number> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** "500ms", "1s", "1.5s", "2m", "1h" in milliseconds. */
export function parseDuration(text: string): number {
  const match = /^(\d+(?:\.\d+)?)(ms|s|m|h)$/.exec(text);
  const milliseconds = match === null ? Number.NaN : Math.round(Number(match[1]) * UNITS[match[2]!]!);
  if (!(milliseconds >= 1 && milliseconds <= 3_600_000)) {
    throw new InvalidArgumentError('A duration from 1ms to 1h is a number and a unit: 500ms, 1s, 2m.');
  }
  return milliseconds;
}

export type PageSize = 4096 | 8192 | 16384;

export function parsePageSize(text: string): PageSize {
  if (text === '4096' || text === '8192' || text === '16384') return Number(text) as PageSize;
  throw new InvalidArgumentError('A page has 4096, 8192 or 16384 bytes.');
}

/**
 * The arguments with every byte kept. Node decodes them as UTF-8 and loses what is not; the kernel still has them.
 * The last ones of the process's command line are ours, whatever options Node itself was given.
 */
export function losslessArguments(given: readonly string[]): string[] {
  if (!given.some((argument) => argument.includes('\ufffd'))) return [...given];
  const line = readFileSync('/proc/self/cmdline');
  const all: string[] = [];
  let start = 0;
  for (let end = line.indexOf(0); end >= 0; end = line.indexOf(0, start)) {
    all.push(textOfBytes(line.subarray(start, end)));
    start = end + 1;
  }
  const ours = all.slice(-given.length);
  // A changed process title would hide them: then Node's decoding must do.
  return ours.length === given.length ? ours : [...given];
}

/** An LSN as it is typed everywhere: "1234", "lsn-1234", "@lsn-1234", or PostgreSQL's "0/4D2". */
export function parseLsnArgument(text: string): number {
  try {
    return parseLsn(text.replace(/^@?lsn-/, ''));
  } catch (error) {
    if (error instanceof LsnfsError) throw new InvalidArgumentError(error.message);
    throw error;
  }
}

/** How many of something: a whole number from 1 on. */
export function parseCount(text: string): number {
  if (/^[1-9]\d{0,14}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('A number from 1 on.');
}

const SIZE_UNITS: Record<string, number> = { K: 2 ** 10, M: 2 ** 20, G: 2 ** 30, T: 2 ** 40 };

/** "500K", "32M", "1.5GiB": bytes a second, from 64 KiB to 1 TiB. */
export function parseRate(text: string): number {
  const match = /^(\d+(?:\.\d+)?)([KMGT])(?:i?B)?(?:\/s)?$/i.exec(text);
  const bytes =
    match === null ? Number.NaN : Math.round(Number(match[1]) * SIZE_UNITS[match[2]!.toUpperCase()]!);
  if (bytes >= 2 ** 16 && bytes <= 2 ** 40) return bytes;
  throw new InvalidArgumentError('A rate from 64K to 1T is a number and a unit, a second: 500K, 32M, 1G.');
}
