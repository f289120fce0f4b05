/**
 * A place in a tree, between calls that may change it.
 *
 * A cursor keeps a copy of the key on which it stands. While the tree does not change, it moves along its own path;
 * when the tree has changed (`changes` moved), the next step starts with a search for the key. So `next` always goes
 * to the least key that is greater than the last one returned, whatever was put or deleted meanwhile.
 *
 * Keys must ascend across leaves too. That is checked at every crossing, so that a walk over pages made by a hostile
 * hand (a leaf with many parents) ends with an error instead of walking for ever.
 */
import {
  cellCount,
  compareKey,
  copyBytes,
  copyKey,
  copySuffix,
  prefixLength,
  searchLeaf,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { KEY_MAX, type TreeId } from '../encoding/keys.ts';
import type { PageRef } from '../encoding/page.ts';
import { assert, CorruptPageError } from '../errors.ts';
import type { Page, PageSpace } from '../storage/page-space.ts';
import { borrowRoot, Path } from './path.ts';

/** What a cursor needs of its tree. */
export interface CursorTree {
  readonly space: PageSpace;
  readonly treeId: TreeId;
  readonly root: Readonly<PageRef>;
  readonly changes: number;
}

export class Cursor {
  /** Whether the cursor stands on an entry. */
  valid = false;
  /** Bytes of the entry's key. */
  keyLength = 0;
  /** Slot of the entry in `page`. */
  slot = 0;

  private readonly tree: CursorTree;
  private readonly path: Path;
  private readonly keyBytes = Buffer.allocUnsafe(KEY_MAX);
  /** `changes` of the tree for which the path is true; -1 if it is not. */
  private seen = -1;

  constructor(tree: CursorTree) {
    this.tree = tree;
    this.path = new Path(tree.space, tree.treeId);
  }

  /** Goes to the first key ≥ `key`. Returns false if there is none. */
  seek(key: Uint8Array): boolean {
    return this.seekForward(key, key.length, false);
  }

  /** Goes to the last key < `key`. Returns false if there is none. */
  seekBefore(key: Uint8Array): boolean {
    return this.seekBackward(key, key.length);
  }

  first(): boolean {
    return this.toEdge(false);
  }

  last(): boolean {
    return this.toEdge(true);
  }

  /** Goes to the next key. At the end it returns false and the cursor stands nowhere. */
  next(): boolean {
    if (!this.valid) return false;
    if (this.seen !== this.tree.changes) return this.seekForward(this.keyBytes, this.keyLength, true);
    if (this.slot + 1 < cellCount(this.path.leaf.bytes)) {
      this.slot++;
      this.readSuffix();
      return true;
    }
    return this.cross(true, this.keyBytes, this.keyLength);
  }

  /** Goes to the first key of the next leaf, in a tree that has not changed. At the end it returns false and the cursor stands nowhere. */
  nextLeaf(): boolean {
    if (!this.valid) return false;
    assert(this.seen === this.tree.changes, 'the tree has changed');
    this.slot = cellCount(this.path.leaf.bytes) - 1;
    this.readSuffix();
    return this.next();
  }

  /** Goes to the key before. At the beginning it returns false and the cursor stands nowhere. */
  previous(): boolean {
    if (!this.valid) return false;
    if (this.seen !== this.tree.changes) return this.seekBackward(this.keyBytes, this.keyLength);
    if (this.slot > 0) {
      this.slot--;
      this.readSuffix();
      return true;
    }
    return this.cross(false, this.keyBytes, this.keyLength);
  }

  /**
   * After changes of the tree: makes `page` and the value's place true again. Returns false, and stays where it is,
   * if the key is gone; `next` and `previous` go on from there all the same.
   */
  refresh(): boolean {
    if (!this.valid) return false;
    if (this.seen === this.tree.changes) return true;
    if (!this.descend(this.keyBytes, this.keyLength)) return false;
    const slot = searchLeaf(this.path.leaf.bytes, this.keyBytes, this.keyLength);
    if (slot < 0) {
      this.seen = -1;
      return false;
    }
    this.slot = slot;
    return true;
  }

  /** A copy of the key. */
  get key(): Buffer {
    return Buffer.from(this.keyBytes.subarray(0, this.keyLength));
  }
  /** Copies the key to `target` at `at` and returns its length. */
  copyKey(target: Uint8Array, at: number): number {
    copyBytes(this.keyBytes, 0, target, at, this.keyLength);
    return this.keyLength;
  }
  /** The key's bytes are the first `keyLength` of these; they change with the next step. */
  get keyView(): Buffer {
    return this.keyBytes;
  }
  startsWith(prefix: Uint8Array): boolean {
    if (this.keyLength < prefix.length) return false;
    for (let i = 0; i < prefix.length; i++) if (this.keyBytes[i] !== prefix[i]) return false;
    return true;
  }
  /** Orders the key against another: negative, zero or positive. */
  compare(other: Uint8Array): number {
    const shared = Math.min(this.keyLength, other.length);
    for (let i = 0; i < shared; i++) {
      const difference = this.keyBytes[i]! - other[i]!;
      if (difference !== 0) return difference;
    }
    return this.keyLength - other.length;
  }

  /** The page with the entry, and where in it the value is: until the tree's next change. */
  get page(): Page {
    return this.path.leaf;
  }
  get valueStart(): number {
    return valueStart(this.path.leaf.bytes, this.slot);
  }
  get valueLength(): number {
    return valueLength(this.path.leaf.bytes, this.slot);
  }
  /** A copy of the value. */
  get value(): Buffer {
    const start = this.valueStart;
    return Buffer.from(this.path.leaf.bytes.subarray(start, start + this.valueLength));
  }

  /** Leads the path to the leaf that has the key, if any has. Returns false if the tree is empty. */
  private descend(key: Uint8Array, length: number): boolean {
    this.seen = -1;
    const { tree } = this;
    if (tree.root.number === 0) return false;
    this.path.descend(borrowRoot(tree.space, tree.treeId, tree.root), key, length);
    this.seen = tree.changes;
    return true;
  }

  private seekForward(key: Uint8Array, length: number, after: boolean): boolean {
    if (!this.descend(key, length)) return this.leave();
    const b = this.path.leaf.bytes;
    const found = searchLeaf(b, key, length);
    const slot = found < 0 ? ~found : after ? found + 1 : found;
    if (slot >= cellCount(b)) return this.cross(true, key, length);
    return this.stand(slot);
  }

  private seekBackward(key: Uint8Array, length: number): boolean {
    if (!this.descend(key, length)) return this.leave();
    const found = searchLeaf(this.path.leaf.bytes, key, length);
    const slot = (found < 0 ? ~found : found) - 1;
    if (slot < 0) return this.cross(false, key, length);
    return this.stand(slot);
  }

  private toEdge(last: boolean): boolean {
    this.seen = -1;
    const { tree } = this;
    if (tree.root.number === 0) return this.leave();
    const leaf = this.path.descendToEdge(borrowRoot(tree.space, tree.treeId, tree.root), last);
    this.seen = tree.changes;
    return this.stand(last ? cellCount(leaf.bytes) - 1 : 0);
  }

  /** Goes to the nearest entry of the neighbouring leaf, which must lie beyond the key. */
  private cross(forward: boolean, key: Uint8Array, length: number): boolean {
    this.seen = -1;
    if (!this.path.step(forward)) return this.leave();
    const { leaf } = this.path;
    const slot = forward ? 0 : cellCount(leaf.bytes) - 1;
    const order = compareKey(leaf.bytes, slot, key, length);
    if (forward ? order <= 0 : order >= 0) this.outOfOrder(leaf);
    this.seen = this.tree.changes;
    return this.stand(slot);
  }

  private outOfOrder(leaf: Page): never {
    throw new CorruptPageError(
      `page ${leaf.number} of tree ${this.tree.treeId} is corrupt: its keys are out of order with its neighbour's`,
      { page: leaf.number, what: 'order of keys', tree: this.tree.treeId },
    );
  }

  private stand(slot: number): boolean {
    this.slot = slot;
    this.keyLength = copyKey(this.path.leaf.bytes, slot, this.keyBytes, 0);
    this.valid = true;
    return true;
  }

  /** Within a leaf the prefix of the saved key stays. */
  private readSuffix(): void {
    const b = this.path.leaf.bytes;
    const prefix = prefixLength(b);
    this.keyLength = prefix + copySuffix(b, this.slot, this.keyBytes, prefix);
  }

  private leave(): boolean {
    this.valid = false;
    this.keyLength = 0;
    return false;
  }
}
