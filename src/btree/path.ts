/**
 * The way from the root of a tree to one of its leaves: the stack of pages and slots that trees and cursors move
 * on. It is made once and reused, so that a descent allocates nothing.
 *
 * `pages[0]` is the root and `pages[depth]` the leaf; `slots[i]` is the slot of `pages[i + 1]` in `pages[i]`.
 * A path holds Page objects, so what it sees stays in memory whatever the page space forgets, until the trees are told to
 * forget their paths because buffers are reused.
 *
 * Invariant: the level of a page is one less than its parent's, checked on every step down. So a descent ends, even
 * in pages that a hostile hand made and sealed.
 */
import { getU32, getU48, getU64 } from '../encoding/bytes.ts';
import {
  CHILD_CHECKSUM,
  CHILD_LSN,
  CHILD_NUMBER,
  cellCount,
  childAt,
  compareKey,
  pageLevel,
  searchBranch,
} from '../encoding/cells.ts';
import type { TreeId } from '../encoding/keys.ts';
import { PAGE_KIND, PAGE_KIND_AT, PAGE_LEVEL, PAGE_TREE, type PageRef } from '../encoding/page.ts';
import { CorruptPageError } from '../errors.ts';
import { NO_BYTES, type Page, type PageSpace, pageOf } from '../storage/page-space.ts';

/** Stands where there is no page. */
export const NOWHERE: Page = Object.freeze(pageOf(0, 0, 0, NO_BYTES, 0));

/** Loads the root page of a tree. */
export function loadRoot(space: PageSpace, tree: TreeId, root: Readonly<PageRef>): Page {
  return checkRoot(space, tree, space.get(root.number, root.lsn, root.checksum));
}

/** The same for a path. */
export function borrowRoot(space: PageSpace, tree: TreeId, root: Readonly<PageRef>): Page {
  return checkRoot(space, tree, space.borrow(root.number, root.lsn, root.checksum));
}

function checkRoot(space: PageSpace, tree: TreeId, page: Page): Page {
  const b = page.bytes;
  const kind = b[PAGE_LEVEL] === 0 ? PAGE_KIND.leaf : PAGE_KIND.branch;
  if (b[PAGE_TREE] !== tree || b[PAGE_KIND_AT] !== kind) misplaced(space, page.number, tree, -1, b);
  return page;
}

/** Loads the child of a branch page's slot. */
export function loadChild(space: PageSpace, tree: TreeId, parent: Uint8Array, slot: number): Page {
  const page = borrowChild(space, tree, parent, slot);
  page.shared = true;
  return page;
}

/** The same for a path. */
export function borrowChild(space: PageSpace, tree: TreeId, parent: Uint8Array, slot: number): Page {
  const at = childAt(parent, slot);
  const page = space.borrow(
    getU48(parent, at + CHILD_NUMBER),
    getU64(parent, at + CHILD_LSN),
    getU32(parent, at + CHILD_CHECKSUM),
  );
  const b = page.bytes;
  const level = parent[PAGE_LEVEL]! - 1;
  const kind = level === 0 ? PAGE_KIND.leaf : PAGE_KIND.branch;
  if (b[PAGE_LEVEL] !== level || b[PAGE_TREE] !== tree || b[PAGE_KIND_AT] !== kind) {
    misplaced(space, page.number, tree, level, b);
  }
  return page;
}

function misplaced(space: PageSpace, page: number, tree: number, level: number, b: Uint8Array): never {
  const offset = page * space.pageSize;
  const expected = level < 0 ? `a root of tree ${tree}` : `level ${level} of tree ${tree}`;
  const found = `kind ${b[PAGE_KIND_AT]}, level ${b[PAGE_LEVEL]} of tree ${b[PAGE_TREE]}`;
  throw new CorruptPageError(
    `page ${page} at offset ${offset} of the data file is corrupt: place in the tree: expected ${expected}, found ${found}`,
    { page, offset, what: 'place in the tree', expected, found },
  );
}

export class Path {
  readonly pages: Page[] = [];
  readonly slots: number[] = [];
  /** Index of the leaf; -1 while the path leads nowhere. */
  depth = -1;
  private readonly space: PageSpace;
  private readonly tree: TreeId;

  constructor(space: PageSpace, tree: TreeId) {
    this.space = space;
    this.tree = tree;
  }

  get leaf(): Page {
    return this.pages[this.depth]!;
  }

  clear(): void {
    this.depth = -1;
  }

  /** Goes to the leaf that has key[0, length), if any has, starting at the tree's root page. */
  descend(root: Page, key: Uint8Array, length: number): Page {
    this.depth = -1;
    let page = root;
    let depth = 0;
    let level = pageLevel(page.bytes);
    this.pages[0] = page;
    while (level > 0) {
      const slot = searchBranch(page.bytes, key, length);
      this.slots[depth] = slot;
      page = borrowChild(this.space, this.tree, page.bytes, slot);
      level--;
      this.pages[++depth] = page;
    }
    this.depth = depth;
    return page;
  }

  /** Goes to the first or the last leaf. */
  descendToEdge(root: Page, last: boolean): Page {
    this.pages[0] = root;
    return this.finish(0, last);
  }

  /** Goes to the leaf after or before this one. Returns false, and stays, where there is none. */
  step(forward: boolean): boolean {
    let depth = this.depth - 1;
    if (forward) {
      while (depth >= 0 && this.slots[depth]! + 1 >= cellCount(this.pages[depth]!.bytes)) depth--;
    } else {
      while (depth >= 0 && this.slots[depth] === 0) depth--;
    }
    if (depth < 0) return false;
    const slot = this.slots[depth]! + (forward ? 1 : -1);
    this.depth = -1;
    this.slots[depth] = slot;
    this.pages[depth + 1] = borrowChild(this.space, this.tree, this.pages[depth]!.bytes, slot);
    this.finish(depth + 1, !forward);
    return true;
  }

  /** From pages[depth] down along the first or the last children. */
  private finish(depth: number, last: boolean): Page {
    this.depth = -1;
    let page = this.pages[depth]!;
    let at = depth;
    for (let level = pageLevel(page.bytes); level > 0; level--) {
      const slot = last ? cellCount(page.bytes) - 1 : 0;
      this.slots[at] = slot;
      page = borrowChild(this.space, this.tree, page.bytes, slot);
      this.pages[++at] = page;
    }
    this.depth = at;
    return page;
  }

  /** Whether pages[depth] is the one whose range has key[0, length), judged by the separators above it. */
  covers(depth: number, key: Uint8Array, length: number): boolean {
    for (let i = depth - 1; i >= 0; i--) {
      const slot = this.slots[i]!;
      if (slot > 0) {
        if (compareKey(this.pages[i]!.bytes, slot, key, length) > 0) return false;
        break;
      }
    }
    for (let i = depth - 1; i >= 0; i--) {
      const slot = this.slots[i]! + 1;
      const bytes = this.pages[i]!.bytes;
      if (slot < cellCount(bytes)) return compareKey(bytes, slot, key, length) > 0;
    }
    return true;
  }

  /** Whether pages[depth] is the last of its level in the whole tree. */
  isRightmost(depth: number): boolean {
    for (let i = 0; i < depth; i++) if (this.slots[i]! + 1 < cellCount(this.pages[i]!.bytes)) return false;
    return true;
  }
}
