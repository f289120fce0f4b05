/**
 * Verifies a tree page by page and goes on past whatever is wrong.
 *
 * Every page is read through the page space, which holds it against the checksum and LSN that its parent records.
 * On top of that: structure of the page, its level and tree, keys within the range that the separators above give
 * it (so that order holds across pages), and that no page is met twice: a second parent, or a cycle. A page that is
 * wrong costs the keys of its range; the problem says which, and its siblings are checked all the same.
 */
import {
  cellCount,
  childChecksum,
  childLsn,
  childNumber,
  compareKey,
  copyKey,
  isLeaf,
  pageCapacity,
  pageLevel,
  usedBytes,
  validateTreePage,
} from '../encoding/cells.ts';
import { KEY_MAX, type TreeId } from '../encoding/keys.ts';
import { PAGE_KIND, PAGE_KIND_AT, type PageRef } from '../encoding/page.ts';
import { LsnfsError } from '../errors.ts';
import type { Page, PageSpace } from '../storage/page-space.ts';
import { formatBytes, formatPageNumber } from './dump.ts';

/** Something wrong with a tree. */
export interface TreeProblem {
  page: number;
  /** One sentence for people. */
  message: string;
  /** The keys that cannot be reached through this page: from `from` on and below `to`; open where undefined. */
  from: Buffer | undefined;
  to: Buffer | undefined;
}

/** A page that is reachable and sound. */
export interface CheckedPage {
  number: number;
  lsn: number;
  kind: number;
  level: number;
  bytes: Buffer;
}

export interface TreeCheck {
  problems: TreeProblem[];
  /** Pages that are reachable and sound, and what is in them. */
  branchPages: number;
  leafPages: number;
  entries: number;
  height: number;
  /** Bytes that prefixes, slots and cells of leaves take, of `leafCapacity`. */
  leafBytes: number;
  leafCapacity: number;
}

/** Called for each reachable page, parents first. Returning false passes over everything below the page. */
export type VisitPage = (page: CheckedPage) => boolean | undefined;

/** Checks the tree below a root. Nothing that a page may hold makes it throw; an I/O error is a problem too. */
export function checkTree(
  space: PageSpace,
  root: Readonly<PageRef>,
  treeId: TreeId,
  visit: VisitPage = () => undefined,
): TreeCheck {
  const result: TreeCheck = {
    problems: [],
    branchPages: 0,
    leafPages: 0,
    entries: 0,
    height: 0,
    leafBytes: 0,
    leafCapacity: 0,
  };
  const walk = walkTree(space, root, treeId);
  for (let step = walk.next(); step.done !== true; ) {
    const { value } = step;
    let below: boolean | undefined;
    if ('message' in value) result.problems.push(value);
    else {
      count(result, value);
      below = visit(value);
    }
    step = walk.next(below);
  }
  return result;
}

/**
 * Yields every page of a tree that is sound, parents first and in key order, and a problem for each that is not.
 * `next(false)` passes over what is below the page that was yielded last. It may be left at any point.
 */
export function* walkTree(
  space: PageSpace,
  root: Readonly<PageRef>,
  treeId: TreeId,
): Generator<CheckedPage | TreeProblem, void, boolean | undefined> {
  if (root.number !== 0) yield* walkPage(space, treeId, new Set(), root, undefined, NO_BOUNDS);
}

/** The keys that a page may hold: from `from` on and below `to`; open where undefined. */
export interface KeyBounds {
  readonly from: Buffer | undefined;
  readonly to: Buffer | undefined;
}

export const NO_BOUNDS: KeyBounds = { from: undefined, to: undefined };

