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
  const checker = new Checker(space, treeId, visit);
  if (root.number !== 0) checker.checkPage(root, undefined, undefined, undefined);
  return checker.result;
}

class Checker {
  readonly result: TreeCheck = {
    problems: [],
    branchPages: 0,
    leafPages: 0,
    entries: 0,
    height: 0,
    leafBytes: 0,
    leafCapacity: 0,
  };
  private readonly space: PageSpace;
  private readonly treeId: TreeId;
  private readonly visit: VisitPage;
  private readonly met = new Set<number>();
  private readonly key = Buffer.alloc(KEY_MAX);

  constructor(space: PageSpace, treeId: TreeId, visit: VisitPage) {
    this.space = space;
    this.treeId = treeId;
    this.visit = visit;
  }

  /** Checks the page with keys in [from, to), and all below it. The root may have any level. */
  checkPage(
    ref: Readonly<PageRef>,
    level: number | undefined,
    from: Buffer | undefined,
    to: Buffer | undefined,
  ): void {
    const page = this.inspect(ref, level, from, to);
    if (typeof page === 'string') {
      this.result.problems.push({ page: ref.number, message: page + describeLoss(from, to), from, to });
      return;
    }
    const b = page.bytes;
    const count = cellCount(b);
    const found = pageLevel(b);
    this.count(b, count, found);
    const checked = { number: ref.number, lsn: page.lsn, kind: b[PAGE_KIND_AT]!, level: found, bytes: b };
    if (this.visit(checked) === false || isLeaf(b)) return;

    let low = from;
    for (let slot = 0; slot < count; slot++) {
      const high = slot + 1 < count ? this.keyOf(b, slot + 1) : to;
      const child = {
        number: childNumber(b, slot),
        lsn: childLsn(b, slot),
        checksum: childChecksum(b, slot),
      };
      this.checkPage(child, found - 1, low, high);
      low = high;
    }
  }

  /** The page, or what is wrong with it. */
  private inspect(
    ref: Readonly<PageRef>,
    level: number | undefined,
    from: Buffer | undefined,
    to: Buffer | undefined,
  ): Page | string {
    const name = `page ${formatPageNumber(ref.number)}`;
    if (this.met.has(ref.number)) return `${name} has more than one parent`;
    this.met.add(ref.number);
    let page: Page;
    try {
      page = this.space.get(ref.number, ref.lsn, ref.checksum);
      // Pages that never were on disk have not been through this.
      validateTreePage(page.bytes, this.treeId, true);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      return error.message;
    }
    const b = page.bytes;
    const found = pageLevel(b);
    if (level !== undefined && found !== level)
      return `${name} has level ${found} where level ${level} belongs`;
    const count = cellCount(b);
    const first = isLeaf(b) ? 0 : 1;
    if (first < count) {
      if (from !== undefined && compareKey(b, first, from, from.length) < 0) {
        return `${name} has keys below the range that its parent gives it`;
      }
      if (to !== undefined && compareKey(b, count - 1, to, to.length) >= 0) {
        return `${name} has keys above the range that its parent gives it`;
      }
    }
    return page;
  }

  private count(b: Uint8Array, count: number, level: number): void {
    const { result } = this;
    result.height = Math.max(result.height, level + 1);
    if (b[PAGE_KIND_AT] === PAGE_KIND.leaf) {
      result.leafPages++;
      result.entries += count;
      result.leafBytes += usedBytes(b);
      result.leafCapacity += pageCapacity(b.length);
    } else {
      result.branchPages++;
    }
  }

  private keyOf(b: Uint8Array, slot: number): Buffer {
    return Buffer.from(this.key.subarray(0, copyKey(b, slot, this.key, 0)));
  }
}

function describeLoss(from: Buffer | undefined, to: Buffer | undefined): string {
  if (from === undefined && to === undefined) return '; all keys of the tree are lost';
  const low = from === undefined ? 'the lowest' : formatBytes(from);
  return `; keys from ${low} ${to === undefined ? 'on' : `to below ${formatBytes(to)}`} are lost`;
}
