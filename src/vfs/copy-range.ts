/**
 * Copying between files inside the store. Holes stay holes. One call copies a bounded amount: the caller asks
 * again for the rest, and others are served in between.
 */
import type { LiveState } from '../store/state.ts';
import type { Content } from './content.ts';
import type { Inode } from './inode-cache.ts';

/** Data that one call copies, and how much of it at a time. */
const CALL_BYTES = 16 * 1024 * 1024;
const STEP_BYTES = 256 * 1024;

let stepBuffer: Buffer | undefined;

/** Copies `count` bytes that lie within the source, or fewer. Returns how many. Inside a transaction. */
export function copyRange(
  state: LiveState,
  content: Content,
  source: Inode,
  sourceOffset: number,
  target: Inode,
  targetOffset: number,
  count: number,
): number {
  stepBuffer ??= Buffer.allocUnsafe(STEP_BYTES);
  let done = 0;
  let budget = CALL_BYTES;
  while (done < count && budget > 0) {
    const from = sourceOffset + done;
    const to = targetOffset + done;
    const data = source.isInline ? from : dataFrom(state, source, from, sourceOffset + count);
    if (data > from) {
      const hole = data - from;
      if (to + hole > target.size) content.resize(target, to + hole);
      content.punch(target, to, to + hole);
      done += hole;
      continue;
    }
    const step = Math.min(STEP_BYTES, count - done, budget);
    if (source.isInline) source.content!.copy(stepBuffer, 0, from, from + step);
    else state.readData(source.inode, from, stepBuffer, 0, step);
    content.write(target, to, stepBuffer, 0, step);
    done += step;
    budget -= step;
  }
  return done;
}

/** Where the next data begins, at most `end`. */
function dataFrom(state: LiveState, inode: Inode, offset: number, end: number): number {
  const data = state.seekData(inode.inode, offset);
  return data < 0 || data > end ? end : data;
}