function* walkPage(
  space: PageSpace,
  treeId: TreeId,
  met: Set<number>,
  ref: Readonly<PageRef>,
  level: number | undefined,
  bounds: KeyBounds,
): Generator<CheckedPage | TreeProblem, void, boolean | undefined> {
  const again = met.has(ref.number);
  met.add(ref.number);
  const page = again
    ? `page ${formatPageNumber(ref.number)} has more than one parent`
    : inspectPage(space, treeId, ref, level, bounds);
  if (typeof page === 'string') {
    yield { page: ref.number, message: page + describeLoss(bounds), ...bounds };
    return;
  }
  const { bytes } = page;
  const found = pageLevel(bytes);
  const kind = bytes[PAGE_KIND_AT]!;
  const below = yield { number: ref.number, lsn: page.lsn, kind, level: found, bytes };
  if (below === false || isLeaf(bytes)) return;
  for (let slot = 0, children = cellCount(bytes); slot < children; slot++) {
    yield* walkPage(
      space,
      treeId,
      met,
      childRef(bytes, slot),
      found - 1,
      childBounds(bytes, slot, children, bounds),
    );
  }
}

/** What a branch says of the child of a slot. */
export function childRef(b: Uint8Array, slot: number): PageRef {
  return { number: childNumber(b, slot), lsn: childLsn(b, slot), checksum: childChecksum(b, slot) };
}

/** The keys that the child of a slot may hold, in a branch of `children` children that has the given bounds. */
export function childBounds(b: Uint8Array, slot: number, children: number, bounds: KeyBounds): KeyBounds {
  return {
    from: slot === 0 ? bounds.from : keyOf(b, slot),
    to: slot + 1 < children ? keyOf(b, slot + 1) : bounds.to,
  };
}

const keyBuffer = Buffer.alloc(KEY_MAX);

function keyOf(b: Uint8Array, slot: number): Buffer {
  return Buffer.from(keyBuffer.subarray(0, copyKey(b, slot, keyBuffer, 0)));
}

/**
 * The page, or a sentence that says what is wrong with it: unreadable, not what its parent says, of another tree or
 * level (a root may have any), or with keys outside its bounds.
 */
export function inspectPage(
  space: PageSpace,
  treeId: TreeId,
  ref: Readonly<PageRef>,
  level: number | undefined,
  bounds: KeyBounds,
): Page | string {
  let page: Page;
  try {
    page = space.get(ref.number, ref.lsn, ref.checksum);
    // Pages that never were on disk have not been through this.
    validateTreePage(page.bytes, treeId, true);
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    return error.message;
  }
  const found = pageLevel(page.bytes);
  const name = `page ${formatPageNumber(ref.number)}`;
  if (level !== undefined && found !== level)
    return `${name} has level ${found} where level ${level} belongs`;
  return boundsProblem(page.bytes, name, bounds) ?? page;
}

/** A sentence if a page holds keys outside its bounds. */
export function boundsProblem(b: Uint8Array, name: string, { from, to }: KeyBounds): string | undefined {
  const count = cellCount(b);
  const first = isLeaf(b) ? 0 : 1;
  if (first >= count) return undefined;
  if (from !== undefined && compareKey(b, first, from, from.length) < 0) {
    return `${name} has keys below the range that its parent gives it`;
  }
  if (to !== undefined && compareKey(b, count - 1, to, to.length) >= 0) {
    return `${name} has keys above the range that its parent gives it`;
  }
  return undefined;
}

function count(result: TreeCheck, { bytes, level, kind }: CheckedPage): void {
  result.height = Math.max(result.height, level + 1);
  if (kind === PAGE_KIND.leaf) {
    result.leafPages++;
    result.entries += cellCount(bytes);
    result.leafBytes += usedBytes(bytes);
    result.leafCapacity += pageCapacity(bytes.length);
  } else {
    result.branchPages++;
  }
}

/** Which keys are out of reach, to follow on a sentence about their page. */
export function describeLoss({ from, to }: KeyBounds): string {
  if (from === undefined && to === undefined) return '; all keys of the tree are lost';
  const low = from === undefined ? 'the lowest' : formatBytes(from);
  return `; keys from ${low} ${to === undefined ? 'on' : `to below ${formatBytes(to)}`} are lost`;
}
