/**
 * How people and programs name a state: by LSN ("lsn-1234", "1234", PostgreSQL's "0/4D2"), by time (RFC 3339, or
 * the form without colons that suits a path), "latest", or the name of a snapshot. The "@" in front is optional.
 */
import { isTimeForm } from '../encoding/names.ts';
import { LsnfsError } from '../errors.ts';
import { parseRelativeTime } from './relative-time.ts';

export type Target =
  | { kind: 'lsn'; lsn: number }
  | { kind: 'time'; timeMicroseconds: number }
  | { kind: 'latest' }
  | { kind: 'name'; name: string };

/**
 * Parses a target as it is typed after "@" or in an option.
 * @throws LsnfsError INVALID_INPUT when it looks like an LSN or a time but is none.
 */
export function parseTarget(text: string): Target {
  const bare = text.startsWith('@') ? text.slice(1) : text;
  if (bare === '')
    throw new LsnfsError('INVALID_INPUT', 'an empty name does not name a state', { target: text });
  if (bare === 'latest') return { kind: 'latest' };
  if (bare.startsWith('lsn-')) return { kind: 'lsn', lsn: parseLsn(bare.slice(4)) };
  if (isTimeForm(bare)) return { kind: 'time', timeMicroseconds: parseTime(bare) };
  return { kind: 'name', name: bare };
}

/**
 * Parses a target that a person typed for a command. What is an ordinary name in a path may mean more there: where no snapshot
 * has that name, "1234" and "0/4D2" are LSNs, and "10 minutes ago" is a time (see relative-time.ts).
 * @throws LsnfsError INVALID_INPUT
 */
export function parseTypedTarget(
  text: string,
  isSnapshotName: (name: string) => boolean,
  nowMicroseconds: number,
): Target {
  const parsed = parseTarget(text);
  if (parsed.kind !== 'name' || isSnapshotName(parsed.name)) return parsed;
  const { name } = parsed;
  if (/^(\d+|[0-9A-Fa-f]+\/[0-9A-Fa-f]+)$/.test(name)) return { kind: 'lsn', lsn: parseLsn(name) };
  const timeMicroseconds = parseRelativeTime(name, nowMicroseconds);
  return timeMicroseconds === undefined ? parsed : { kind: 'time', timeMicroseconds };
}

/** An LSN in decimal, or as PostgreSQL prints it ("X/Y", both hexadecimal). @throws LsnfsError INVALID_INPUT */
export function parseLsn(text: string): number {
  let value = Number.NaN;
  if (/^\d{1,16}$/.test(text)) value = Number(text);
  const halves = /^([0-9A-Fa-f]{1,6})[/-]([0-9A-Fa-f]{1,8})$/.exec(text);
  if (halves !== null) value = Number.parseInt(halves[1]!, 16) * 2 ** 32 + Number.parseInt(halves[2]!, 16);
  if (!Number.isSafeInteger(value)) {
    throw new LsnfsError(
      'INVALID_INPUT',
      `"${text}" is not an LSN: write a decimal number, or X/Y in hexadecimal`,
      {
        target: text,
      },
    );
  }
  return value;
}

/**
 * A time in microseconds since 1970, with or without "@" in front. Without a zone it is UTC; a date alone is its first
 * moment. With `nowMicroseconds` it may also be relative to that: "10 minutes ago", "yesterday", "-PT5M" (see
 * relative-time.ts).
 * @throws LsnfsError INVALID_INPUT when it is none, or the digits are not a time of the calendar.
 */
