/**
 * The two kinds of root page.
 *
 * A version root names everything that belongs to one state: its trees and its counters. It is immutable and stays
 * readable as long as the version is kept. The catalog root names the bookkeeping that spans versions: the list of
 * versions, the lifetimes of pages, free space. There is one valid catalog, that of the newest checkpoint, named by
 * the control block.
 */
import { assert, CorruptPageError } from '../errors.ts';
import { getU32, getU48, getU64, putU32, putU48, putU64 } from './bytes.ts';
import { MAX_INODE } from './keys.ts';
import {
  initializePage,
  PAGE_HEADER_SIZE,
  PAGE_KIND,
  PAGE_LSN,
  type PageRef,
  pageKind,
  TEMPORARY_BASE,
} from './page.ts';

/** A tree as its root page names it. */
export interface TreeRef extends PageRef {
  /** Pages of the tree, for statistics. */
  pageCount: number;
}

const TREE_REF_SIZE = 6 + 8 + 4 + 6;

export interface VersionRoot {
  /** The state's LSN: the page's own LSN. */
  lsn: number;
  timeMicroseconds: number;
  namespace: TreeRef;
  inodes: TreeRef;
  registry: TreeRef;
  nextInode: number;
  inodeCount: number;
  dataPages: number;
}

export interface CatalogRoot {
  /** LSN of the checkpoint: the page's own LSN. */
  lsn: number;
  timeMicroseconds: number;
  version: PageRef;
  versions: TreeRef;
  lifetimes: TreeRef;
  free: TreeRef;
  lives: TreeRef;
  /** Pages of the data file below this number are in use or listed as free; above it all is free. */
  frontier: number;
  /** The oldest LSN from which every state can be opened, and its time. */
  horizonLsn: number;
  horizonTimeMicroseconds: number;
  /** Pages that died up to it are no longer held by the log, whatever it maps. */
  reclaimedLsn: number;
  /** Free runs that the free tree does not list yet. */
  spare: readonly { page: number; count: number }[];
}

// Version root, after the header.
const V_TIME = PAGE_HEADER_SIZE;
const V_NAMESPACE = V_TIME + 8;
const V_INODES = V_NAMESPACE + TREE_REF_SIZE;
const V_REGISTRY = V_INODES + TREE_REF_SIZE;
const V_NEXT_INODE = V_REGISTRY + TREE_REF_SIZE;
const V_INODE_COUNT = V_NEXT_INODE + 8;
const V_DATA_PAGES = V_INODE_COUNT + 8;

// Catalog root, after the header.
const C_TIME = PAGE_HEADER_SIZE;
const C_VERSION = C_TIME + 8;
const C_VERSIONS = C_VERSION + TREE_REF_SIZE;
const C_LIFETIMES = C_VERSIONS + TREE_REF_SIZE;
const C_FREE = C_LIFETIMES + TREE_REF_SIZE;
const C_LIVES = C_FREE + TREE_REF_SIZE;
const C_FRONTIER = C_LIVES + TREE_REF_SIZE;
const C_HORIZON_LSN = C_FRONTIER + 8;
const C_HORIZON_TIME = C_HORIZON_LSN + 8;
const C_RECLAIMED_LSN = C_HORIZON_TIME + 8;
const C_SPARE_COUNT = C_RECLAIMED_LSN + 8;
const C_SPARE = C_SPARE_COUNT + 8;
const SPARE_SIZE = 6 + 6;

function putTree(bytes: Uint8Array, at: number, tree: Readonly<PageRef>, pageCount: number): void {
  putU48(bytes, at, tree.number);
  putU64(bytes, at + 6, tree.lsn);
  putU32(bytes, at + 14, tree.checksum);
  putU48(bytes, at + 18, pageCount);
}

function getTree(bytes: Uint8Array, at: number, page: number): TreeRef {
  return {
    number: pageNumber(getU48(bytes, at), bytes, page),
    lsn: getExact(bytes, at + 6, page),
    checksum: getU32(bytes, at + 14),
    pageCount: getU48(bytes, at + 18),
  };
}

/** A number that must be exact in a double. `page` is the root's own, for the error. */
function getExact(bytes: Uint8Array, at: number, page: number): number {
  const value = getU64(bytes, at);
  if (!Number.isSafeInteger(value)) impossible(bytes, page, `a number at ${at} exceeds 2^53`);
  return value;
}

/** Numbers from TEMPORARY_BASE on have no place in a file. */
function pageNumber(value: number, bytes: Uint8Array, page: number): number {
  if (value >= TEMPORARY_BASE) impossible(bytes, page, `it names page ${value}`);
  return value;
}

function inodeNumber(value: number, bytes: Uint8Array, page: number): number {
  if (value > MAX_INODE) impossible(bytes, page, `the next inode is ${value}`);
  return value;
}

function impossible(bytes: Uint8Array, page: number, why: string): never {
  const offset = page * bytes.length;
  throw new CorruptPageError(
    `page ${page} at offset ${offset} of the data file is corrupt: it is a root, and ${why}`,
    { page, offset, what: 'root' },
  );
}

