/**
 * A live state in memory: real B+trees over pages in a Map, file data in another Map, no log. A transaction seals
 * the pages, so that rolling back is taking the old roots again; the same makes frozen states for past file
 * systems. `failAfter` makes a change fail in the middle of an operation.
 */
import { BTree } from '../../src/btree/btree.ts';
import { encodeExtent } from '../../src/encoding/extent.ts';
import { extentKey, KIND_INODE, keyInode, TREE, type TreeId } from '../../src/encoding/keys.ts';
import {
  initializePage,
  NO_PAGE,
  type PageKind,
  type PageRef,
  TEMPORARY_BASE,
} from '../../src/encoding/page.ts';
import { LsnfsError } from '../../src/errors.ts';
import { type Page, type PageSpace, pageOf } from '../../src/storage/page-space.ts';
import { deleteEntry, putEntry } from '../../src/store/links.ts';
import type { Counters, LiveState, StateReader } from '../../src/store/state.ts';

/** Pages in memory, copied on the first touch after a seal. */
class SealedPages implements PageSpace {
  readonly pageSize: number;
  private readonly pages = new Map<number, Page>();
  private next = TEMPORARY_BASE;
  private generation = 1;

  constructor(pageSize: number) {
    this.pageSize = pageSize;
  }
  seal(): void {
    this.generation++;
  }
  borrow(number: number): Page {
    return this.get(number);
  }

  get(number: number): Page {
    const page = this.pages.get(number);
    if (page === undefined) throw new Error(`no page ${number}`);
    return page;
  }
  create(kind: PageKind, level: number, tree: number): Page {
    const page = this.add(Buffer.alloc(this.pageSize));
    initializePage(page.bytes, kind, level, tree);
    return page;
  }
  touch(page: Page): Page {
    return page.generation === this.generation ? page : this.add(Buffer.from(page.bytes));
  }
  discard(page: Page): void {
    if (page.generation === this.generation) this.pages.delete(page.number);
  }
  private add(bytes: Buffer): Page {
    const number = this.next++;
    const page = pageOf(number, 0, 0, bytes, this.generation);
    this.pages.set(number, page);
    return page;
  }
}

type FileData = Map<number, Map<number, Buffer>>;

function copyData(data: FileData): FileData {
  return new Map([...data].map(([inode, blocks]) => [inode, new Map(blocks)]));
}

/** Reading, the same for the live state and a frozen one. */
class FakeReader implements StateReader {
  lsn = 0;
  readonly pageSize: number;
  namespace: BTree;
  inodes: BTree;
  counters: Counters;
  data: FileData;

  constructor(pageSize: number, namespace: BTree, inodes: BTree, counters: Counters, data: FileData) {
    this.pageSize = pageSize;
    this.namespace = namespace;
    this.inodes = inodes;
    this.counters = counters;
    this.data = data;
  }
  readData(inode: number, offset: number, target: Uint8Array, targetStart: number, length: number): void {
    const blocks = this.data.get(inode);
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const inBlock = at % this.pageSize;
      const step = Math.min(length - done, this.pageSize - inBlock);
      const block = blocks?.get(Math.floor(at / this.pageSize));
      if (block === undefined) target.fill(0, targetStart + done, targetStart + done + step);
      else target.set(block.subarray(inBlock, inBlock + step), targetStart + done);
      done += step;
    }
  }
  seekData(inode: number, offset: number): number {
    const first = Math.floor(offset / this.pageSize);
    let found = -1;
    for (const block of this.data.get(inode)?.keys() ?? []) {
      if (block >= first && (found < 0 || block < found)) found = block;
    }
    return found < 0 ? -1 : Math.max(offset, found * this.pageSize);
  }
  seekHole(inode: number, offset: number): number {
    const blocks = this.data.get(inode);
    let block = Math.floor(offset / this.pageSize);
    if (!blocks?.has(block)) return offset;
    while (blocks.has(block)) block++;
    return block * this.pageSize;
  }
}

export interface FakeOptions {
  pageSize?: number;
  /** Whether operations can be rolled back; costs a copy of every touched page each. Default: true. */
  rollback?: boolean;
}

export class FakeLiveState extends FakeReader implements LiveState {
  readOnly = false;
  /** Changes until one fails; Infinity: none. */
  failAfter = Number.POSITIVE_INFINITY;
  /** What `begin` throws, if anything. */
  beginError: LsnfsError | undefined;
  transactions = 0;
  private readonly pages: SealedPages;
  private readonly canRollBack: boolean;
  private readonly listeners: (() => void)[] = [];
  private depth = 0;
  private changed = false;
  private saved:
    | { namespace: PageRef; inodes: PageRef; pageCounts: number[]; counters: Counters }
    | undefined;
  /** Data pages as they were before the operation; undefined: not there. */
  private undo: { inode: number; block: number; before: Buffer | undefined }[] = [];

  constructor(options: FakeOptions = {}) {
    const pageSize = options.pageSize ?? 4096;
    const pages = new SealedPages(pageSize);
    const namespace = new BTree(pages, TREE.namespace, NO_PAGE, 0);
    const inodes = new BTree(pages, TREE.inodes, NO_PAGE, 0);
    super(pageSize, namespace, inodes, { nextInode: 2, inodes: 0, dataPages: 0 }, new Map());
    this.pages = pages;
    this.canRollBack = options.rollback ?? true;
  }

