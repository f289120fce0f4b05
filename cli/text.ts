/**
 * Text from a store on a terminal. Names and messages are whatever somebody put there; what could steer a terminal or
 * reorder a line (control characters, separators of lines, marks of writing direction, halves of surrogate pairs) is
 * shown as escapes. Joiners stay: words of some languages, and emoji, need them.
 */
import { formatTime } from '../src/history/targets.ts';
import { bytesOfText } from '../src/plugin/text.ts';

const STEERING = /[\p{Cc}\p{Zl}\p{Zp}\p{Surrogate}\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/gu;

/** A word for a shell, with quotes where they are needed. */
export function shellWord(text: string): string {
  return /^[A-Za-z0-9_@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** The text with "\\uXXXX" for every character that is not to be seen as itself. */
export function visible(text: string): string {
  return text.replace(STEERING, escapeOf);
}

/** Each of them is one UTF-16 unit. */
function escapeOf(character: string): string {
  return `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`;
}

/** JSON in which no character can steer a terminal: equal to `JSON.stringify` for whoever parses it. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value).replace(STEERING, escapeOf);
}

/**
 * A name (text as in src/plugin/text.ts) with "\0ooo", the octal number of a byte, in place of backslashes, of what could
 * steer a terminal, and of bytes that are not UTF-8; `ascii`: also of blanks, and of everything that is not ASCII.
 */
export function octalName(name: string, ascii: boolean): string {
  const escaped = ascii ? /[^!-[\]-~]/gu : new RegExp(`\\\\|${STEERING.source}`, 'gu');
  return name.replace(escaped, (character) =>
    [...bytesOfText(character)].map((byte) => `\\${byte.toString(8).padStart(4, '0')}`).join(''),
  );
}

/** RFC 3339 with microseconds; a number from a damaged block may be no date. */
export function timeText(microseconds: number): string {
  const isDate = !Number.isNaN(new Date(Math.floor(microseconds / 1000)).getTime());
  return isDate ? formatTime(microseconds) : `${microseconds} µs, which is no date`;
}