export function encodeVersionRoot(bytes: Uint8Array, root: Readonly<VersionRoot>): void {
  initializePage(bytes, PAGE_KIND.versionRoot, 0, 0);
  putU64(bytes, V_TIME, root.timeMicroseconds);
  putTree(bytes, V_NAMESPACE, root.namespace, root.namespace.pageCount);
  putTree(bytes, V_INODES, root.inodes, root.inodes.pageCount);
  putTree(bytes, V_REGISTRY, root.registry, root.registry.pageCount);
  putU64(bytes, V_NEXT_INODE, root.nextInode);
  putU64(bytes, V_INODE_COUNT, root.inodeCount);
  putU64(bytes, V_DATA_PAGES, root.dataPages);
}

/** @throws CorruptPageError when the page, though whole, is not a version root. */
export function decodeVersionRoot(bytes: Uint8Array, number: number): VersionRoot {
  expectKind(bytes, number, PAGE_KIND.versionRoot, 'a version root');
  return {
    lsn: getExact(bytes, PAGE_LSN, number),
    timeMicroseconds: getExact(bytes, V_TIME, number),
    namespace: getTree(bytes, V_NAMESPACE, number),
    inodes: getTree(bytes, V_INODES, number),
    registry: getTree(bytes, V_REGISTRY, number),
    nextInode: inodeNumber(getExact(bytes, V_NEXT_INODE, number), bytes, number),
    inodeCount: getExact(bytes, V_INODE_COUNT, number),
    dataPages: getExact(bytes, V_DATA_PAGES, number),
  };
}

export function encodeCatalogRoot(bytes: Uint8Array, root: Readonly<CatalogRoot>): void {
  initializePage(bytes, PAGE_KIND.catalogRoot, 0, 0);
  putU64(bytes, C_TIME, root.timeMicroseconds);
  putTree(bytes, C_VERSION, root.version, 1);
  putTree(bytes, C_VERSIONS, root.versions, root.versions.pageCount);
  putTree(bytes, C_LIFETIMES, root.lifetimes, root.lifetimes.pageCount);
  putTree(bytes, C_FREE, root.free, root.free.pageCount);
  putTree(bytes, C_LIVES, root.lives, root.lives.pageCount);
  putU64(bytes, C_FRONTIER, root.frontier);
  putU64(bytes, C_HORIZON_LSN, root.horizonLsn);
  putU64(bytes, C_HORIZON_TIME, root.horizonTimeMicroseconds);
  putU64(bytes, C_RECLAIMED_LSN, root.reclaimedLsn);
  const fits = Math.floor((bytes.length - C_SPARE) / SPARE_SIZE);
  assert(root.spare.length <= fits, `${root.spare.length} spare runs in a catalog root, room for ${fits}`);
  putU64(bytes, C_SPARE_COUNT, root.spare.length);
  root.spare.forEach((run, i) => {
    putU48(bytes, C_SPARE + i * SPARE_SIZE, run.page);
    putU48(bytes, C_SPARE + i * SPARE_SIZE + 6, run.count);
  });
}

/** @throws CorruptPageError when the page, though whole, is not a catalog root. */
export function decodeCatalogRoot(bytes: Uint8Array, number: number): CatalogRoot {
  expectKind(bytes, number, PAGE_KIND.catalogRoot, 'a catalog root');
  const spareCount = getU64(bytes, C_SPARE_COUNT);
  const fits = Math.floor((bytes.length - C_SPARE) / SPARE_SIZE);
  if (spareCount > fits) {
    throw new CorruptPageError(`page ${number} names ${spareCount} spare runs, which cannot be`, {
      page: number,
      offset: number * bytes.length,
      expected: fits,
      found: spareCount,
    });
  }
  return {
    lsn: getExact(bytes, PAGE_LSN, number),
    timeMicroseconds: getExact(bytes, C_TIME, number),
    version: getTree(bytes, C_VERSION, number),
    versions: getTree(bytes, C_VERSIONS, number),
    lifetimes: getTree(bytes, C_LIFETIMES, number),
    free: getTree(bytes, C_FREE, number),
    lives: getTree(bytes, C_LIVES, number),
    frontier: pageNumber(getExact(bytes, C_FRONTIER, number), bytes, number),
    horizonLsn: getExact(bytes, C_HORIZON_LSN, number),
    horizonTimeMicroseconds: getExact(bytes, C_HORIZON_TIME, number),
    reclaimedLsn: getExact(bytes, C_RECLAIMED_LSN, number),
    spare: Array.from({ length: spareCount }, (_, i) => ({
      page: getU48(bytes, C_SPARE + i * SPARE_SIZE),
      count: getU48(bytes, C_SPARE + i * SPARE_SIZE + 6),
    })),
  };
}

function expectKind(bytes: Uint8Array, number: number, kind: number, what: string): void {
  if (pageKind(bytes) === kind) return;
  throw new CorruptPageError(
    `page ${number} at offset ${number * bytes.length} of the data file should be ${what} (kind ${kind}), found kind ${pageKind(bytes)}`,
    { page: number, offset: number * bytes.length, expected: kind, found: pageKind(bytes) },
  );
}
