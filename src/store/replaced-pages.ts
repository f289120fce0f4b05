/**
 * Which pages died and which came back to life where one version took the place of another that it did not grow from.
 *
 * Two versions that follow one another by ordinary changes share what did not change, and whoever changed a page noted
 * its death. After a restore the later version is made of old pages. What only the earlier one holds has died; what only the
 * later one holds is either new, and then born after the earlier one, or has come back to life.
 *
 * The structural difference reads the pages that only one side has, and some that both have (where the neighbours of a
 * page differ): a tree page that was read of both sides is shared. A data page belongs to one block of one inode for
 * ever, so that extents are compared an inode at a time.
 */
import { diffTrees } from '../btree/diff.ts';
import { decodeExtent, type Extent, UNWRITTEN } from '../encoding/extent.ts';
import { extentKeyBlock, KIND_EXTENT, keyInode, TREE } from '../encoding/keys.ts';
import type { VersionRoot } from '../encoding/root.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import type { PageCache } from '../storage/page-cache.ts';

/** Differences that are looked at between two yields. */
const STEP_DIFFERENCES = 128;

export interface BornRun {
  page: number;
  count: number;
  birth: number;
}

export interface Replacement {
  /** In order of pages within a tree or an inode. */
  readonly died: BornRun[];
  readonly revived: BornRun[];
}

/** Compares two versions, `after` being the later one. Data pages are not read. */
export function* replacedPages(
  cache: PageCache,
  before: Readonly<VersionRoot>,
  after: Readonly<VersionRoot>,
): Generator<void, Replacement> {
  const result: Replacement = { died: [], revived: [] };
  const space = new DirtyPages(cache, false);
  const note = (only: 'before' | 'after', run: BornRun): void => {
    if (only === 'before') result.died.push(run);
    else if (run.birth <= before.lsn) result.revived.push(run);
  };
  for (const [tree, name] of [
    [TREE.namespace, 'namespace'],
    [TREE.inodes, 'inodes'],
    [TREE.registry, 'registry'],
  ] as const) {
    const pages = { before: new Map<number, number>(), after: new Map<number, number>() };
    let extents = new InodeExtents();
    let count = 0;
    const opened = (side: 'before' | 'after', page: { number: number; lsn: number }): void => {
      const other = side === 'before' ? pages.after : pages.before;
      if (!other.delete(page.number)) pages[side].set(page.number, page.lsn);
    };
    const sides = [before[name], after[name]].map((root) => ({ space, root }));
    for (const { key, before: old, after: now } of diffTrees(sides[0]!, sides[1]!, tree, { opened })) {
      if (++count % STEP_DIFFERENCES === 0) yield;
      if (tree !== TREE.inodes || key[8] !== KIND_EXTENT || key.length !== 17) continue;
      const inode = keyInode(key);
      if (inode !== extents.inode) {
        extents.compare(note);
        extents = new InodeExtents(inode);
      }
      const block = extentKeyBlock(key);
      if (old !== undefined) extents.before.push(decodeExtent(block, old, 0, old.length));
      if (now !== undefined) extents.after.push(decodeExtent(block, now, 0, now.length));
    }
    extents.compare(note);
    for (const [page, birth] of pages.before) note('before', { page, count: 1, birth });
    for (const [page, birth] of pages.after) note('after', { page, count: 1, birth });
    yield;
  }
  return result;
}

/** The extents of one inode that are not the same on both sides, in order of blocks. */
class InodeExtents {
  readonly before: Extent[] = [];
  readonly after: Extent[] = [];
  readonly inode: number;

  constructor(inode = 0) {
    this.inode = inode;
  }

  compare(note: (only: 'before' | 'after', run: BornRun) => void): void {
    for (const run of without(this.before, this.after)) note('before', run);
    for (const run of without(this.after, this.before)) note('after', run);
  }
}

/** The runs of pages in `extents` that none of `others` maps. */
function* without(extents: readonly Extent[], others: readonly Extent[]): Generator<BornRun> {
  const byPage = (list: readonly Extent[]): Extent[] =>
    list.filter(({ page }) => page !== UNWRITTEN).sort((a, b) => a.page - b.page);
  const taken = byPage(others);
  let next = 0;
  for (const { page: start, count, birth } of byPage(extents)) {
    const end = start + count;
    let page = start;
    while (next < taken.length && taken[next]!.page + taken[next]!.count <= page) next++;
    for (let i = next; i < taken.length && taken[i]!.page < end; i++) {
      const other = taken[i]!;
      if (other.page > page) yield { page, count: other.page - page, birth };
      page = Math.max(page, other.page + other.count);
    }
    if (page < end) yield { page, count: end - page, birth };
  }
}
