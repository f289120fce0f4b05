/**
 * Times relative to now, as people type them: "10 minutes ago", "5 min ago", "1h30m ago", "an hour ago", "yesterday",
 * "-2 hours", and durations of ISO 8601 with a minus ("-PT5M"). Seconds to weeks have a fixed length; months and years are
 * counted in the calendar (UTC), where a day that a month does not have is its last. "yesterday" is 24 hours ago.
 */
import { LsnfsError } from '../errors.ts';

/** Longer ones are none. */
const LENGTH_MAXIMUM = 100;
const SECOND = 1_000_000;
const DAY = 86_400 * SECOND;

/** Microseconds of each unit of fixed length; months are counted in the calendar. */
const UNITS: readonly { names: readonly string[]; microseconds?: number; months?: number }[] = [
  { names: ['s', 'sec', 'secs', 'second', 'seconds'], microseconds: SECOND },
  { names: ['m', 'min', 'mins', 'minute', 'minutes'], microseconds: 60 * SECOND },
  { names: ['h', 'hr', 'hrs', 'hour', 'hours'], microseconds: 3600 * SECOND },
  { names: ['d', 'day', 'days'], microseconds: DAY },
  { names: ['w', 'week', 'weeks'], microseconds: 7 * DAY },
  { names: ['mo', 'month', 'months'], months: 1 },
  { names: ['y', 'year', 'years'], months: 12 },
];
/** The units of ISO 8601, in the order of its groups. */
const ISO_UNITS = ['y', 'mo', 'w', 'd', 'h', 'm', 's'];
const ISO_FORM =
  /^-p(?=[\dt])(?:(\d+)y)?(?:(\d+)m)?(?:(\d+)w)?(?:(\d+)d)?(?:t(?=\d)(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:[.,]\d+)?)s)?)?$/;
const AMOUNT = /(\d+(?:\.\d+)?|an?\b)\s*([a-z]+)(?:\s*,|\s+and\b)?\s*/y;

/**
 * The time in microseconds since 1970 that the text means at `nowMicroseconds`; undefined when it has not the form of a
 * relative time.
 * @throws LsnfsError INVALID_INPUT when it has, and names no unit, a fraction of a month, or a time before 1970.
 */
export function parseRelativeTime(text: string, nowMicroseconds: number): number | undefined {
  if (text.length > LENGTH_MAXIMUM) return undefined;
  const words = text.trim().toLowerCase().replace(/\s+/g, ' ');
  if (words === 'now') return nowMicroseconds;
  if (words === 'yesterday') return nowMicroseconds - DAY;
  const amounts = isoAmounts(words) ?? typedAmounts(words);
  if (amounts === undefined) return undefined;
  const invalid = (why: string): never => {
    throw new LsnfsError('INVALID_INPUT', `"${text}" is not a time: ${why}`, { target: text });
  };
  let microseconds = 0;
  let months = 0;
  for (const [amount, name] of amounts) {
    const unit = UNITS.find(({ names }) => names.includes(name));
    if (unit === undefined) return invalid(`"${name}" is not a unit (s, min, h, d, w, month or year)`);
    if (unit.microseconds !== undefined) microseconds += amount * unit.microseconds;
    else if (Number.isInteger(amount)) months += amount * unit.months!;
    else return invalid('months and years are whole numbers');
  }
  const time = Math.round(monthsBefore(nowMicroseconds, months) - microseconds);
  return time >= 0 ? time : invalid('it is before 1970');
}

/** Amounts and names of units of "-P1DT5M". */
function isoAmounts(words: string): [number, string][] | undefined {
  const match = ISO_FORM.exec(words);
  if (match === null) return undefined;
  return ISO_UNITS.flatMap((unit, i): [number, string][] => {
    const digits = match[i + 1];
    return digits === undefined ? [] : [[Number(digits.replace(',', '.')), unit]];
  });
}

/** Amounts and names of units of "1 hour 5 minutes ago" and "-5 min". */
function typedAmounts(words: string): [number, string][] | undefined {
  const bare = words.endsWith(' ago') ? words.slice(0, -3) : words.startsWith('-') ? words.slice(1) : '';
  const amounts: [number, string][] = [];
  AMOUNT.lastIndex = 0;
  for (let end = 0; end < bare.length; end = AMOUNT.lastIndex) {
    const match = AMOUNT.exec(bare);
    if (match === null) return undefined;
    amounts.push([match[1]!.startsWith('a') ? 1 : Number(match[1]), match[2]!]);
  }
  return amounts.length === 0 ? undefined : amounts;
}

/** So many months earlier in the calendar; NaN when no date is as early. */
function monthsBefore(microseconds: number, months: number): number {
  if (months === 0) return microseconds;
  const date = new Date(Math.floor(microseconds / 1000));
  const day = date.getUTCDate();
  date.setUTCDate(1);
  date.setUTCMonth(date.getUTCMonth() - months);
  const lastDay = new Date(Date.UTC(date.getUTCFullYear(), date.getUTCMonth() + 1, 0)).getUTCDate();
  date.setUTCDate(Math.min(day, lastDay));
  return date.getTime() * 1000 + (microseconds - Math.floor(microseconds / 1000) * 1000);
}
