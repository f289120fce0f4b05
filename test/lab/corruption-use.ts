/**
 * Uses a damaged store and judges what comes of it.
 *
 * The oracle. Whatever was damaged, each use ends in the right data or in an LsnfsError that says where the damage is.
 * - Opening: an error, or a state that the model knows.
 * - What was durable is there. The log may end earlier than it did only where nothing that is left undamaged (a frame
 *   or a control block that names a durable LSN beyond) could have told, or with a warning.
 * - Every path whose pages are whole is read, and is right; a path that needs a damaged page is right or EIO.
 * - Past states and snapshots likewise.
 * - Changes go on or are refused; what was changed is there after the store was opened again; what failed left no trace.
 * - All within a bound of device operations: an endless loop is an error like any other.
 */
import { LsnfsError } from '../../src/errors.ts';
import type { Database } from '../../src/plugin/database.ts';
import type { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import type { StateReader } from '../../src/store/state.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { type FileSystem, O_RDONLY, ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { PastFileSystem } from '../../src/vfs/past-file-system.ts';
import type { Random } from '../helpers/random.ts';
import { type Damage, pagesByKind } from './corruption-damage.ts';
import { differingAttribute, type ModelState, Scribe, stateAt } from './corruption-model.ts';
import { type BuiltStore, type ByteRange, openDatabase } from './corruption-store.ts';

/** Device operations that one case may do; an ordinary one does some thousands. */
const OPERATIONS_MAX = 200_000;

/** What a case came to, for the statistics of a run. */
export type Outcome = 'refused' | 'errors' | 'harmless';

/** A finding: what the store did is wrong. */
export class Finding extends Error {
  override readonly name = 'Finding';
}

function find(what: string): never {
  throw new Finding(what);
}

/** Codes that speak of damage. */
const DAMAGE = new Set(['CORRUPT_PAGE', 'CORRUPT_LOG', 'CORRUPT_CONTROL', 'CORRUPT_RECORD', 'IO']);
/** Further codes with which a damaged store may refuse to be opened. */
const REFUSALS = new Set([...DAMAGE, 'NO_STORE', 'STORE_INCOMPLETE', 'INVALID_INPUT', 'NEWER_FORMAT']);

/** An error is deliberate, of a code that fits, and says where. */
function judgeError(error: unknown, where: string, codes: ReadonlySet<string>): LsnfsError {
  if (!(error instanceof LsnfsError)) {
    const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
    find(`${where}: not an LsnfsError: ${text}`);
  }
  if (!codes.has(error.code)) find(`${where}: ${error.code} says nothing of damage: ${error.stack}`);
  const { page, offset, file, inode } = error.details;
  const placed =
    error.code === 'CORRUPT_PAGE'
      ? page !== undefined && offset !== undefined
      : error.code === 'CORRUPT_LOG' || error.code === 'CORRUPT_CONTROL'
        ? file !== undefined && offset !== undefined
        : error.code === 'CORRUPT_RECORD'
          ? inode !== undefined || page !== undefined || file !== undefined
          : true;
  if (!placed)
    find(`${where}: ${error.code} does not say where: ${error.message} ${JSON.stringify(error.details)}`);
  return error;
}

/** What reading a state met. */
interface Reading {
  errors: number;
  compared: number;
}

/** Compares everything that can be reached by name in `fs` with the model. */
class Comparison {
  readonly reading: Reading = { errors: 0, compared: 0 };
  private readonly fs: FileSystem;
  private readonly model: ModelState;
  private readonly where: string;
  /** Whether a path must be readable, whatever is damaged. */
  private readonly mustRead: (path: string) => boolean;

  constructor(fs: FileSystem, model: ModelState, where: string, mustRead: (path: string) => boolean) {
    this.fs = fs;
    this.model = model;
    this.where = where;
    this.mustRead = mustRead;
  }

  private guarded(path: string, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (error instanceof Finding) throw error;
      const known = judgeError(error, `${this.where} ${path}`, DAMAGE);
      if (this.mustRead(path))
        find(`${this.where} ${path}: no page of it is damaged, and yet: ${known.message}`);
      this.reading.errors++;
    }
  }

  run(): Reading {
    this.compare(ROOT_INODE, '');
    return this.reading;
  }

  private compare(inode: number, path: string): void {
    const { entries } = this.model.inodes.get(inode)!;
    this.guarded(path, () => this.compareInode(inode, path));
    if (entries === undefined) return;
    this.guarded(`${path}/`, () => this.compareListing(inode, path));
    for (const [name, child] of entries) {
      const childPath = `${path}/${name}`;
      let found = false;
      this.guarded(childPath, () => {
        const attributes = this.fs.lookup(ROOT_CALLER, inode, Buffer.from(name, 'utf8'));
        if (attributes === undefined) find(`${this.where} ${childPath} is gone`);
        if (attributes.inode !== child)
          find(`${this.where} ${childPath} is inode ${attributes.inode}, not ${child}`);
        found = true;
      });
      if (found) this.compare(child, childPath);
    }
  }

  private compareListing(inode: number, path: string): void {
    const { entries } = this.model.inodes.get(inode)!;
    const handle = this.fs.opendir(ROOT_CALLER, inode);
    let count = 0;
    try {
      this.fs.readdir(handle, 0, (name, child) => {
        const text = Buffer.from(name).toString('utf8');
        if (text === '.' || text === '..') return true;
        if (entries!.get(text) !== child) find(`${this.where} ${path}/ lists ${text} as inode ${child}`);
        count++;
        return true;
      });
    } finally {
      this.fs.releasedir(handle);
    }
    if (count !== entries!.size) find(`${this.where} ${path}/ lists ${count} entries, not ${entries!.size}`);
  }

  private compareInode(inode: number, path: string): void {
    const { fs, where } = this;
    const expected = this.model.inodes.get(inode)!;
    const attributes = fs.getattr(ROOT_CALLER, inode);
    const differing = differingAttribute(expected.attributes, attributes);
    if (differing !== undefined) {
      find(
        `${where} ${path}: ${differing} is ${attributes[differing as 'size']}, not ${expected.attributes[differing as 'size']}`,
      );
    }
    if (expected.target !== undefined) {
      const target = Buffer.from(fs.readlink(ROOT_CALLER, inode)).toString('utf8');
      if (target !== expected.target) find(`${where} ${path} leads elsewhere`);
    }
    if (expected.content !== undefined) {
      const handle = fs.open(ROOT_CALLER, inode, O_RDONLY);
      try {
        const content = Buffer.alloc(expected.content.length, 0x5a);
        const count = fs.read(handle, 0, content, 0, content.length);
        if (count !== content.length) find(`${where} ${path}: ${count} of ${content.length} bytes`);
        if (!content.equals(expected.content)) find(`${where} ${path} has wrong content`);
      } finally {
        fs.release(handle);
      }
    }
    const names = Buffer.from(fs.listxattr(ROOT_CALLER, inode)).toString('utf8').split('\0').filter(Boolean);
    if (names.sort().join() !== [...expected.xattrs.keys()].sort().join())
      find(`${where} ${path}: other xattrs`);
    for (const [name, value] of expected.xattrs) {
      if (!value.equals(fs.getxattr(ROOT_CALLER, inode, Buffer.from(name))))
        find(`${where} ${path}: xattr ${name}`);
    }
    this.reading.compared++;
  }
}