export function parseTime(text: string, nowMicroseconds?: number): number {
  const bare = text.startsWith('@') ? text.slice(1) : text;
  const relative = nowMicroseconds === undefined ? undefined : parseRelativeTime(bare, nowMicroseconds);
  if (relative !== undefined) return relative;
  const parts =
    /^(\d{4})-?(\d{2})-?(\d{2})(?:[Tt ](\d{2}):?(\d{2})(?::?(\d{2})(?:[.,](\d{1,9}))?)?)?([Zz]|[+-]\d{2}(?::?\d{2})?)?$/.exec(
      bare,
    );
  const invalid = (): never => {
    const relativeForm = nowMicroseconds === undefined ? '' : ' or "10 minutes ago"';
    throw new LsnfsError(
      'INVALID_INPUT',
      `"${text}" is not a time: write it like 2026-11-22T101500Z${relativeForm}`,
      { target: text },
    );
  };
  if (parts === null) return invalid();
  const [, year, month, day, hour = '00', minute = '00', second = '00', fraction = '', zone = 'Z'] = parts;
  const date = `${year}-${month}-${day}T${hour}:${minute}:${second}`;
  const milliseconds = Date.parse(`${date}Z`);
  if (Number.isNaN(milliseconds) || new Date(milliseconds).toISOString().slice(0, 19) !== date)
    return invalid();
  const offset = /^([+-])(\d{2}):?(\d{2})?$/.exec(zone);
  const offsetMinutes =
    offset === null ? 0 : (offset[1] === '-' ? -1 : 1) * (Number(offset[2]) * 60 + Number(offset[3] ?? '0'));
  return (milliseconds - offsetMinutes * 60_000) * 1000 + Number(fraction.padEnd(6, '0').slice(0, 6));
}

/** RFC 3339 in UTC with as many digits of the second as are not zero, at least three. */
export function formatTime(microseconds: number): string {
  const milliseconds = Math.floor(microseconds / 1000);
  const rest = microseconds - milliseconds * 1000;
  const text = new Date(milliseconds).toISOString();
  return rest === 0 ? text : `${text.slice(0, -1)}${String(rest).padStart(3, '0')}Z`;
}

/** Bytes that the tag of a hold may have. */
const HOLD_TAG_MAX = 64;

/** Bytes that a snapshot's name may have: it is a file name behind "@". */
const SNAPSHOT_NAME_MAX = 254;

/** @throws LsnfsError NAME_RESERVED or INVALID_INPUT when the name cannot be a snapshot's. */
export function checkSnapshotName(name: string): void {
  const bytes = Buffer.byteLength(name, 'utf8');
  const bad = (why: string): never => {
    throw new LsnfsError('INVALID_INPUT', `"${name}" cannot be a snapshot's name: ${why}`, { name });
  };
  if (bytes === 0) bad('it is empty');
  if (bytes > SNAPSHOT_NAME_MAX) bad(`it has ${bytes} bytes, more than ${SNAPSHOT_NAME_MAX}`);
  if (name.includes('/') || name.includes('\0')) bad('a slash or NUL cannot be part of a file name');
  if (name.startsWith('@')) bad('leave the "@" out');
  if (!name.isWellFormed()) bad('it is not well-formed Unicode');
  if (name === '.' || name === '..') bad('it has a meaning in paths');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
  if (/[\u0000-\u001f\u007f]/.test(name)) bad('control characters garble terminals and listings');
  if (name.startsWith('lsn-') || name === 'latest' || name === 'live' || isTimeForm(name)) {
    throw new LsnfsError(
      'NAME_RESERVED',
      `"${name}" is reserved: it would read as an LSN or a time behind "@"`,
      {
        name,
      },
    );
  }
}

/** @throws LsnfsError INVALID_INPUT when the text cannot be the tag of a hold. */
export function checkHoldTag(tag: string): void {
  const bytes = Buffer.byteLength(tag, 'utf8');
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is refused here
  const isText = tag.isWellFormed() && !/[\u0000-\u001f\u007f]/.test(tag);
  if (bytes >= 1 && bytes <= HOLD_TAG_MAX && isText) return;
  const message = `${JSON.stringify(tag)} cannot be a tag: it has 1 to ${HOLD_TAG_MAX} bytes and no control characters`;
  throw new LsnfsError('INVALID_INPUT', message, { tag });
}
