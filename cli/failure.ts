/**
 * How a command fails: one sentence on stderr that begins with "lsnfs: ", and an exit status. A stack is for
 * developers (LSNFS_DEBUG=1).
 */
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { EXIT } from './exit-codes.ts';
import { visible } from './text.ts';

/** The command line is wrong: exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** What was looked at is damaged, and what was found has been printed: exit status 4. */
export class CorruptionFound extends Error {
  override readonly name = 'CorruptionFound';
}

/** Two states differ, and how has been printed: exit status 3, without a word. */
export class DifferencesFound extends Error {
  override readonly name = 'DifferencesFound';
}

/** The sentence for a thrown value. Control characters in it could steer a terminal and are shown as escapes. */
export function sentenceOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const escaped = visible(text.replace(/\s*\n\s*/g, ' '));
  if (error instanceof CorruptionFound) return escaped;
  if (error instanceof LsnfsError || error instanceof UsageError || systemErrorCode(error) !== undefined)
    return escaped;
  return `${escaped} (unexpected; LSNFS_DEBUG=1 shows where)`;
}

/** Says what failed, and returns the exit status. */
export function reportFailure(error: unknown): number {
  if (error instanceof DifferencesFound) return EXIT.differences;
  process.stderr.write(`lsnfs: ${sentenceOf(error)}\n`);
  if (process.env.LSNFS_DEBUG === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  if (error instanceof CorruptionFound) return EXIT.corruption;
  return error instanceof UsageError ? EXIT.usage : EXIT.failed;
}