const VFS = { statistics: (): never => find('statistics were asked for'), atime: 'noatime' } as const;

function fileSystemOver(state: StateReader): FileSystem {
  return new PastFileSystem(state, VFS);
}

/** The pages that each path of the live state needs, found by reading the undamaged store. */
export type PageNeeds = ReadonlyMap<string, ReadonlySet<number>>;

/** Reads every path of the undamaged store with cold trees and notes which pages that takes. */
export async function traceNeeds(built: BuiltStore): Promise<PageNeeds> {
  const database = await openDatabase(built.directory.clone(), () => {}, true);
  const { cache } = database.store.inspect();
  const model = stateAt(built.states, built.endLsn);
  const needs = new Map<string, Set<number>>();
  let present = new Set<number>();
  const { borrow, readData } = cache;
  // `get` is made of it.
  cache.borrow = (number, lsn, checksum) => {
    present.add(number);
    return borrow.call(cache, number, lsn, checksum);
  };
  cache.readData = (page, count, target, start) => {
    for (let i = 0; i < count; i++) present.add(page + i);
    readData.call(cache, page, count, target, start);
  };
  const cold = (): FileSystem => {
    for (const tree of database.store.live.trees()) tree.root = { ...tree.root };
    return fileSystemOver(database.store.live);
  };
  const visit = (inode: number, path: string, above: ReadonlySet<number>): void => {
    present = new Set(above);
    readAlone(cold(), model, inode);
    needs.set(path, present);
    const { entries } = model.inodes.get(inode)!;
    if (entries === undefined) return;
    const own = present;
    present = new Set(own);
    const fs = cold();
    fs.readdir(fs.opendir(ROOT_CALLER, inode), 0, () => true);
    needs.set(`${path}/`, present);
    for (const [name, child] of entries) {
      present = new Set(own);
      cold().lookup(ROOT_CALLER, inode, Buffer.from(name, 'utf8'));
      visit(child, `${path}/${name}`, present);
    }
  };
  visit(ROOT_INODE, '', new Set());
  await database.close();
  return needs;
}

