/**
 * What a tree sees of its pages.
 *
 * Invariants
 * - A clean page never changes: its bytes are what the data file holds.
 * - A dirty page has a temporary number and lives in memory only. It may be changed in place as long as no
 *   seal holds it (`touch` returns it as it is); once sealed, `touch` returns a copy with a new number.
 * - Every page obtained with `get` stays valid until the next call of any method of this interface that can
 *   evict (`get` on a miss). Who needs two pages at once (a path from root to leaf) holds the Page objects:
 *   a Page object that is still referenced keeps its bytes, whatever the cache forgets.
 */
import type { PageKind } from '../encoding/page.ts';

/** A page in memory. Compare numbers, not objects: a clean page may be read again into another object. */
export interface Page {
  /** Page number; temporary (≥ TEMPORARY_BASE) while the page is dirty and has no place. */
  number: number;
  /** LSN and checksum as its parent must record them; both 0 while the number is temporary. */
  lsn: number;
  checksum: number;
  /** The whole page, `pageSize` bytes. Change it only after `touch` or `create`. `NO_BYTES` once its buffer serves another page. */
  bytes: Buffer;
  /** Seal generation in which the page became dirty; 0 when clean. */
  generation: number;
  /** Used since the clock of the cache last came by. */
  referenced: boolean;
  /** Generation of the last savepoint for which an image of it was kept; 0: none. */
  savedAt: number;
  /** Somebody got it who may keep it for as long as he likes: its buffer is never reused. */
  shared: boolean;
}

/** What a page has whose buffer was given to another: whoever still reads it reads nothing. */
export const NO_BYTES: Buffer = Buffer.alloc(0);

/** A page that nobody has used yet. */
export function pageOf(
  number: number,
  lsn: number,
  checksum: number,
  bytes: Buffer,
  generation: number,
): Page {
  return { number, lsn, checksum, bytes, generation, referenced: false, savedAt: 0, shared: false };
}

export interface PageSpace {
  readonly pageSize: number;
  /**
   * The page with this number, from memory or from disk, verified against `lsn` and `checksum`.
   * @throws CorruptPageError, or LsnfsError IO when the device fails.
   */
  get(number: number, lsn: number, checksum: number): Page;
  /**
   * As `get`, for paths of trees: the page is held no longer than the path is true. (A path ends with every change of its
   * tree and whenever the tree's root is assigned.)
   */
  borrow(number: number, lsn: number, checksum: number): Page;
  /** A new dirty page, initialised with its header. */
  create(kind: PageKind, level: number, tree: number): Page;
  /**
   * The same page, safe to change: itself when it is dirty and not sealed, else a dirty copy with a new
   * temporary number (the old page is superseded: its death is recorded). The caller points the parent to
   * the result.
   */
  touch(page: Page): Page;
  /** The page is no longer part of the tree. */
  discard(page: Page): void;
}
