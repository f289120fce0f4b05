/**
 * Text from a store on a terminal. Names and messages are whatever somebody put there; what could steer a terminal or
 * reorder a line (control and format characters, line separators, halves of surrogate pairs) is shown as escapes.
 */
import { formatTime } from '../src/history/targets.ts';

/** The text with "\\u{…}" for every character that is not to be seen as itself. */
export function visible(text: string): string {
  return text.replace(
    /[\p{Cc}\p{Cf}\p{Zl}\p{Zp}\p{Surrogate}]/gu,
    (character) => `\\u${character.codePointAt(0)!.toString(16).padStart(4, '0')}`,
  );
}

/** JSON in which no character can steer a terminal: equal to `JSON.stringify` for whoever parses it. */
export function visibleJson(value: unknown): string {
  return JSON.stringify(value).replace(/[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu, (character) =>
    character
      .split('')
      .map((unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)
      .join(''),
  );
}

/** RFC 3339 with microseconds; a number from a damaged block may be no date. */
export function timeText(microseconds: number): string {
  const isDate = !Number.isNaN(new Date(Math.floor(microseconds / 1000)).getTime());
  return isDate ? formatTime(microseconds) : `${microseconds} µs, which is no date`;
}