/** Reads one inode with all that belongs to it. */
function readAlone(fs: FileSystem, model: ModelState, inode: number): void {
  const { content, target, xattrs } = model.inodes.get(inode)!;
  fs.getattr(ROOT_CALLER, inode);
  if (target !== undefined) fs.readlink(ROOT_CALLER, inode);
  if (content !== undefined)
    fs.read(fs.open(ROOT_CALLER, inode, O_RDONLY), 0, Buffer.alloc(content.length), 0, content.length);
  fs.listxattr(ROOT_CALLER, inode);
  for (const name of xattrs.keys()) fs.getxattr(ROOT_CALLER, inode, Buffer.from(name));
}

const overlaps = (a: ByteRange, b: ByteRange): boolean => a.file === b.file && a.from < b.to && b.from < a.to;

export class Laboratory {
  readonly built: BuiltStore;
  private readonly needs: PageNeeds;
  private readonly roots: readonly number[];

  private constructor(built: BuiltStore, needs: PageNeeds) {
    this.built = built;
    this.needs = needs;
    const kinds = pagesByKind(built);
    this.roots = [...(kinds.get('version root') ?? []), ...(kinds.get('catalog root') ?? [])];
  }

  static async over(built: BuiltStore): Promise<Laboratory> {
    return new Laboratory(built, await traceNeeds(built));
  }

  /** The pages that a path of the live state needs. */
  pagesOf(path: string): number[] {
    return [...this.needs.get(path)!];
  }

  /** The newest LSN that undamaged bytes say was durable. */
  private witnessed(damage: Damage): number {
    let lsn = 0;
    for (const witness of this.built.witnesses) {
      if (witness.durableLsn > lsn && !damage.touched.some((range) => overlaps(range, witness)))
        lsn = witness.durableLsn;
    }
    return lsn;
  }

  private damagedPages(damage: Damage): (page: number) => boolean {
    const { pageSize } = this.built;
    const ranges = damage.touched.filter(({ file }) => file === 'data');
    return (page) => ranges.some(({ from, to }) => page * pageSize < to && from < (page + 1) * pageSize);
  }