  /** The state as it is now, for ever. */
  freeze(): StateReader {
    this.pages.seal();
    const copy = (tree: BTree) => new BTree(this.pages, tree.treeId, tree.root, tree.pageCount);
    const frozen = new FakeReader(
      this.pageSize,
      copy(this.namespace),
      copy(this.inodes),
      { ...this.counters },
      copyData(this.data),
    );
    frozen.lsn = this.lsn;
    return frozen;
  }

  begin(): void {
    if (this.beginError !== undefined) throw this.beginError;
    if (this.readOnly) throw new LsnfsError('READ_ONLY', 'the state is read-only');
    if (this.depth++ > 0) return;
    this.changed = false;
    if (!this.canRollBack) return;
    this.pages.seal();
    this.undo = [];
    this.saved = {
      namespace: this.namespace.root,
      inodes: this.inodes.root,
      pageCounts: [this.namespace.pageCount, this.inodes.pageCount],
      counters: { ...this.counters },
    };
  }
  commit(): number {
    if (--this.depth === 0) {
      this.lsn++;
      this.transactions++;
    }
    return this.lsn;
  }
  rollback(): void {
    if (this.depth === 0) throw new Error('rollback without begin');
    this.depth = 0;
    if (!this.changed) return;
    if (!this.canRollBack || this.saved === undefined) throw new Error('this fake cannot roll back');
    this.namespace.root = this.saved.namespace;
    this.inodes.root = this.saved.inodes;
    this.namespace.pageCount = this.saved.pageCounts[0]!;
    this.inodes.pageCount = this.saved.pageCounts[1]!;
    this.counters = this.saved.counters;
    for (const { inode, block, before } of this.undo.reverse()) {
      const blocks = this.blocksOf(inode);
      if (before === undefined) blocks.delete(block);
      else blocks.set(block, before);
    }
    for (const listener of this.listeners) listener();
  }
  onReset(listener: () => void): void {
    this.listeners.push(listener);
  }

  private change(): void {
    if (this.depth === 0) throw new Error('a change outside a transaction');
    if (--this.failAfter < 0) throw new LsnfsError('IO', 'a change was made to fail');
    this.changed = true;
  }
  private isInode(tree: TreeId, key: Uint8Array): boolean {
    return tree === TREE.inodes && key[8] === KIND_INODE && key.length === 9 && keyInode(key) !== 0;
  }
  private tree(tree: TreeId): BTree {
    if (tree === TREE.namespace) return this.namespace;
    if (tree === TREE.inodes) return this.inodes;
    throw new Error(`no tree ${tree} in this fake`);
  }

  allocateInode(): number {
    this.change();
    return this.counters.nextInode++;
  }
  put(tree: TreeId, key: Uint8Array, value: Uint8Array): void {
    this.change();
    if (tree === TREE.namespace) putEntry(this.namespace, this.inodes, key, value);
    else if (this.tree(tree).put(key, value) && this.isInode(tree, key)) this.counters.inodes++;
  }
  delete(tree: TreeId, key: Uint8Array): boolean {
    this.change();
    if (tree === TREE.namespace) return deleteEntry(this.namespace, this.inodes, key);
    const found = this.tree(tree).delete(key);
    if (found && this.isInode(tree, key)) this.counters.inodes--;
    return found;
  }

  private blocksOf(inode: number): Map<number, Buffer> {
    let blocks = this.data.get(inode);
    if (blocks === undefined) {
      blocks = new Map();
      this.data.set(inode, blocks);
    }
    return blocks;
  }
  private setBlock(inode: number, block: number, bytes: Buffer | undefined): number {
    const blocks = this.blocksOf(inode);
    const before = blocks.get(block);
    if (this.canRollBack) this.undo.push({ inode, block, before });
    if (bytes === undefined) {
      blocks.delete(block);
      this.inodes.delete(extentKey(inode, block));
    } else {
      blocks.set(block, bytes);
      if (before === undefined) {
        const extent = { block, count: 1, page: 1, birth: 0, checksums: new Uint32Array(1) };
        this.inodes.put(extentKey(inode, block), encodeExtent(extent));
      }
    }
    const difference = (bytes === undefined ? 0 : 1) - (before === undefined ? 0 : 1);
    this.counters.dataPages += difference;
    return difference;
  }
  writeData(inode: number, offset: number, source: Uint8Array, sourceStart: number, length: number): number {
    this.change();
    let mapped = 0;
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const block = Math.floor(at / this.pageSize);
      const inBlock = at % this.pageSize;
      const step = Math.min(length - done, this.pageSize - inBlock);
      const before = this.data.get(inode)?.get(block);
      const bytes = before === undefined ? Buffer.alloc(this.pageSize) : Buffer.from(before);
      bytes.set(source.subarray(sourceStart + done, sourceStart + done + step), inBlock);
      mapped += this.setBlock(inode, block, bytes);
      done += step;
    }
    return mapped;
  }
  allocateData(inode: number, offset: number, length: number): number {
    this.change();
    let mapped = 0;
    for (let block = Math.floor(offset / this.pageSize); block * this.pageSize < offset + length; block++) {
      if (!this.data.get(inode)?.has(block))
        mapped += this.setBlock(inode, block, Buffer.alloc(this.pageSize));
    }
    return mapped;
  }
  unmapData(inode: number, firstBlock: number, blockCount: number): number {
    this.change();
    let unmapped = 0;
    for (const block of [...(this.data.get(inode)?.keys() ?? [])]) {
      if (block >= firstBlock && block < firstBlock + blockCount)
        unmapped -= this.setBlock(inode, block, undefined);
    }
    return unmapped;
  }
}
