/**
 * The result of the last scrub, in `scrub.json` beside the store's other files, so that `lsnfs status` knows of it
 * whoever made it. It only informs: a file that cannot be read counts as none.
 */
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import type { CheckReport } from '../vfs/verify.ts';
import { isJsonObject } from './control-protocol.ts';

export interface ScrubResult {
  /** RFC 3339. */
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly report: CheckReport;
}

const RESULT_NAME = 'scrub.json';
/** A longer result is not read, in bytes; one that would be longer is written without paths. */
const RESULT_LIMIT = 4 * 1024 * 1024;

export function readScrubResult(directory: StorageDirectory): ScrubResult | null {
  if (!directory.exists(RESULT_NAME)) return null;
  try {
    const device = directory.open(RESULT_NAME, { readOnly: true });
    try {
      const text = Buffer.alloc(Math.min(device.size(), RESULT_LIMIT));
      const length = device.read(0, text, 0, text.length);
      const value: unknown = JSON.parse(text.toString('utf8', 0, length));
      return isScrubResult(value) ? value : null;
    } finally {
      device.close();
    }
  } catch (error) {
    // Cut off by a crash, or unreadable: the next scrub writes it anew.
    if (error instanceof SyntaxError || error instanceof LsnfsError) return null;
    throw error;
  }
}

function isScrubResult(value: unknown): value is ScrubResult {
  if (!isJsonObject(value) || !isJsonObject(value.report)) return false;
  const { startedAt, finishedAt, report } = value;
  if (typeof startedAt !== 'string' || typeof finishedAt !== 'string') return false;
  return (
    typeof report.damageCount === 'number' &&
    typeof report.bytesRead === 'number' &&
    typeof report.versions === 'number' &&
    Array.isArray(report.damages) &&
    Array.isArray(report.notes)
  );
}

/** @throws LsnfsError IO, NO_SPACE */
export function writeScrubResult(directory: StorageDirectory, result: ScrubResult): void {
  let text = Buffer.from(`${JSON.stringify(result)}\n`);
  if (text.length > RESULT_LIMIT) {
    const damages = result.report.damages.map((damage) => ({ ...damage, paths: [], morePaths: 0 }));
    text = Buffer.from(`${JSON.stringify({ ...result, report: { ...result.report, damages } })}\n`);
  }
  const temporary = `${RESULT_NAME}.new`;
  const device = directory.open(temporary, { create: true });
  try {
    device.truncate(0);
    device.write(0, text, 0, text.length);
    device.syncNow();
  } finally {
    device.close();
  }
  directory.rename(temporary, RESULT_NAME);
  directory.syncDirectory('');
}