  /**
   * Damages a clone and uses it. `thorough` goes on with changes, the check and a second opening.
   * @throws Finding
   */
  async run(damage: Damage, random: Random, thorough: boolean): Promise<Outcome> {
    const directory = this.built.directory.clone();
    damage.apply(directory);
    let operations = 0;
    directory.fault = (operation, name) => {
      if (++operations > OPERATIONS_MAX)
        find(`more than ${OPERATIONS_MAX} device operations: ${operation} of ${name}`);
    };
    const warnings: string[] = [];
    const warn = (message: string): void => {
      warnings.push(message);
      if (
        message.includes('AssertionError') ||
        message.includes('TypeError') ||
        message.includes('RangeError')
      ) {
        find(`a warning tells of a bug: ${message}`);
      }
    };
    let database: Database;
    try {
      database = await openDatabase(directory, warn);
    } catch (error) {
      if (error instanceof Finding) throw error;
      const known = judgeError(error, 'opening', REFUSALS);
      if (this.sparesRoots(damage)) await this.readOnly(damage, random, known);
      return 'refused';
    }
    const { endLsn } = database.store.recovered;
    const witnessed = this.witnessed(damage);
    if (endLsn < witnessed && warnings.length === 0) {
      find(`the log ends at ${endLsn}, though ${witnessed} was durable and undamaged bytes say so`);
    }
    const model = stateAt(this.built.states, endLsn);
    const errors = this.readAll(database, damage, model, random, endLsn);
    const outcome = thorough ? await this.goOn(database, directory, model, random, warn) : 0;
    if (!thorough) {
      // As a kill leaves it.
      await database.store.log.close();
    }
    return errors + outcome + warnings.length > 0 ? 'errors' : 'harmless';
  }

  /** Whether the damage is one of pages, and none of them is a root: what is only read then opens. */
  private sparesRoots(damage: Damage): boolean {
    const isDamaged = this.damagedPages(damage);
    return damage.touched.every(({ file }) => file === 'data') && !this.roots.some(isDamaged);
  }

  /** A store that cannot be opened for changes, because replay needs a damaged page, shows what it has. */
  private async readOnly(damage: Damage, random: Random, why: LsnfsError): Promise<void> {
    if (!this.built.isCrashed) find(`nothing is to be replayed, and yet it does not open: ${why.stack}`);
    const directory = this.built.directory.clone();
    damage.apply(directory);
    const warnings: string[] = [];
    let database: Database;
    try {
      database = await openDatabase(directory, (message) => warnings.push(message), true);
    } catch (error) {
      find(`read-only it does not open either: ${error instanceof Error ? error.stack : String(error)}`);
    }
    const { lsn } = database.store.live;
    if (lsn < this.built.endLsn && warnings.length === 0)
      find(`an older state, ${lsn}, is shown without a word`);
    this.readAll(database, damage, stateAt(this.built.states, lsn), random, lsn);
    await database.close();
  }

