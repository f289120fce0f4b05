/**
 * Verifies a whole store: every page of every version, and that what is reachable is what is in use.
 *
 * Reachable is whatever a version, the catalog, or a row of lifetimes names (data that lived between two versions is
 * named by nothing else); free is what the free tree and the catalog root list. Every page below the frontier must
 * be exactly one of the two: a page that is both is about to be overwritten, a page that is neither has leaked.
 */
import type { BTree } from '../btree/btree.ts';
import { checkTree } from '../btree/check.ts';
import { decodeVersionRow } from '../encoding/catalog.ts';
import {
  cellCount,
  childChecksum,
  childLsn,
  childNumber,
  copyKey,
  isLeaf,
  keyLength,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { crc32 } from '../encoding/checksum.ts';
import { decodeExtent, UNWRITTEN } from '../encoding/extent.ts';
import { extentKeyBlock, KIND_EXTENT, TREE, type TreeId } from '../encoding/keys.ts';
import { isTemporary, type PageRef } from '../encoding/page.ts';
import { decodeVersionRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { Store } from './store.ts';

const UNKNOWN = 0;
const REACHABLE = 1;
const FREE = 2;

export interface StoreReport {
  problems: string[];
  versions: number;
  pagesReachable: number;
  pagesFree: number;
}

/** Checks the store as of its newest checkpoint. Call it when no change is waiting for one. */
export function checkStore(store: Store): StoreReport {
  const { catalog, freeSpace, cache } = store.inspect();
  const report: StoreReport = { problems: [], versions: 0, pagesReachable: 0, pagesFree: 0 };
  const { problems } = report;
  const marks = new Uint8Array(freeSpace.frontier);
  marks[0] = REACHABLE;
  const buffer = Buffer.alloc(cache.pageSize);

  const mark = (page: number, count: number, what: number, who: string): void => {
    for (let number = page; number < page + count; number++) {
      if (number >= marks.length) {
        problems.push(`${who}: page ${number} lies beyond the frontier ${marks.length}`);
        return;
      }
      if (marks[number] !== UNKNOWN && (marks[number] !== what || what === FREE)) {
        problems.push(
          `${who}: page ${number} is ${marks[number] === FREE ? 'listed as free' : 'in use'} already`,
        );
      }
      marks[number] = what;
    }
  };

  const guard = (who: string, work: () => void): void => {
    try {
      work();
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      problems.push(`${who}: ${error.message}`);
    }
  };

  /** Marks what hangs below a reference; pages seen before are known with all that they lead to. */
  const walk = (ref: Readonly<PageRef>, tree: TreeId, who: string): void => {
    // Temporary: the list of versions of a store that was never changed exists in memory only.
    if (ref.number === 0 || isTemporary(ref.number) || marks[ref.number] === REACHABLE) return;
    guard(who, () => {
      const { bytes } = cache.get(ref.number, ref.lsn, ref.checksum);
      mark(ref.number, 1, REACHABLE, who);
      if (isLeaf(bytes)) {
        if (tree === TREE.inodes) data(bytes, who);
        return;
      }
      for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
        const child = {
          number: childNumber(bytes, slot),
          lsn: childLsn(bytes, slot),
          checksum: childChecksum(bytes, slot),
        };
        walk(child, tree, who);
      }
    });
  };

  const key = Buffer.alloc(300);
  const data = (leaf: Buffer, who: string): void => {
    for (let slot = 0, count = cellCount(leaf); slot < count; slot++) {
      if (keyLength(leaf, slot) !== 17) continue;
      copyKey(leaf, slot, key, 0);
      if (key[8] !== KIND_EXTENT) continue;
      guard(who, () => {
        const extent = decodeExtent(
          extentKeyBlock(key),
          leaf,
          valueStart(leaf, slot),
          valueLength(leaf, slot),
        );
        if (extent.page === UNWRITTEN) return;
        for (let i = 0; i < extent.count; i++) {
          const page = extent.page + i;
          if (marks[page] === REACHABLE) continue;
          mark(page, 1, REACHABLE, who);
          cache.readData(page, 1, buffer, 0);
          const found = crc32(buffer);
          if (found !== extent.checksums[i]) {
            problems.push(
              `${who}: data page ${page} is corrupt: expected ${extent.checksums[i]}, found ${found}`,
            );
          }
        }
      });
    }
  };

  if (catalog.rootPage !== 0) mark(catalog.rootPage, 1, REACHABLE, 'the catalog root');
  for (const tree of [catalog.versions, catalog.lifetimes, catalog.free]) {
    const who = `catalog tree ${tree.treeId}`;
    walk(tree.root, tree.treeId, who);
    problems.push(...checkOne(tree, who));
  }
  for (const { key: rowKey, value } of catalog.versions.entries()) {
    const row = decodeVersionRow(rowKey, value);
    const who = `version ${row.lsn}`;
    report.versions++;
    guard(who, () => {
      const page = cache.get(row.root.number, row.root.lsn, row.root.checksum);
      const root = decodeVersionRoot(page.bytes, row.root.number);
      mark(row.root.number, 1, REACHABLE, who);
      walk(root.namespace, TREE.namespace, who);
      walk(root.inodes, TREE.inodes, who);
      walk(root.registry, TREE.registry, who);
    });
  }
  for (const row of catalog.lifetimeRows()) {
    if (row.birth > row.death)
      problems.push(`pages ${row.page}+${row.count} die at ${row.death}, born at ${row.birth}`);
    mark(row.page, row.count, REACHABLE, `lifetime ${row.death}`);
  }
  for (const row of catalog.freeRows()) mark(row.page, row.count, FREE, 'the free tree');
  for (const run of freeSpace.spare) mark(run.page, run.count, FREE, 'the spare runs');
  // Taken since the checkpoint and given back: the free tree has not seen them yet.
  for (const run of freeSpace.freeWithin(freeSpace.persistedFrontier, freeSpace.frontier)) {
    mark(run.page, run.count, FREE, 'free space beyond the checkpoint');
  }
  let leaked = 0;
  let firstLeak = 0;
  for (let page = 0; page < marks.length; page++) {
    if (marks[page] === REACHABLE) report.pagesReachable++;
    else if (marks[page] === FREE) report.pagesFree++;
    else if (leaked++ === 0) firstLeak = page;
  }
  if (leaked > 0) problems.push(`${leaked} pages are neither reachable nor free, the first is ${firstLeak}`);
  for (const tree of store.live.trees()) problems.push(...checkOne(tree, `live tree ${tree.treeId}`));
  return report;
}

function checkOne(tree: BTree, who: string): string[] {
  return checkTree(tree.space, tree.root, tree.treeId, () => {}).problems.map(
    (problem) => `${who}: ${problem.message}`,
  );
}
