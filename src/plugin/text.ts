/**
 * Names and paths as text, without loss.
 *
 * A name is any bytes but "/" and NUL; text in JSON and in arguments is Unicode. Valid UTF-8 is itself. Every
 * byte that is not part of valid UTF-8 becomes one lone low surrogate, U+DC80..U+DCFF: the convention of
 * Python's `os.fsdecode`, so that a name out of `--json` can be used as it is there. `bytesOfText` undoes it.
 */
import { isUtf8 } from 'node:buffer';
import { LsnfsError } from '../errors.ts';

const ESCAPE_BASE = 0xdc00;

/** The length of the valid UTF-8 sequence at `at`, or 0. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const first = bytes[at]!;
  if (first < 0x80) return 1;
  const length =
    first >= 0xc2 && first < 0xe0
      ? 2
      : first >= 0xe0 && first < 0xf0
        ? 3
        : first >= 0xf0 && first < 0xf5
          ? 4
          : 0;
  if (length === 0 || at + length > bytes.length) return 0;
  return isUtf8(bytes.subarray(at, at + length)) ? length : 0;
}

/** Text of a name or a path, lossless. */
export function textOfBytes(bytes: Uint8Array): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (isUtf8(buffer)) return buffer.toString('utf8');
  let text = '';
  let start = 0;
  let at = 0;
  while (at < buffer.length) {
    const length = sequenceLength(buffer, at);
    if (length > 0) {
      at += length;
      continue;
    }
    text += buffer.toString('utf8', start, at) + String.fromCharCode(ESCAPE_BASE + buffer[at]!);
    at += 1;
    start = at;
  }
  return text + buffer.toString('utf8', start, at);
}

/** The bytes of such a text. @throws LsnfsError INVALID_INPUT for a surrogate that stands for no byte. */
export function bytesOfText(text: string): Buffer {
  if (!/\p{Surrogate}/u.test(text)) return Buffer.from(text, 'utf8');
  const parts: Buffer[] = [];
  for (const character of text) {
    const code = character.charCodeAt(0);
    if (character.length === 2 || code < 0xd800 || code > 0xdfff) {
      parts.push(Buffer.from(character, 'utf8'));
    } else if (code >= ESCAPE_BASE + 0x80 && code <= ESCAPE_BASE + 0xff) {
      parts.push(Buffer.of(code - ESCAPE_BASE));
    } else {
      throw new LsnfsError(
        'INVALID_INPUT',
        'a name holds half of a surrogate pair, which stands for no bytes',
      );
    }
  }
  return Buffer.concat(parts);
}