  /** Reads the live state, snapshots and some other states. Returns how many errors there were. */
  private readAll(
    database: Database,
    damage: Damage,
    model: ModelState,
    random: Random,
    endLsn: number,
  ): number {
    const isDamaged = this.damagedPages(damage);
    const mustRead = (path: string): boolean => {
      const needs = endLsn === this.built.endLsn ? this.needs.get(path) : undefined;
      if (needs === undefined) return false;
      for (const page of needs) if (isDamaged(page)) return false;
      return true;
    };
    let { errors } = new Comparison(fileSystemOver(database.store.live), model, 'live', mustRead).run();
    const attempt = (where: string, work: () => void): void => {
      try {
        work();
      } catch (error) {
        if (error instanceof Finding) throw error;
        judgeError(error, where, DAMAGE);
        errors++;
      }
    };
    attempt('the list of snapshots', () => {
      const listed = database.snapshots.list().map(({ name, lsn }) => `${name} ${lsn}`);
      const expected = [...model.snapshots].map(([name, lsn]) => `${name} ${lsn}`);
      if (listed.sort().join('\n') !== expected.sort().join('\n')) find('the list of snapshots is wrong');
    });
    const past = (where: string, target: number | string, expected: ModelState): void =>
      attempt(where, () => {
        const view = database.at(target);
        const lease = database.history.open(view.lsn);
        try {
          errors += new Comparison(fileSystemOver(lease.state), expected, where, () => false).run().errors;
        } finally {
          lease.release();
          view.close();
        }
      });
    const names = [...model.snapshots];
    if (names.length > 0) {
      const [name, lsn] = names[random.below(names.length)]!;
      past(`@${name}`, name, stateAt(this.built.states, lsn));
    }
    const newest = database.history.range().newest;
    const { states } = this.built;
    for (let i = 0; i < 2; i++) {
      const state =
        states[i === 0 ? random.below(states.length) : Math.max(0, states.length - 1 - random.below(40))]!;
      if (state.lsn <= newest && state.lsn <= endLsn) past(`@lsn-${state.lsn}`, state.lsn, state);
    }
    return errors;
  }

  /** Changes the store, checks it, closes it, and looks again. Returns how many errors there were. */
  private async goOn(
    database: Database,
    directory: MemoryDirectory,
    model: ModelState,
    random: Random,
    warn: (message: string) => void,
  ): Promise<number> {
    let errors = 0;
    const codes = new Set([...DAMAGE, 'STORE_FAILED', 'TRANSACTION_POISONED']);
    const judge = (error: unknown, where: string): void => {
      if (error instanceof Finding) throw error;
      judgeError(error, where, codes);
      errors++;
    };
    const scribe = new Scribe(database, model);
    const { pageSize } = this.built;
    const changes: [string, () => void | Promise<void>][] = [
      ['create', () => scribe.create('/new', random.bytes(300))],
      ['create direct', () => scribe.create('/new-direct', random.bytes(9 * pageSize))],
      ['mkdir', () => scribe.mkdir('/new-directory')],
      ['write logged', () => scribe.write('/d/logged', random.below(2 * pageSize), random.bytes(2000))],
      ['snapshot', () => scribe.snapshot('after the damage')],
      ['unlink', () => scribe.unlink('/d/logged')],
    ];
    for (const [what, change] of changes) {
      const error = await scribe.attempt(change);
      if (error !== undefined) judge(error, what);
    }
    let committed = 0;
    try {
      await database.commit();
      committed = scribe.state.lsn;
    } catch (error) {
      judge(error, 'commit');
    }
    if (committed > 0 || database.store.failure === undefined) {
      new Comparison(
        fileSystemOver(database.store.live),
        scribe.state,
        'live after changes',
        () => false,
      ).run();
    }
    try {
      await database.store.checkpoint();
      errors += checkStore(database.store).problems.length;
      errors += checkFileSystem(database.store.live).length;
    } catch (error) {
      judge(error, 'checkpoint and check');
    }
    if (random.below(2) === 0) {
      try {
        await database.close();
      } catch (error) {
        judge(error, 'close');
      }
    } else {
      // A process that is killed: what is in the files stays.
      await database.store.log.close().catch((error: unknown) => judge(error, 'closing the log'));
    }
    let again: Database;
    try {
      again = await openDatabase(directory.clone(), warn);
    } catch (error) {
      if (error instanceof Finding) throw error;
      judgeError(error, 'opening again', REFUSALS);
      return errors + 1;
    }
    if (again.store.recovered.endLsn < committed) {
      find(`opened again, the log ends at ${again.store.recovered.endLsn}, and ${committed} was durable`);
    }
    const expected = stateAt(scribe.states, again.store.recovered.endLsn);
    new Comparison(fileSystemOver(again.store.live), expected, 'opened again', () => false).run();
    await again.store.log.close();
    return errors;
  }
}
