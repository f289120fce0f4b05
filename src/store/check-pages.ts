/**
 * Verifies every page that any version reaches, each once, as it stands in the data file.
 *
 * The catalog comes first, because it says which versions there are and which pages have died; then the versions from
 * the newest to the oldest. So the version that first leads to a page is the last one that holds it, and what the
 * lifetimes tree must say of the page is known at that moment: nothing if that is the newest version, else a death
 * between that version and the next.
 *
 * A page that was met before is not read again: what a reference says of it must be what the first one said
 * (check-table.ts), and if the keys that the new parent leaves to it are others, its first and last keys are held
 * against them. Pages with damage below are marked as tainted, and only their tainted parts are walked again, to
 * attribute the damage to each version that leads there. A damage belongs to the page that points to it, because the
 * same child may be right for one parent and wrong for another.
 */
import {
  boundsProblem,
  childBounds,
  childRef,
  describeLoss,
  inspectPage,
  type KeyBounds,
  NO_BOUNDS,
} from '../btree/check.ts';
import {
  decodeFreeRun,
  decodeLifetime,
  decodeLives,
  decodeSnapshotRow,
  decodeVersionRow,
  type Lifetime,
  type Lives,
  type SnapshotRow,
  type VersionRow,
} from '../encoding/catalog.ts';
import {
  cellCount,
  copyKey,
  isLeaf,
  keyLength,
  pageCapacity,
  pageLevel,
  usedBytes,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { crc32 } from '../encoding/checksum.ts';
import { decodeExtent, type Extent, MAX_EXTENT_PAGES, UNWRITTEN } from '../encoding/extent.ts';
import { extentKeyBlock, KEY_MAX, KIND_EXTENT, keyInode, TREE, type TreeId } from '../encoding/keys.ts';
import type { PageRef } from '../encoding/page.ts';
import { type CatalogRoot, decodeVersionRoot, type TreeRef, type VersionRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import type { PageCache } from '../storage/page-cache.ts';
import type { Page } from '../storage/page-space.ts';
import type { CheckContext } from './check-context.ts';
import type { Damage, Finding, Loss } from './check-damage.ts';
import { LifetimeIndex } from './check-lifetimes.ts';
import { dataSum, PageTable, treeSum, USE, type Use } from './check-table.ts';
import { DATA_NAME } from './initialize.ts';

const TREE_NAMES: Readonly<Record<TreeId, string>> = {
  [TREE.namespace]: 'the namespace',
  [TREE.inodes]: 'the inode tree',
  [TREE.registry]: 'the registry',
  [TREE.versions]: 'the list of versions',
  [TREE.lifetimes]: 'the lifetimes',
  [TREE.free]: 'the free space',
  [TREE.lives]: 'the restored pages',
};

/** Free runs that are neither marked nor compared in one step. */
const STEP_ROWS = 1024;
/** A subtree that is damaged: how many pages it has is not known. */
const UNKNOWN_COUNT = -1;

/** How full the leaves are. */
export interface Fill {
  leafPages: number;
  branchPages: number;
  leafBytes: number;
  leafCapacity: number;
}

export class PageCheck {
  readonly table: PageTable;
  /** Newest first. */
  readonly versions: VersionRow[] = [];
  /** Root pages of versions that are being reclaimed. */
  private readonly droppedRoots: number[] = [];
  /** By number of the version; undefined where its root is damaged. */
  readonly roots: (VersionRoot | undefined)[] = [];
  /** Of the newest version. */
  readonly snapshots: SnapshotRow[] = [];
  readonly fill: Fill = { leafPages: 0, branchPages: 0, leafBytes: 0, leafCapacity: 0 };
  pagesInUse = 0;
  pagesFree = 0;
  private readonly context: CheckContext;
  private readonly cache: PageCache;
  private readonly space: DirtyPages;
  private readonly lifetimes = new LifetimeIndex();
  /** Pages that a restore brought back to life, by page. */
  private readonly lives: Lives[] = [];
  private readonly free: { page: number; count: number; after: number }[] = [];
  private readonly versionLsns = new Set<number>();
  /** Damages by the page that points to what is damaged. */
  private readonly damagesAt = new Map<number, Damage[]>();
  private readonly badAt = new Map<number, Damage>();
  /** Tainted pages that were walked again for the present version. */
  private readonly walkedAgain = new Set<number>();
  /** Rows of the catalog were lost: what it does not say proves nothing. */
  private catalogDamaged = false;
  /** Pages of trees were lost: what is not reached proves nothing. */
  private pagesLost = false;
  private treeId: TreeId = TREE.namespace;
  private use: Use = USE.tree;
  private version = 0;
  private readonly key = Buffer.alloc(KEY_MAX);
  private readonly buffer: Buffer;

  /** `limit`: the first page that does not exist. */
  constructor(context: CheckContext, cache: PageCache, limit: number) {
    this.context = context;
    this.cache = cache;
    this.space = new DirtyPages(cache, false);
    this.table = new PageTable(limit);
    this.buffer = Buffer.allocUnsafeSlow(MAX_EXTENT_PAGES * cache.pageSize);
  }

  /** Verifies the catalog, and learns from it. */
  *checkCatalog(root: Readonly<CatalogRoot>, rootPage: number): Generator<void> {
    this.use = USE.catalog;
    this.table.setUse(rootPage, USE.catalog);
    yield* this.checkTree(rootPage, TREE.versions, root.versions, root.lsn);
    yield* this.checkTree(rootPage, TREE.lifetimes, root.lifetimes, root.lsn);
    yield* this.checkTree(rootPage, TREE.free, root.free, root.lsn);
    yield* this.checkTree(rootPage, TREE.lives, root.lives, root.lsn);
    yield* this.lifetimes.sort();
    this.catalogDamaged = this.pagesLost;
    this.pagesLost = false;
    for (const run of root.spare) this.free.push({ ...run, after: 0 });
    const { versions } = this;
    versions.sort((a, b) => b.lsn - a.lsn);
    const newest = versions[0];
    const { version } = root;
    if (newest === undefined || newest.lsn < version.lsn) {
      // A store that was never changed has no list; a damaged list need not have its end.
      if (root.versions.number !== 0 && !this.catalogDamaged) {
        this.catalogFinding(rootPage, `its version, of LSN ${version.lsn}, is not in the list of versions`);
      }
      const { timeMicroseconds } = root;
      versions.unshift({
        lsn: version.lsn,
        timeMicroseconds,
        root: version,
        dropped: false,
        restored: false,
      });
    } else if (newest.root.number !== version.number || newest.root.checksum !== version.checksum) {
      this.catalogFinding(
        rootPage,
        `its version is page ${version.number}, the list's newest page ${newest.root.number}`,
      );
    }
    for (const { lsn } of versions) this.versionLsns.add(lsn);
    for (const page of this.droppedRoots) {
      if (this.isRun(page, 1, 'the list of versions')) this.table.setUse(page, USE.dead);
    }
    let inUse = root.frontier;
    for (const run of this.free) inUse -= run.count;
    this.context.progress.pagesTotal = Math.max(0, inUse);
    this.context.progress.versionsTotal = versions.length;
  }

  private catalogFinding(rootPage: number, message: string): void {
    this.report(
      { kind: 'page', message: `the catalog root, page ${rootPage}, is wrong: ${message}` },
      rootPage,
    );
  }

  /** Verifies the pages of all versions. */
  *checkVersions(): Generator<void> {
    this.use = USE.tree;
    for (let version = 0; version < this.versions.length; version++) {
      this.version = version;
      this.walkedAgain.clear();
      yield* this.checkVersion(this.versions[version]!);
      this.context.progress.versions++;
    }
  }

  private *checkVersion(row: Readonly<VersionRow>): Generator<void> {
    const { number } = row.root;
    const newer = this.versions[this.version - 1];
    if (newer !== undefined && newer.timeMicroseconds < row.timeMicroseconds) {
      const message = `the version at LSN ${row.lsn} is said to be later than the one at ${newer.lsn}`;
      this.report({ kind: 'space', message }, number)?.hit(this.version);
    }
    let root: VersionRoot;
    try {
      if (number === 0 || number >= this.table.limit || this.table.use(number) !== USE.unknown) {
        throw new LsnfsError(
          'CORRUPT_PAGE',
          `the root of the version at LSN ${row.lsn} is said to be page ${number}, which cannot be`,
        );
      }
      const page = this.cache.get(number, row.root.lsn, row.root.checksum);
      root = decodeVersionRoot(page.bytes, number);
      this.table.setUse(number, USE.root);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.roots.push(undefined);
      this.pagesLost = true;
      if (number < this.table.limit && this.table.use(number) === USE.unknown)
        this.table.setUse(number, USE.root);
      const loss: Loss = { kind: 'names', from: undefined, to: undefined };
      this.report(
        { kind: 'page', message: `${error.message}; the whole version is lost`, loss },
        number,
      )?.hit(this.version);
      return;
    }
    this.roots.push(root);
    if (this.context.verified(1, this.cache.pageSize)) yield;
    if (root.timeMicroseconds !== row.timeMicroseconds) {
      this.found(number, {
        kind: 'page',
        message: `the time of the version at LSN ${row.lsn}: its root says ${root.timeMicroseconds}, the list ${row.timeMicroseconds}`,
      });
    }
    yield* this.checkTree(number, TREE.namespace, root.namespace, root.lsn);
    yield* this.checkTree(number, TREE.inodes, root.inodes, root.lsn);
    yield* this.checkTree(number, TREE.registry, root.registry, root.lsn);
  }

  private *checkTree(rootPage: number, tree: TreeId, ref: Readonly<TreeRef>, lsn: number): Generator<void> {
    this.treeId = tree;
    if (ref.number === 0) return;
    const pages = yield* this.visit(rootPage, ref, undefined, NO_BOUNDS, lsn);
    if (pages !== UNKNOWN_COUNT && pages !== ref.pageCount) {
      const message = `${TREE_NAMES[tree]} has ${pages} pages, and its root page ${rootPage} counts ${ref.pageCount}`;
      this.found(rootPage, { kind: 'page', message });
    }
  }

  /** Verifies what a reference in the page `parent` leads to. Returns how many pages that are. */
  private *visit(
    parent: number,
    ref: Readonly<PageRef>,
    level: number | undefined,
    bounds: KeyBounds,
    maxLsn: number,
  ): Generator<void, number> {
    const { table, treeId } = this;
    const { number } = ref;
    if (number >= table.limit) {
      return this.lost(parent, ref, bounds, `page ${number} lies beyond the frontier, ${table.limit}`);
    }
    if (ref.lsn > maxLsn) {
      const message = `page ${number} has LSN ${ref.lsn}, later than ${maxLsn} of page ${parent}, which names it`;
      this.found(parent, { kind: 'page', page: number, message, loss: this.lossOf(bounds) });
    }
    const from = hashOf(bounds.from);
    const to = hashOf(bounds.to);
    if (table.use(number) !== USE.unknown) return this.visitAgain(parent, ref, level, bounds, from, to);
    table.setUse(number, this.use);
    table.setSum(number, treeSum(ref.checksum, ref.lsn));
    const page = inspectPage(this.space, treeId, ref, level, bounds);
    if (this.context.verified(1, this.cache.pageSize)) yield;
    if (typeof page === 'string') {
      table.setPlace(number, treeId, level ?? 0, from, to);
      table.setBad(number);
      return this.lost(parent, ref, bounds, page, true);
    }
    const { bytes } = page;
    const found = pageLevel(bytes);
    table.setPlace(number, treeId, found, from, to);
    if (this.use === USE.tree) this.checkDeath(number, 1, ref.lsn);
    let pages = 1;
    if (isLeaf(bytes)) {
      this.fill.leafPages++;
      this.fill.leafBytes += usedBytes(bytes);
      this.fill.leafCapacity += pageCapacity(bytes.length);
      yield* this.checkLeaf(page);
    } else {
      this.fill.branchPages++;
      for (let slot = 0, children = cellCount(bytes); slot < children; slot++) {
        const below = yield* this.visit(
          number,
          childRef(bytes, slot),
          found - 1,
          childBounds(bytes, slot, children, bounds),
          ref.lsn,
        );
        if (below === UNKNOWN_COUNT || pages === UNKNOWN_COUNT) pages = UNKNOWN_COUNT;
        else pages += below;
      }
    }
    if (this.damagesAt.has(number) || pages === UNKNOWN_COUNT) {
      table.setTainted(number);
      return UNKNOWN_COUNT;
    }
    table.setSubtreePages(number, pages);
    return pages;
  }

  private visitAgain(
    parent: number,
    ref: Readonly<PageRef>,
    level: number | undefined,
    bounds: KeyBounds,
    from: number,
    to: number,
  ): number {
    const { table, treeId } = this;
    const { number } = ref;
    const use = table.use(number);
    if (use !== this.use || !table.isPlace(number, treeId, level ?? table.level(number))) {
      const what = `page ${number} is used as a page of ${TREE_NAMES[treeId]}, and ${describeUse(use)} elsewhere`;
      return this.lost(parent, ref, bounds, what);
    }
    if (table.sum(number) !== treeSum(ref.checksum, ref.lsn)) {
      const page = inspectPage(this.space, treeId, ref, level, bounds);
      const what = typeof page === 'string' ? page : `page ${number} is named with two checksums or LSNs`;
      return this.lost(parent, ref, bounds, what);
    }
    if (table.isBad(number)) {
      this.attach(parent, this.badAt.get(number));
      this.pagesLost = true;
      return UNKNOWN_COUNT;
    }
    if (!table.hasBounds(number, from, to)) {
      const wrong = this.edgeProblem(ref, bounds);
      if (wrong !== undefined) return this.lost(parent, ref, bounds, wrong);
    }
    if (table.isTainted(number)) {
      this.walkAgain(ref);
      return UNKNOWN_COUNT;
    }
    return table.subtreePages(number);
  }

  /** Whether the first and the last keys below a page, which is in order in itself, are within other bounds. */
  private edgeProblem(ref: Readonly<PageRef>, { from, to }: KeyBounds): string | undefined {
    try {
      for (const last of [false, true]) {
        let page = this.space.get(ref.number, ref.lsn, ref.checksum);
        for (;;) {
          const edge = last ? { from: undefined, to } : { from, to: undefined };
          const wrong = boundsProblem(page.bytes, `page ${page.number}`, edge);
          if (wrong !== undefined) return wrong;
          if (isLeaf(page.bytes)) break;
          const child = childRef(page.bytes, last ? cellCount(page.bytes) - 1 : 0);
          if (this.table.isBad(child.number)) break;
          page = this.space.get(child.number, child.lsn, child.checksum);
        }
      }
      return undefined;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      return error.message;
    }
  }

  /** Attributes the damages below a tainted page to the present version. */
  private walkAgain(ref: Readonly<PageRef>): void {
    if (this.walkedAgain.has(ref.number)) return;
    this.walkedAgain.add(ref.number);
    for (const damage of this.damagesAt.get(ref.number) ?? []) damage.hit(this.version);
    if (this.table.level(ref.number) === 0) return;
    const page = inspectPage(this.space, this.treeId, ref, undefined, NO_BOUNDS);
    if (typeof page === 'string') {
      this.lost(ref.number, ref, NO_BOUNDS, `it could be read a moment ago: ${page}`);
      return;
    }
    const { bytes } = page;
    for (let slot = 0, children = cellCount(bytes); slot < children; slot++) {
      const child = childRef(bytes, slot);
      if (child.number < this.table.limit && this.table.isTainted(child.number)) this.walkAgain(child);
    }
  }

  private *checkLeaf(leaf: Page): Generator<void> {
    switch (this.treeId) {
      case TREE.inodes:
        yield* this.checkExtents(leaf);
        break;
      case TREE.registry:
        this.eachRow(leaf, (key, value) => {
          const row = decodeSnapshotRow(key, value);
          if (this.version === 0) this.snapshots.push(row);
          if (row.lsn > leaf.lsn)
            return `snapshot "${row.name}" names LSN ${row.lsn}, which is after its own page's, ${leaf.lsn}`;
          return this.version > 0 || this.catalogDamaged || this.versionLsns.has(row.lsn)
            ? undefined
            : `snapshot "${row.name}" names LSN ${row.lsn}, and there is no version of it`;
        });
        break;
      case TREE.versions:
        this.eachRow(leaf, (key, value) => {
          const row = decodeVersionRow(key, value);
          if (row.dropped) this.droppedRoots.push(row.root.number);
          else this.versions.push(row);
          return undefined;
        });
        break;
      case TREE.lifetimes:
        this.eachRow(leaf, (key, value) => {
          this.lifetimes.add(decodeLifetime(key, value));
          return undefined;
        });
        break;
      case TREE.free:
        this.eachRow(leaf, (key, value) => {
          this.free.push(decodeFreeRun(key, value));
          return undefined;
        });
        break;
      case TREE.lives:
        this.eachRow(leaf, (key, value) => {
          const row = decodeLives(key, value);
          const before = this.lives.at(-1);
          if (before !== undefined && before.page + before.count > row.page)
            return `it lists page ${row.page} twice`;
          this.lives.push(row);
          return row.lives < 1 || row.count < 1 ? `${row.count} pages with ${row.lives} lives` : undefined;
        });
        break;
      default:
      // Entries of directories are judged with what they lead to: see vfs/check.ts.
    }
  }

  /** Judges each row of a leaf; what is thrown or returned is wrong with it. */
  private eachRow(leaf: Page, judge: (key: Buffer, value: Buffer) => string | undefined): void {
    const { bytes } = leaf;
    for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
      const key = Buffer.from(this.key.subarray(0, copyKey(bytes, slot, this.key, 0)));
      const start = valueStart(bytes, slot);
      let wrong: string | undefined;
      try {
        wrong = judge(key, bytes.subarray(start, start + valueLength(bytes, slot)));
      } catch (error) {
        if (!(error instanceof LsnfsError)) throw error;
        wrong = error.message;
        this.pagesLost = true;
      }
      if (wrong === undefined) continue;
      const message = `a row of ${TREE_NAMES[this.treeId]} is wrong: ${wrong}`;
      const loss: Loss | undefined =
        this.treeId === TREE.registry ? { kind: 'snapshots', from: key, to: key } : undefined;
      this.found(leaf.number, { kind: 'page', page: leaf.number, message, ...(loss && { loss }) });
    }
  }

  private *checkExtents(leaf: Page): Generator<void> {
    const { bytes } = leaf;
    for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
      if (keyLength(bytes, slot) !== 17) continue;
      copyKey(bytes, slot, this.key, 0);
      if (this.key[8] !== KIND_EXTENT) continue;
      const inode = keyInode(this.key);
      const wrong = (message: string): void => {
        const loss: Loss = { kind: 'inode', inode };
        this.found(leaf.number, { kind: 'page', page: leaf.number, message, loss });
      };
      let extent: Extent;
      try {
        const at = valueStart(bytes, slot);
        extent = decodeExtent(extentKeyBlock(this.key), bytes, at, valueLength(bytes, slot));
      } catch (error) {
        if (!(error instanceof LsnfsError)) throw error;
        wrong(`inode ${inode}: ${error.message}`);
        continue;
      }
      if (extent.page === UNWRITTEN) continue;
      const where = `the extent of block ${extent.block} of inode ${inode}`;
      if (extent.page + extent.count > this.table.limit) {
        wrong(
          `${where} maps pages up to ${extent.page + extent.count - 1}, beyond the frontier, ${this.table.limit}`,
        );
        continue;
      }
      if (extent.birth > leaf.lsn)
        wrong(`${where} is born at ${extent.birth}, after its own page, ${leaf.lsn}`);
      yield* this.checkExtent(leaf.number, inode, extent);
    }
  }

  /** Verifies those pages of an extent that were not met before. */
  private *checkExtent(leaf: number, inode: number, extent: Readonly<Extent>): Generator<void> {
    let start = 0;
    for (let i = 0; i <= extent.count; i++) {
      const page = extent.page + i;
      if (i < extent.count && !this.isVerified(leaf, page, inode, extent, i)) continue;
      if (i > start) {
        this.verifyData(leaf, inode, extent, start, i);
        if (this.context.verified(i - start, this.cache.pageSize)) yield;
      }
      start = i + 1;
    }
  }

  /** Whether a page of an extent needs no reading: it was met before, in the same place. */
  private isVerified(
    leaf: number,
    page: number,
    inode: number,
    extent: Readonly<Extent>,
    index: number,
  ): boolean {
    const { table } = this;
    const use = table.use(page);
    if (use === USE.unknown) return false;
    if (use === USE.data) {
      if (table.sum(page) !== dataSum(extent.checksums[index]!, inode, extent.block + index)) return false;
      if (table.isBad(page)) this.attach(leaf, this.badAt.get(page));
      return true;
    }
    const message = `page ${page} is mapped as block ${extent.block + index} of inode ${inode}, and is ${describeUse(use)} elsewhere`;
    this.found(leaf, { kind: 'page', page, message, loss: this.dataLoss(inode, extent, index, index + 1) });
    return true;
  }

  /** Reads the pages [start, end) of an extent and compares their checksums. */
  private verifyData(
    leaf: number,
    inode: number,
    extent: Readonly<Extent>,
    start: number,
    end: number,
  ): void {
    const { table, buffer } = this;
    const { pageSize } = this.cache;
    const errors = this.readData(extent.page + start, end - start);
    let damage: Damage | undefined;
    let badFrom = -1;
    let firstWrong = '';
    const flush = (until: number): void => {
      if (badFrom < 0) return;
      const count = until - badFrom;
      const message = count === 1 ? firstWrong : `${firstWrong}; and so are the ${count - 1} pages after it`;
      damage = this.found(leaf, {
        kind: 'data',
        page: extent.page + badFrom,
        pages: count,
        message,
        loss: this.dataLoss(inode, extent, badFrom, until),
      });
      for (let i = badFrom; i < until; i++) {
        if (damage !== undefined && table.isBad(extent.page + i)) this.badAt.set(extent.page + i, damage);
      }
      badFrom = -1;
    };
    let birthFrom = -1;
    for (let i = start; i < end; i++) {
      const page = extent.page + i;
      const at = (i - start) * pageSize;
      const expected = extent.checksums[i]!;
      const error = errors?.get(i - start);
      const found = error === undefined ? crc32(buffer, at, at + pageSize) : 0;
      const place = `block ${extent.block + i} of inode ${inode} (page ${page} at offset ${page * pageSize} of the data file)`;
      let wrong: string | undefined;
      if (error !== undefined) wrong = `${place} cannot be read: ${error}`;
      else if (found !== expected)
        wrong = `${place} is corrupt: checksum: expected ${expected}, found ${found}`;
      if (table.use(page) === USE.unknown) {
        table.setUse(page, USE.data);
        table.setSum(page, dataSum(expected, inode, extent.block + i));
        if (wrong !== undefined) table.setBad(page);
        if (birthFrom < 0) birthFrom = i;
      } else {
        wrong ??= `${place} is mapped as another block, or of another file, too`;
        if (birthFrom >= 0) this.checkDeath(extent.page + birthFrom, i - birthFrom, extent.birth);
        birthFrom = -1;
      }
      if (wrong === undefined) flush(i);
      else if (badFrom < 0) {
        badFrom = i;
        firstWrong = wrong;
      }
    }
    flush(end);
    if (birthFrom >= 0) this.checkDeath(extent.page + birthFrom, end - birthFrom, extent.birth);
  }

  /** Reads pages into the buffer; what failed, by index, if anything did. */
  private readData(page: number, count: number): Map<number, string> | undefined {
    try {
      this.cache.readData(page, count, this.buffer, 0);
      return undefined;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
    }
    // One after the other, to know which cannot be read.
    const errors = new Map<number, string>();
    for (let i = 0; i < count; i++) {
      try {
        this.cache.readData(page + i, 1, this.buffer, i * this.cache.pageSize);
      } catch (error) {
        if (!(error instanceof LsnfsError)) throw error;
        errors.set(i, error.message);
      }
    }
    return errors;
  }

  private dataLoss(inode: number, extent: Readonly<Extent>, start: number, end: number): Loss {
    const { pageSize } = this.cache;
    return {
      kind: 'inode',
      inode,
      start: (extent.block + start) * pageSize,
      end: (extent.block + end) * pageSize,
    };
  }

  /** Pages were reached for the first time: the present version is the last that holds them. */
  private checkDeath(page: number, count: number, birth: number): void {
    if (this.catalogDamaged || this.pagesLost) return;
    const rows = this.lifetimes.within(page, count);
    if (this.lives.length > 0 && this.livesWithin(page, count).length > 0) {
      for (let at = page; at < page + count; at++) this.checkLives(at, birth, rows);
      return;
    }
    const { versions, version } = this;
    const end = page + count;
    const held = versions[version]!;
    const next = versions[version - 1];
    let at = page;
    for (const row of [...rows, undefined]) {
      const rowStart = row === undefined ? end : Math.min(end, Math.max(at, row.page));
      if (next !== undefined && rowStart > at) this.reportNoDeath(at, rowStart);
      if (row === undefined || rowStart >= end) return;
      const rowEnd = Math.min(end, row.page + row.count);
      if (next === undefined) {
        const message = `${describePages(rowStart, rowEnd)} in use by the newest version, at LSN ${held.lsn}, and the lifetimes say that they died at ${row.death}`;
        this.report({ kind: 'space', message, pages: rowEnd - rowStart }, rowStart)?.hit(version);
      } else this.checkLifetime(rowStart, rowEnd, birth, row);
      at = rowEnd;
    }
  }

  private reportNoDeath(from: number, to: number): void {
    const { lsn } = this.versions[this.version]!;
    const message = `${describePages(from, to)} in use by the version at LSN ${lsn} and by no later one, and the lifetimes do not say that they died`;
    this.report({ kind: 'space', message, pages: to - from }, from)?.hit(this.version);
  }

  /** What the lifetimes say of pages that the present version holds as the last. */
  private checkLifetime(from: number, to: number, birth: number, row: Readonly<Lifetime>): void {
    const held = this.versions[this.version]!;
    const next = this.versions[this.version - 1]!;
    if (row.death > held.lsn && row.death <= next.lsn && row.birth === birth) return;
    const message = `${describePages(from, to)} in use from LSN ${birth} to the version at LSN ${held.lsn} and not by the next, at ${next.lsn}, and the lifetimes say from ${row.birth} to ${row.death}`;
    this.report({ kind: 'space', message, pages: to - from }, from)?.hit(this.version);
  }

  /** As `checkDeath`, for a page among those that a restore brought back to life. */
  private checkLives(page: number, birth: number, rows: readonly Lifetime[]): void {
    const { version } = this;
    const isAlive = version === 0;
    const own = rows
      .filter((row) => row.page <= page && page < row.page + row.count)
      .sort((a, b) => a.death - b.death);
    const [life] = this.livesWithin(page, 1);
    const lives = own.length + (isAlive ? 1 : 0);
    if ((life?.lives ?? 1) !== lives) {
      const message = `page ${page} has ${lives} lifetimes, and the restored pages say ${life?.lives ?? 1}`;
      this.report({ kind: 'space', message }, page)?.hit(version);
    }
    const held = this.versions[version]!;
    const next = this.versions[version - 1];
    const last = own.at(-1);
    if (next !== undefined) {
      // The life in which the present version holds it: not the last one, when the versions of that are gone already.
      const row = own.find(({ death }) => death > held.lsn);
      if (row === undefined) this.reportNoDeath(page, page + 1);
      else this.checkLifetime(page, page + 1, row.birth <= held.lsn ? row.birth : birth, row);
    } else if (last !== undefined && life !== undefined && last.death > life.since) {
      const message = `page ${page} is in use by the newest version since it was restored at ${life.since}, and the lifetimes say that it died at ${last.death}`;
      this.report({ kind: 'space', message }, page)?.hit(version);
    }
  }

  /** The rows of restored pages that overlap with [page, page + count). */
  private livesWithin(page: number, count: number): Lives[] {
    const { lives } = this;
    let low = 0;
    let high = lives.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (lives[middle]!.page + lives[middle]!.count <= page) low = middle + 1;
      else high = middle;
    }
    let end = low;
    while (end < lives.length && lives[end]!.page < page + count) end++;
    return lives.slice(low, end);
  }

  /** Whether a restore brought back all of the pages [from, to), so that they may have died more than once. */
  private areRestored(from: number, to: number): boolean {
    let at = from;
    for (const row of this.livesWithin(from, to - from)) {
      if (row.page > at || row.lives < 2) return false;
      at = row.page + row.count;
    }
    return at >= to;
  }

  /** Holds what is in use against what is free: each page must be exactly one of the two. */
  *checkSpace(frontier: number): Generator<void> {
    const { table, lifetimes, context } = this;
    let seenUpTo = 0;
    for (let index = 0; index < lifetimes.size; index++) {
      const row = lifetimes.row(index);
      if (this.isRun(row.page, row.count, 'the lifetimes')) {
        if (row.birth > row.death) {
          const message = `pages ${row.page}+${row.count} are said to have died at ${row.death}, before they were born at ${row.birth}`;
          this.report({ kind: 'space', message, pages: row.count }, row.page);
        }
        const end = row.page + row.count;
        if (row.page < seenUpTo && !this.areRestored(row.page, Math.min(end, seenUpTo))) {
          const message = `the lifetimes list page ${row.page} twice`;
          this.report({ kind: 'space', message }, row.page);
        }
        seenUpTo = Math.max(seenUpTo, end);
        yield* this.markDead(row);
      }
      if (context.spend(STEP_ROWS / 8)) yield;
    }
    for (const run of this.free) {
      if (this.isRun(run.page, run.count, 'the free space')) yield* this.markFree(run);
    }
    for (const row of this.lives) yield* this.checkRestored(row);
    yield* this.countPages(Math.min(frontier, table.limit));
  }

  private isRun(page: number, count: number, who: string): boolean {
    if (page >= 1 && count >= 1 && page + count <= this.table.limit) return true;
    const message = `${who} list the pages ${page} to ${page + count - 1}, which cannot be: the frontier is ${this.table.limit}`;
    this.report({ kind: 'space', message }, page);
    return false;
  }

  private *markDead(row: { page: number; count: number; birth: number; death: number }): Generator<void> {
    const { table } = this;
    const holder = this.catalogDamaged || this.pagesLost ? undefined : this.holderOf(row.birth, row.death);
    let missing = 0;
    for (let page = row.page; page < row.page + row.count; page++) {
      const use = table.use(page);
      if (use === USE.unknown) {
        table.setUse(page, USE.dead);
        missing++;
      } else if (use !== USE.tree && use !== USE.data && use !== USE.root && use !== USE.dead) {
        const message = `page ${page} is said to have died at ${row.death}, and is ${describeUse(use)}`;
        this.report({ kind: 'space', message }, page);
      }
      if (this.context.spend(0.05)) yield;
    }
    if (missing > 0 && holder !== undefined) {
      const message = `${missing} of the pages ${row.page}+${row.count} should be held by the version at LSN ${holder}, and it does not lead to them`;
      this.report({ kind: 'space', message, pages: row.count }, row.page);
    }
  }

  /** LSN of the newest version in [birth, death), or undefined. */
  private holderOf(birth: number, death: number): number | undefined {
    const { versions } = this;
    let low = 0;
    let high = versions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (versions[middle]!.lsn >= death) low = middle + 1;
      else high = middle;
    }
    const found = versions[low];
    return found !== undefined && found.lsn >= birth ? found.lsn : undefined;
  }

  private *markFree(run: { page: number; count: number }): Generator<void> {
    const { table } = this;
    for (let page = run.page; page < run.page + run.count; page++) {
      const use = table.use(page);
      if (use === USE.unknown) table.setUse(page, USE.free);
      else {
        const what = use === USE.free ? 'listed as free twice' : `listed as free and ${describeUse(use)}`;
        this.report({ kind: 'space', message: `page ${page} is ${what}: it could be overwritten` }, page);
      }
      if (this.context.spend(0.05)) yield;
    }
  }

  /** Pages that were brought back to life are in use until the last of their lives is reclaimed. */
  private *checkRestored(row: Readonly<Lives>): Generator<void> {
    if (!this.isRun(row.page, row.count, 'the restored pages')) return;
    for (let page = row.page; page < row.page + row.count; page++) {
      if (!this.isInUse(page) && !this.catalogDamaged && !this.pagesLost) {
        const message = `page ${page} is listed among the restored pages, and it is not in use`;
        this.report({ kind: 'space', message }, page);
      }
      if (this.context.spend(0.05)) yield;
    }
  }

  private *countPages(end: number): Generator<void> {
    const { table } = this;
    const leaks: string[] = [];
    let leaked = 0;
    let firstLeak = 0;
    const leak = (from: number, to: number): void => {
      if (from >= to) return;
      if (leaked === 0) firstLeak = from;
      for (let page = from; page < to && leaks.length < 16; page++) leaks.push(String(page));
      leaked += to - from;
    };
    // A frontier may be a claim that nothing bears out: what nobody speaks of is not gone through page by page.
    let at = 1;
    for (const range of table.touched(end)) {
      leak(at, range.start);
      for (let page = Math.max(1, range.start); page < range.end; page++) {
        const use = table.use(page);
        if (use === USE.free) this.pagesFree++;
        else if (use !== USE.unknown) this.pagesInUse++;
        else leak(page, page + 1);
        if (this.context.spend(0.05)) yield;
      }
      at = range.end;
    }
    leak(at, end);
    if (leaked === 0) return;
    if (this.catalogDamaged || this.pagesLost) {
      this.context.note(
        `${leaked} pages could not be accounted for, because the pages that would name them are damaged`,
      );
      return;
    }
    const which = leaked > leaks.length ? `${leaks.join(', ')}, …` : leaks.join(', ');
    const message = `${leaked} pages are neither in use nor free: ${which}`;
    this.report({ kind: 'space', message, pages: leaked }, firstLeak);
  }

  /** Whether a page is used by anything that was reached. */
  isInUse(page: number): boolean {
    const use = this.table.use(page);
    return use !== USE.unknown && use !== USE.free;
  }

  private lossOf(bounds: KeyBounds): Loss {
    switch (this.treeId) {
      case TREE.inodes:
        return {
          kind: 'inodes',
          first: bounds.from === undefined ? 0 : keyInode(padded(bounds.from)),
          last: bounds.to === undefined ? Number.MAX_SAFE_INTEGER : lastInodeBelow(bounds.to),
        };
      case TREE.registry:
        return { kind: 'snapshots', ...bounds };
      default:
        return { kind: 'names', ...bounds };
    }
  }

  /** A page cannot be had. */
  private lost(
    parent: number,
    ref: Readonly<PageRef>,
    bounds: KeyBounds,
    what: string,
    isBad = false,
  ): typeof UNKNOWN_COUNT {
    this.pagesLost = true;
    const isCatalog = this.treeId > TREE.registry;
    const damage = this.found(parent, {
      kind: 'page',
      page: ref.number,
      message: `${what}; in ${TREE_NAMES[this.treeId]}${describeLoss(bounds).slice(1)}`,
      ...(!isCatalog && { loss: this.lossOf(bounds) }),
    });
    if (isBad && damage !== undefined) this.badAt.set(ref.number, damage);
    return UNKNOWN_COUNT;
  }

  /** A damage that the page `parent` leads to. */
  private found(parent: number, finding: Omit<Finding, 'file' | 'offset'>): Damage | undefined {
    const damage = this.report(finding, finding.page ?? parent);
    this.attach(parent, damage);
    if (damage === undefined && !this.damagesAt.has(parent)) this.damagesAt.set(parent, []);
    return damage;
  }

  private attach(parent: number, damage: Damage | undefined): void {
    if (damage === undefined) return;
    // What the catalog says is true or false of the whole store.
    if (this.use === USE.tree) damage.hit(this.version);
    const at = this.damagesAt.get(parent);
    if (at === undefined) this.damagesAt.set(parent, [damage]);
    else if (!at.includes(damage)) at.push(damage);
  }

  private report(finding: Omit<Finding, 'file' | 'offset' | 'page'>, page: number): Damage | undefined {
    const damage = this.context.damages.add({
      ...finding,
      file: DATA_NAME,
      page,
      offset: page * this.cache.pageSize,
    });
    this.context.progress.damages = this.context.damages.count;
    return damage;
  }
}

function describeUse(use: Use): string {
  switch (use) {
    case USE.free:
      return 'free';
    case USE.tree:
      return 'a page of a tree';
    case USE.data:
      return 'data of a file';
    case USE.root:
      return 'the root of a version';
    case USE.catalog:
      return 'a page of the catalog';
    default:
      return 'in use';
  }
}

function describePages(from: number, to: number): string {
  return to - from === 1 ? `page ${from} is` : `pages ${from} to ${to - 1} are`;
}

/** 0 for an open bound. */
function hashOf(bound: Buffer | undefined): number {
  return bound === undefined ? 0 : crc32(bound, 0, bound.length, 1);
}

function padded(key: Buffer): Buffer {
  return key.length >= 8 ? key : Buffer.concat([key, Buffer.alloc(8 - key.length)]);
}

/** The last inode number of which a key can be below this one. */
function lastInodeBelow(key: Buffer): number {
  const inode = keyInode(padded(key));
  return key.length > 8 ? inode : inode - 1;
}
