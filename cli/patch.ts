/**
 * What changed in a text file, as a unified diff: for people, `patch` and `git apply`.
 *
 * Content is compared as bytes, one a character, so that a patch holds the bytes of the files whatever their encoding is.
 */
import type { DiffEntry } from '../src/plugin/difference.ts';
import { readPages, type Session } from './target.ts';
import { octalName } from './text.ts';

const CONTEXT_LINES = 3;
/** Larger files are not read. */
const PATCH_BYTES_MAX = 16 * 2 ** 20;
/** Finding the shortest patch of two long texts that have little in common would take for ever. */
const PATCH_MS_MAX = 10_000;

/** The unified diff of an entry; empty when its content did not change or is no file's. `states`: LSNs. */
export async function patchOf(
  session: Session,
  states: { readonly from: number; readonly to: number },
  entry: DiffEntry,
): Promise<Buffer> {
  const { kind, type, path, sizeBefore, sizeAfter } = entry;
  const isInBoth = kind === 'M' || kind === 'R';
  if (type !== 'file' || (isInBoth && !entry.changes.includes('content'))) return Buffer.alloc(0);
  const from = entry.from ?? path;
  const oldName = sizeBefore === null ? '/dev/null' : `a${octalName(from, false)}`;
  const newName = sizeAfter === null ? '/dev/null' : `b${octalName(path, false)}`;
  const say = (what: string): Buffer => Buffer.from(`${what}\n`);
  if (Math.max(sizeBefore ?? 0, sizeAfter ?? 0) > PATCH_BYTES_MAX)
    return say(`Files ${oldName} and ${newName} differ; they are too large for a patch`);
  const old = sizeBefore === null ? '' : await contentOf(session, `@lsn-${states.from}${from}`);
  const now = sizeAfter === null ? '' : await contentOf(session, `@lsn-${states.to}${path}`);
  if (old.includes('\0') || now.includes('\0')) return say(`Binary files ${oldName} and ${newName} differ`);
  // Loaded when it is needed: no other command does.
  const { structuredPatch } = await import('diff');
  const patch = structuredPatch('', '', old, now, undefined, undefined, {
    context: CONTEXT_LINES,
    timeout: PATCH_MS_MAX,
  });
  if (patch === undefined) return say(`Files ${oldName} and ${newName} differ in too much for a patch`);
  if (patch.hunks.length === 0) return Buffer.alloc(0);
  const lines = patch.hunks.flatMap(({ oldStart, oldLines, newStart, newLines, lines: content }) => [
    `@@ -${rangeOf(oldStart, oldLines)} +${rangeOf(newStart, newLines)} @@`,
    ...content,
  ]);
  return Buffer.concat([
    Buffer.from(`--- ${oldName}\n+++ ${newName}\n`),
    Buffer.from(`${lines.join('\n')}\n`, 'latin1'),
  ]);
}

/** Lines of a hunk, as POSIX has them: a hunk without lines stands after the line that it names. */
function rangeOf(start: number, count: number): string {
  return `${count === 0 ? start - 1 : start}${count === 1 ? '' : `,${count}`}`;
}

async function contentOf(session: Session, path: string): Promise<string> {
  const pieces: string[] = [];
  for await (const data of readPages(session, path)) pieces.push(data);
  return Buffer.concat(pieces.map((piece) => Buffer.from(piece, 'base64'))).toString('latin1');
}
