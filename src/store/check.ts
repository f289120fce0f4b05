/**
 * Verifies a store as it stands on disk: control block, settings, every page of every version, free space, the log.
 *
 * What is read is the files, through a cache of the check's own: a page that is damaged on disk is found although the
 * process that serves the store still has it in memory. Nothing is written, and nothing of the store needs to be
 * open: it works on a store that cannot be opened, and says all that can still be said. While the store is open, the
 * caller holds what the check reads (`Store.hold`).
 *
 * It is a generator that reads some 128 pages between two yields, so that whoever runs it can do other work in between.
 * What directories, links and files say is verified above (vfs/check.ts), from the versions that are left here.
 */
import { checkTree, walkTree } from '../btree/check.ts';
import type { VersionRow } from '../encoding/catalog.ts';
import type { ControlBlock } from '../encoding/control.ts';
import { TREE } from '../encoding/keys.ts';
import type { CatalogRoot } from '../encoding/root.ts';
import { decodeCatalogRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import { DirtyPages } from '../storage/dirty-pages.ts';
import { PageCache } from '../storage/page-cache.ts';
import { CheckContext } from './check-context.ts';
import { checkControl, checkSettings, controlFromLog, identifyLog } from './check-control.ts';
import { DamageList } from './check-damage.ts';
import { LogCheck } from './check-log.ts';
import { PageCheck } from './check-pages.ts';
import { DATA_NAME } from './initialize.ts';
import type { Store } from './store.ts';

/** Pages of trees that a check keeps in memory, in bytes. */
const CACHE_BYTES = 16 * 1024 * 1024;
/** Damages that are listed; more are counted. */
const DAMAGES_MAX = 1000;
/** A frontier so many pages behind the end of the data file is not believed. */
const FRONTIER_SLACK = 2 ** 22;

export interface StoreCheckOptions {
  /** Whether the log is verified (default). */
  readonly log?: boolean;
  /** Of a store that is open: the log is verified up to here. */
  readonly durableLsn?: number;
  /** Default: a list of its own. */
  readonly damages?: DamageList;
}

export class StoreCheck {
  readonly context: CheckContext;
  /** What the store was verified by; undefined when nothing of the kind was found. */
  control: ControlBlock | undefined;
  catalogRoot: CatalogRoot | undefined;
  /** The data file, read by nobody else. */
  cache: PageCache | undefined;
  pages: PageCheck | undefined;
  log: LogCheck | undefined;
  private readonly directory: StorageDirectory;
  private readonly options: StoreCheckOptions;
  private data: Device | undefined;

  constructor(directory: StorageDirectory, options: StoreCheckOptions = {}) {
    this.directory = directory;
    this.options = options;
    this.context = new CheckContext(options.damages ?? new DamageList(DAMAGES_MAX));
  }

  /** Newest first; empty when the catalog could not be read. */
  get versions(): readonly VersionRow[] {
    return this.pages?.versions ?? [];
  }

  /** Verifies everything. @throws LsnfsError NEWER_FORMAT */
  *run(): Generator<void> {
    const { context, directory } = this;
    checkSettings(context, directory);
    const slots = checkControl(context, directory);
    yield;
    yield* this.openData(slots);
    const { pages, catalogRoot } = this;
    if (pages !== undefined && catalogRoot !== undefined && this.control !== undefined) {
      context.progress.phase = 'pages';
      yield* pages.checkCatalog(catalogRoot, this.control.checkpoint.rootPage);
      yield* pages.checkVersions();
      context.progress.phase = 'space';
      yield* pages.checkSpace(catalogRoot.frontier);
    }
    if (this.options.log !== false) yield* this.checkLog();
  }

  /** Finds the catalog root to go by: the newest slot's, an older slot's, or the log's. */
  private *openData(slots: readonly ControlBlock[]): Generator<void> {
    const { context, directory } = this;
    try {
      this.data = directory.open(DATA_NAME, { readOnly: true });
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      context.damages.add({ kind: 'page', file: DATA_NAME, offset: 0, message: error.message });
      this.control = slots[0];
      return;
    }
    for (const control of slots) {
      const cache = new PageCache(this.data, control.pageSize, CACHE_BYTES);
      const root = this.readCatalogRoot(cache, control);
      if (root === undefined) continue;
      if (this.control === undefined) this.goBy(control, cache, root);
      else yield* this.checkOlder(cache, root);
    }
    if (this.control !== undefined) return;
    const found = yield* controlFromLog(directory);
    if (found === undefined) {
      context.note('no checkpoint can be found: neither versions nor their files could be verified');
      this.control = slots[0];
      return;
    }
    context.note(`the store was verified by the checkpoint of LSN ${found.checkpoint.lsn}, found in the log`);
    const cache = new PageCache(this.data, found.pageSize, CACHE_BYTES);
    const root = this.readCatalogRoot(cache, found);
    if (root !== undefined) this.goBy(found, cache, root);
  }

  private goBy(control: ControlBlock, cache: PageCache, root: CatalogRoot): void {
    this.control = control;
    this.cache = cache;
    this.catalogRoot = root;
    const filePages = Math.ceil(this.data!.size() / control.pageSize);
    let limit = root.frontier;
    if (limit > filePages + FRONTIER_SLACK) {
      limit = filePages;
      this.foundRoot(
        control,
        `its frontier is page ${root.frontier}, and the data file has ${filePages} pages`,
      );
    }
    this.pages = new PageCheck(this.context, cache, limit);
  }

  private readCatalogRoot(cache: PageCache, control: ControlBlock): CatalogRoot | undefined {
    const { checkpoint } = control;
    const { rootPage, rootLsn, rootChecksum } = checkpoint;
    try {
      const root = decodeCatalogRoot(cache.get(rootPage, rootLsn, rootChecksum).bytes, rootPage);
      this.context.verified(1, cache.pageSize);
      if (root.horizonLsn > root.lsn)
        this.foundRoot(control, `its horizon is LSN ${root.horizonLsn}, after its own, ${root.lsn}`);
      return root;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.foundRoot(control, error.message);
      return undefined;
    }
  }

  private foundRoot(control: ControlBlock, message: string): void {
    const { rootPage, lsn } = control.checkpoint;
    this.context.damages.add({
      kind: 'page',
      file: DATA_NAME,
      page: rootPage,
      offset: rootPage * control.pageSize,
      message: `the catalog root of the checkpoint of LSN ${lsn}: ${message}`,
    });
    this.context.progress.damages = this.context.damages.count;
  }

  /** The older slot's catalog is what recovery falls back on: its pages must still be there. */
  private *checkOlder(cache: PageCache, root: CatalogRoot): Generator<void> {
    const space = new DirtyPages(cache, false);
    for (const [tree, ref] of [
      [TREE.versions, root.versions],
      [TREE.lifetimes, root.lifetimes],
      [TREE.free, root.free],
    ] as const) {
      for (const item of walkTree(space, ref, tree)) {
        if (this.context.spend(1)) yield;
        if (!('message' in item)) continue;
        const { page, message } = item;
        this.context.damages.add({
          kind: 'page',
          file: DATA_NAME,
          page,
          offset: page * cache.pageSize,
          message: `in the catalog of the checkpoint before, of LSN ${root.lsn}: ${message}`,
        });
      }
    }
    this.context.progress.damages = this.context.damages.count;
  }

  private *checkLog(): Generator<void> {
    const { context, directory, cache, pages, catalogRoot } = this;
    context.progress.phase = 'log';
    if (this.control === undefined || cache === undefined || pages === undefined) {
      const log = identifyLog(directory);
      context.note(
        log === undefined
          ? 'the log could not be verified: no control slot and no segment says which store it belongs to'
          : 'the log could not be verified: no checkpoint says where it begins',
      );
      return;
    }
    this.log = new LogCheck(context, {
      directory,
      control: this.control,
      cache,
      pages,
      root: pages.roots[0],
      horizonLsn: catalogRoot?.horizonLsn ?? 0,
      ...(this.options.durableLsn !== undefined && { durableLsn: this.options.durableLsn }),
    });
    yield* this.log.run();
  }

  close(): void {
    this.data?.close();
    this.data = undefined;
  }
}

export interface StoreReport {
  problems: string[];
  versions: number;
  pagesReachable: number;
  pagesFree: number;
}

/**
 * Checks the pages of a store that is open, as of its newest checkpoint, at once; and that its memory agrees: the
 * live trees, and that nothing is free that a version leads to. For tests: a mounted store is verified in steps.
 */
export function checkStore(store: Store): StoreReport {
  const check = new StoreCheck(store.directory, { log: false });
  try {
    for (const _step of check.run());
  } finally {
    check.close();
  }
  const { pages, context } = check;
  // A slot that a power cut tore is no damage to what follows it.
  const problems = context.damages.listed
    .filter(({ finding }) => finding.kind !== 'control')
    .map(({ finding }) => finding.message);
  if (pages === undefined) problems.push('no catalog can be read');
  else {
    const { freeSpace } = store.inspect();
    for (const run of freeSpace.freeWithin(0, freeSpace.frontier)) {
      for (let page = run.page; page < run.page + run.count && page < pages.table.limit; page++) {
        if (pages.isInUse(page)) problems.push(`page ${page} is free in memory, and in use on disk`);
      }
    }
  }
  for (const tree of store.live.trees()) {
    for (const { message } of checkTree(tree.space, tree.root, tree.treeId).problems)
      problems.push(`live tree ${tree.treeId}: ${message}`);
  }
  return {
    problems,
    versions: check.versions.length,
    pagesReachable: pages?.pagesInUse ?? 0,
    pagesFree: pages?.pagesFree ?? 0,
  };
}
