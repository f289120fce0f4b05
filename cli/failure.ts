/**
 * How a command fails: one sentence on stderr that begins with "lsnfs: ", and an exit status. A stack is for
 * developers (LSNFS_DEBUG=1).
 */
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { EXIT } from './exit-codes.ts';

/** The command line is wrong: exit status 2. */
export class UsageError extends Error {
  override readonly name = 'UsageError';
}

/** The sentence for a thrown value. Control characters in it could steer a terminal and are shown as escapes. */
export function sentenceOf(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  const escaped = text
    .replace(/[\p{Cc}\p{Surrogate}]+/gu, (run) =>
      run.includes('\n') ? '\n' : JSON.stringify(run).slice(1, -1),
    )
    .replace(/\s*\n\s*/g, ' ');
  if (error instanceof LsnfsError || error instanceof UsageError || systemErrorCode(error) !== undefined)
    return escaped;
  return `${escaped} (unexpected; LSNFS_DEBUG=1 shows where)`;
}

/** Says what failed, and returns the exit status. */
export function reportFailure(error: unknown): number {
  process.stderr.write(`lsnfs: ${sentenceOf(error)}\n`);
  if (process.env.LSNFS_DEBUG === '1' && error instanceof Error) process.stderr.write(`${error.stack}\n`);
  return error instanceof UsageError ? EXIT.usage : EXIT.failed;
}
