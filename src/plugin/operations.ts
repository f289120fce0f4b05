/**
 * The operations of the command line on an open database, by name, with arguments and results that are JSON.
 *
 * The same code runs when the command opens the store itself and when the daemon of a mount has it open and the
 * request came through its control socket: so a command gives the same result either way. Arguments come from
 * outside and are checked here.
 *
 * What is long is given in pieces, in bounded memory: `list` and `read` answer with a first piece and a `cursor`
 * while there is more; the next piece is asked for with that. A cursor holds the directory or the file open, so a
 * file that is replaced or removed meanwhile is read to its end as it was opened.
 *
 * To add one: write the function, name it in OPERATIONS.
 */
import { LsnfsError } from '../errors.ts';
import type { History } from '../history/history.ts';
import { parseLsn, parseTime, type Target } from '../history/targets.ts';
import type { Store } from '../store/store.ts';
import { type Attributes, O_RDONLY, ROOT_CALLER, type Volume } from '../vfs/file-system.ts';
import type { CheckReport } from '../vfs/verify.ts';
import type { CollectionJob, CollectionResult, Collections } from './collection.ts';
import type { CompactionJob, CompactionProgress, CompactionReport, Compactions } from './compaction-job.ts';
import { changeSetting, readSettings } from './configuration.ts';
import type { JsonObject } from './control-protocol.ts';
import { type Comparison, compareStates, type DiffEntry, type DiffStatistics } from './difference.ts';
import { type ExportTally, exportTar } from './export-tar.ts';
import { ImportSpool } from './import-spool.ts';
import type { ImportTally } from './import-tar.ts';
import { type LogEntry, type LogListing, type LogMoment, type LogQuery, openLog } from './log.ts';
import { isDirectory, namesPastState, type Place, resolvePlace } from './paths.ts';
import { oneTarget, type RestoreOptions, type RestoreResult } from './restoration.ts';
import { momentsOf, type RetentionReport, reportRange, reportRetention } from './retention-report.ts';
import { reportState } from './states.ts';
import { bytesOfText, textOfBytes } from './text.ts';
import type { Transaction } from './transaction.ts';
import type { RunningVerification, ScrubStatus, VerificationJob, Verifications } from './verification.ts';
import { ENTRY_TYPES, type EntryType, entryTypeOf } from './view.ts';

export interface SnapshotRow {
  readonly name: string;
  readonly lsn: number;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly message?: string;
  /** Tags of who holds it, if there are any. */
  readonly holds?: readonly string[];
}

/** What the operations need of a database; `Database` (database.ts) is one. */
export interface OperableDatabase {
  readonly volume: Volume;
  commit(): Promise<{ readonly lsn: number }>;
  readonly snapshots: {
    create(name: string, options?: { message?: string }): Promise<SnapshotRow>;
    list(): SnapshotRow[];
    delete(name: string): Promise<void>;
    hold(name: string, tag: string): Promise<SnapshotRow>;
    release(name: string, tag: string): Promise<SnapshotRow>;
    rename(from: string, to: string): Promise<SnapshotRow>;
  };
  status(): Promise<object>;
  restore(target: Target, options: RestoreOptions): Promise<RestoreResult>;
  transaction<Result>(work: (transaction: Transaction) => Result): Promise<{ lsn: number; result: Result }>;
  readonly verifications: Verifications;
  readonly collections: Collections;
  readonly compactions: Compactions;
  readonly history: History;
  readonly store: Store;
}

/** One entry of `list`. Names are text as in text.ts; times are RFC 3339 with nanoseconds. */
export interface ListEntry {
  readonly name: string;
  readonly type: EntryType;
  /** Permission bits, with setuid, setgid and sticky. */
  readonly mode: number;
  readonly inode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly device?: { readonly major: number; readonly minor: number };
  readonly accessedAt: string | null;
  readonly modifiedAt: string | null;
  readonly changedAt: string | null;
  readonly createdAt: string | null;
  /** Of a symbolic link. */
  readonly target?: string;
}

export interface ListPage {
  /** Whether the path is a directory, of which these are entries; otherwise the one entry is the path itself. */
  readonly directory: boolean;
  readonly entries: ListEntry[];
  readonly cursor: number | null;
}

export interface ReadPage {
  /** Base64. */
  readonly data: string;
  readonly cursor: number | null;
}

/** A piece of what differs between two states; pages without entries come while they are being compared. */
export interface DiffPage {
  /** LSNs. */
  readonly from: number;
  readonly to: number;
  readonly entries: readonly DiffEntry[];
  /** Of the comparison so far. */
  readonly statistics: DiffStatistics;
  readonly cursor: number | null;
}

/** A piece of a log, newest first; pages without entries come while it is looked for. */
export interface LogPage {
  readonly entries: readonly LogEntry[];
  readonly cursor: number | null;
}

/** A piece of a tar archive. */
export interface ExportPage extends ReadPage {
  /** Entries in the archive so far. */
  readonly entries: number;
  /** Paths in this piece that a tar archive cannot hold. */
  readonly skipped: readonly string[];
}

/** How an import is getting on; its end is an ImportEnd. */
export interface ImportPage {
  /** Of the archive, that have arrived. */
  readonly bytes: number;
  readonly cursor: number;
}

export interface ImportEnd extends ImportTally {
  readonly lsn: number;
  /** What was left out, a sentence each; the first of them. */
  readonly warnings: readonly string[];
  readonly cursor: null;
}

/** Warnings of an import that are told. */
const WARNINGS_MAX = 1000;
const ENTRIES_PER_PAGE = 1024;
/** A multiple of three, so that the base64 of the pieces can be joined. */
const BYTES_PER_PAGE = 3 << 17;
const CURSORS_MAX = 256;

/** How a check is getting on; while it runs the answer has a cursor, at its end the report. */
export interface CheckPage {
  readonly running: RunningVerification;
  readonly report: CheckReport | null;
  readonly cursor: number | null;
}

/** How a collection is getting on; while it runs the answer has a cursor, at its end the result. */
export interface CollectionPage {
  readonly running: { readonly versions: number; readonly pages: number } | null;
  readonly result: CollectionResult | null;
  readonly cursor: number | null;
}

/** The same of a compaction. */
export interface CompactionPage {
  readonly running: CompactionProgress | null;
  readonly result: CompactionReport | null;
  readonly cursor: number | null;
}

/** How long the next page of a check or a collection is waited for, in milliseconds. */
const CHECK_PAGE_MS = 250;

type Page = ListPage | ReadPage | DiffPage | LogPage;

/** An open directory or file and where in it the next page begins; or a check. */
interface Cursor extends Jobs {
  next(): Page;
  close(): void;
  readonly spool?: ImportSpool;
}

/** Work that goes on between the pages of its cursor: one of these. */
interface Jobs {
  readonly check?: VerificationJob;
  readonly collection?: CollectionJob;
  readonly compaction?: CompactionJob;
}

interface Cursors {
  readonly open: Map<number, Cursor>;
  nextNumber: number;
}

const cursorsOf = new WeakMap<OperableDatabase, Cursors>();

function cursorsFor(database: OperableDatabase): Cursors {
  let cursors = cursorsOf.get(database);
  if (cursors === undefined) {
    cursors = { open: new Map(), nextNumber: 1 };
    cursorsOf.set(database, cursors);
  }
  return cursors;
}

/** Keeps a cursor that has more to give, and returns its number. */
function keep(database: OperableDatabase, cursor: Cursor): number {
  const cursors = cursorsFor(database);
  if (cursors.open.size >= CURSORS_MAX) {
    throw new LsnfsError(
      'EMFILE',
      `${CURSORS_MAX} listings and files are being read at once through this store's socket; try again`,
    );
  }
  const number = cursors.nextNumber++;
  cursors.open.set(number, cursor);
  return number;
}

function invalid(what: string): never {
  throw new LsnfsError('INVALID_INPUT', what);
}

function textArgument(args: JsonObject, name: string): string {
  const value = args[name];
  return typeof value === 'string' ? value : invalid(`the argument '${name}' must be a text`);
}

function bytesArgument(args: JsonObject, name: string): Buffer {
  const text = textArgument(args, name);
  const bytes = Buffer.from(text, 'base64');
  return bytes.toString('base64') === text ? bytes : invalid(`the argument '${name}' must be base64`);
}

function cursorArgument(args: JsonObject): number | undefined {
  const value = args.cursor;
  if (value === undefined || Number.isSafeInteger(value)) return value as number | undefined;
  return invalid("the argument 'cursor' must be a number");
}

function sizeArgument(args: JsonObject, name: string): number | undefined {
  const value = args[name];
  if (value === undefined || (Number.isSafeInteger(value) && (value as number) >= 0))
    return value as number | undefined;
  return invalid(`the argument '${name}' must be a whole number from 0 on`);
}

/** null for a year that RFC 3339 cannot write. */
export function timeText(seconds: number, nanoseconds: number): string | null {
  const date = new Date(seconds * 1000);
  const year = date.getUTCFullYear();
  if (!(year >= 0 && year <= 9999)) return null;
  return `${date.toISOString().slice(0, 19)}.${String(nanoseconds).padStart(9, '0')}Z`;
}

function describe(place: Pick<Place, 'fileSystem'>, name: string, a: Attributes): ListEntry {
  const type = entryTypeOf(a.mode);
  return {
    name,
    type,
    mode: a.mode & 0o7777,
    inode: a.inode,
    links: a.links,
    uid: a.uid,
    gid: a.gid,
    size: a.size,
    // new_encode_dev of the kernel: twelve bits of major between the two parts of minor.
    ...(type.endsWith('device') && {
      device: { major: (a.device >>> 8) & 0xfff, minor: (a.device & 0xff) | ((a.device >>> 12) & 0xfff00) },
    }),
    accessedAt: timeText(a.accessSeconds, a.accessNanoseconds),
    modifiedAt: timeText(a.modifySeconds, a.modifyNanoseconds),
    changedAt: timeText(a.changeSeconds, a.changeNanoseconds),
    createdAt: timeText(a.birthSeconds, a.birthNanoseconds),
    ...(type === 'symlink' && { target: textOfBytes(place.fileSystem.readlink(ROOT_CALLER, a.inode)) }),
  };
}

/** The first page of what `make` opens; the cursor is kept only if there is more. */
function firstPage<Kind extends Page>(database: OperableDatabase, cursor: Cursor): Kind {
  let kept = false;
  try {
    const page = cursor.next() as Kind;
    if (page.cursor === null) return page;
    const numbered = { ...page, cursor: keep(database, cursor) };
    kept = true;
    return numbered;
  } finally {
    if (!kept) cursor.close();
  }
}

function nextPage(database: OperableDatabase, number: number): Page {
  const { open } = cursorsFor(database);
  const cursor = open.get(number);
  if (cursor === undefined) return invalid('this cursor is not open (any more)');
  let more = false;
  try {
    const page = cursor.next();
    more = page.cursor !== null;
    return { ...page, cursor: more ? number : null };
  } finally {
    if (!more) {
      open.delete(number);
      cursor.close();
    }
  }
}

/** A cursor's `next` says -1 for "more"; its number is given by who keeps it. */
const MORE = -1;

function directoryCursor(place: Place): Cursor {
  const { fileSystem, door } = place;
  const handle = fileSystem.opendir(ROOT_CALLER, place.attributes.inode);
  door?.retain(1);
  let cookie = 0;
  return {
    next() {
      const found: { name: Buffer; inode: number }[] = [];
      let more = false;
      fileSystem.readdir(handle, cookie, (name, inode, _mode, nextCookie) => {
        if (found.length >= ENTRIES_PER_PAGE) {
          more = true;
          return false;
        }
        cookie = nextCookie;
        const isDots = name[0] === 0x2e && (name.length === 1 || (name.length === 2 && name[1] === 0x2e));
        if (!isDots) found.push({ name: Buffer.from(name), inode });
        return true;
      });
      const entries = found.map(({ name, inode }) =>
        describe(place, textOfBytes(name), fileSystem.getattr(ROOT_CALLER, inode)),
      );
      return { directory: true, entries, cursor: more ? MORE : null };
    },
    close() {
      fileSystem.releasedir(handle);
      door?.release(1);
    },
  };
}

function list(database: OperableDatabase, args: JsonObject): ListPage {
  const number = cursorArgument(args);
  if (number !== undefined) return nextPage(database, number) as ListPage;
  const path = textArgument(args, 'path');
  const place = resolvePlace(database.volume, path, args.follow !== false);
  if (!isDirectory(place.attributes)) {
    return { directory: false, entries: [describe(place, path, place.attributes)], cursor: null };
  }
  return firstPage(database, directoryCursor(place));
}

/** Damage is told with the path that it was met under. */
function readNamed<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!(error instanceof LsnfsError) || !error.code.startsWith('CORRUPT_')) throw error;
    throw new LsnfsError(error.code, `cannot read ${path}: ${error.message}`, error.details, {
      cause: error,
    });
  }
}

function fileCursor(path: string, place: Place, start: number, length: number): Cursor {
  const { fileSystem, door } = place;
  const handle = fileSystem.open(ROOT_CALLER, place.attributes.inode, O_RDONLY);
  door?.retain(1);
  let offset = start;
  let left = length;
  return {
    next() {
      const buffer = Buffer.allocUnsafe(Math.min(left, BYTES_PER_PAGE));
      let filled = 0;
      while (filled < buffer.length) {
        const count = readNamed(path, () =>
          fileSystem.read(handle, offset + filled, buffer, filled, buffer.length - filled),
        );
        if (count === 0) break;
        filled += count;
      }
      offset += filled;
      left -= filled;
      const more = filled === buffer.length && left > 0;
      return { data: buffer.toString('base64', 0, filled), cursor: more ? MORE : null };
    },
    close() {
      fileSystem.release(handle);
      door?.release(1);
    },
  };
}

function read(database: OperableDatabase, args: JsonObject): ReadPage {
  const number = cursorArgument(args);
  if (number !== undefined) return nextPage(database, number) as ReadPage;
  const path = textArgument(args, 'path');
  const offset = sizeArgument(args, 'offset') ?? 0;
  const length = sizeArgument(args, 'length') ?? Number.MAX_SAFE_INTEGER;
  const place = resolvePlace(database.volume, path, true);
  const type = entryTypeOf(place.attributes.mode);
  if (type === 'directory')
    throw new LsnfsError('EISDIR', `${path} is a directory; 'lsnfs ls' lists it`, { path });
  if (type !== 'file')
    throw new LsnfsError('INVALID_INPUT', `${path} is a ${type}, which has no content`, { path });
  return firstPage(database, fileCursor(path, place, offset, length));
}

function archiveCursor(place: Place, name: Buffer): Cursor {
  const { fileSystem, door, attributes } = place;
  const tally: ExportTally = { entries: 0, skipped: [] };
  const pieces = exportTar(fileSystem, name, attributes, tally);
  let rest: Buffer | undefined;
  door?.retain(1);
  return {
    next() {
      const page: Buffer[] = [];
      let room = BYTES_PER_PAGE;
      let ended = false;
      while (room > 0 && !ended) {
        const step = rest === undefined ? pieces.next() : { value: rest, done: false };
        const piece = step.value ?? Buffer.alloc(0);
        ended = step.done === true;
        page.push(piece.subarray(0, room));
        rest = piece.length > room ? piece.subarray(room) : undefined;
        room -= Math.min(room, piece.length);
      }
      const { skipped } = tally;
      tally.skipped = [];
      const data = Buffer.concat(page).toString('base64');
      return { data, cursor: ended ? null : MORE, entries: tally.entries, skipped };
    },
    close() {
      pieces.return();
      door?.release(1);
    },
  };
}

/**
 * The first page fixes the state that is exported: of the live one, what it is then. A directory's archive begins with
 * "./", that of anything else holds it under its own name.
 */
async function exportArchive(database: OperableDatabase, args: JsonObject): Promise<ExportPage> {
  const number = cursorArgument(args);
  if (number !== undefined) return nextPage(database, number) as ExportPage;
  const path = textArgument(args, 'path');
  const { volume } = database;
  let place = resolvePlace(volume, path, false);
  if (place.door === undefined) {
    if (!volume.live.readOnly) await database.commit();
    const door = volume.door(Buffer.from('@latest'))!;
    const attributes = readNamed(path, () =>
      door.fileSystem.getattr(ROOT_CALLER, resolvePlace(volume, path, false).attributes.inode),
    );
    place = { fileSystem: door.fileSystem, door, attributes: { ...attributes } };
  }
  const bytes = bytesOfText(path.replace(/\/+$/, ''));
  const name = isDirectory(place.attributes) ? Buffer.from('.') : bytes.subarray(bytes.lastIndexOf('/') + 1);
  return firstPage<ExportPage>(database, archiveCursor(place, name));
}

/**
 * A tar archive into the live state: `path` begins, each `data` (base64) with the cursor is the next piece, and `end` applies
 * the whole in one transaction. Whoever goes away before that has changed nothing.
 */
async function importArchive(database: OperableDatabase, args: JsonObject): Promise<ImportPage | ImportEnd> {
  const number = cursorArgument(args);
  if (number === undefined) {
    const path = textArgument(args, 'path');
    if (namesPastState(path)) return invalid(`${path} is a past state, which cannot be changed`);
    if (database.volume.live.readOnly)
      throw new LsnfsError('READ_ONLY', 'the store is open for reading only');
    const spool = new ImportSpool(database.store.directory, path);
    try {
      const next = (): never => invalid("this cursor is an import's");
      return { bytes: 0, cursor: keep(database, { next, close: () => spool.close(), spool }) };
    } catch (error) {
      spool.close();
      throw error;
    }
  }
  const spool = cursorsFor(database).open.get(number)?.spool;
  if (spool === undefined) return invalid('this cursor is of no import that is under way');
  if (args.end !== true) {
    spool.append(bytesArgument(args, 'data'));
    return { bytes: spool.bytes, cursor: number };
  }
  // Only once, however it ends; the connection's end closes it no more.
  cursorsFor(database).open.delete(number);
  try {
    const warnings: string[] = [];
    const { lsn, result } = await database.transaction((transaction) =>
      transaction.importTar(bytesOfText(spool.path), spool.read, {
        warn: (message) => {
          if (warnings.length < WARNINGS_MAX) warnings.push(message);
        },
      }),
    );
    return { lsn, ...result, warnings, cursor: null };
  } finally {
    spool.close();
  }
}

function differenceCursor(comparison: Comparison): Cursor {
  return {
    next() {
      const entries = comparison.step() ? comparison.nextEntries(ENTRIES_PER_PAGE) : [];
      const { from, to, statistics, isEnded } = comparison;
      return { from, to, entries, statistics, cursor: isEnded ? null : MORE };
    },
    close: () => comparison.close(),
  };
}

/** Both states are fixed by the first page: of the live one, what it is then. */
async function diff(database: OperableDatabase, args: JsonObject): Promise<DiffPage> {
  const number = cursorArgument(args);
  if (number !== undefined) return nextPage(database, number) as DiffPage;
  const types = textsArgument(args, 'types');
  const comparison = await compareStates(
    database,
    textArgument(args, 'from'),
    args.to === undefined ? undefined : textArgument(args, 'to'),
    {
      paths: textsArgument(args, 'paths')?.map(bytesOfText) ?? [],
      ...(types !== undefined && { types: types.map(entryTypeNamed) }),
    },
  );
  return firstPage<DiffPage>(database, differenceCursor(comparison));
}

function logCursor(listing: LogListing<LogEntry>): Cursor {
  return {
    next() {
      const entries = listing.step(ENTRIES_PER_PAGE);
      return { entries, cursor: listing.isEnded ? null : MORE };
    },
    close: () => listing.close(),
  };
}

function flagArgument(args: JsonObject, name: string): boolean {
  const value = args[name];
  if (value === undefined || typeof value === 'boolean') return value === true;
  return invalid(`the argument '${name}' must be true or false`);
}

/** A log ends with what was done before its first page. */
async function log(database: OperableDatabase, args: JsonObject): Promise<LogPage> {
  const number = cursorArgument(args);
  if (number !== undefined) return nextPage(database, number) as LogPage;
  const moment = (name: string): LogMoment | undefined =>
    args[name] === undefined ? undefined : textArgument(args, name);
  const [since, until] = [moment('since'), moment('until')];
  const limit = sizeArgument(args, 'limit');
  const options: LogQuery = {
    ...(args.path !== undefined && { path: bytesOfText(textArgument(args, 'path')) }),
    follow: flagArgument(args, 'follow'),
    transactions: flagArgument(args, 'transactions'),
    ...(since !== undefined && { since }),
    ...(until !== undefined && { until }),
    ...(limit !== undefined && { limit }),
  };
  return firstPage<LogPage>(database, logCursor(await openLog(database, options)));
}

function textsArgument(args: JsonObject, name: string): string[] | undefined {
  const value = args[name];
  if (value === undefined) return undefined;
  if (Array.isArray(value) && value.every((text) => typeof text === 'string')) return value as string[];
  return invalid(`the argument '${name}' must be a list of texts`);
}

function entryTypeNamed(name: string): EntryType {
  return ENTRY_TYPES.find((type) => type === name) ?? invalid(`there is no type '${name}' of files`);
}

function closeCursor(database: OperableDatabase, args: JsonObject): null {
  const number = cursorArgument(args) ?? invalid("the argument 'cursor' is missing");
  const { open } = cursorsFor(database);
  const cursor = open.get(number);
  open.delete(number);
  cursor?.close();
  return null;
}

/** The first page starts a check, which ends with its cursor: when whoever asked for it goes away, nobody wants it. */
async function check(database: OperableDatabase, args: JsonObject): Promise<CheckPage> {
  const number = cursorArgument(args);
  if (number === undefined) {
    const job = await database.verifications.start('check');
    const cursor = keepJob(database, { check: job }, () => job.cancel());
    return { running: job.describe(), report: null, cursor };
  }
  const { job, isEnded } = await nextOfJob(database, number, 'check');
  if (!isEnded) return { running: job.describe(), report: null, cursor: number };
  return { running: job.describe(), report: await job.done, cursor: null };
}

/** Keeps a cursor of work that goes on between its pages. */
function keepJob(database: OperableDatabase, jobs: Jobs, close: () => void = () => {}): number {
  const [kind] = Object.keys(jobs);
  return keep(database, { next: () => invalid(`this cursor is a ${kind}'s`), close, ...jobs });
}

/** The work of a cursor, when its next page is due or it has ended; then the cursor is closed. @throws what the work does */
async function nextOfJob<Kind extends keyof Jobs>(
  database: OperableDatabase,
  number: number,
  kind: Kind,
): Promise<{ job: NonNullable<Jobs[Kind]>; isEnded: boolean }> {
  const { open } = cursorsFor(database);
  const job = open.get(number)?.[kind];
  if (job === undefined) return invalid(`this cursor is of no ${kind} that is running`);
  try {
    await endOrPage(job.done);
  } finally {
    if (job.isEnded) open.delete(number);
  }
  return { job, isEnded: job.isEnded };
}

/** Waits for the end of a job, or until the next page is due. @throws what the job does */
async function endOrPage(done: Promise<unknown>): Promise<void> {
  let timer: NodeJS.Timeout | undefined;
  const later = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, CHECK_PAGE_MS);
  });
  try {
    await Promise.race([done, later]);
  } finally {
    clearTimeout(timer);
  }
}

/** The first page starts a collection, which goes on when nobody asks for the next; with `dryRun` it is all there is. */
async function gc(database: OperableDatabase, args: JsonObject): Promise<CollectionPage> {
  const number = cursorArgument(args);
  if (number === undefined) {
    if (args.dryRun === true) {
      return { running: null, result: await database.collections.preview(), cursor: null };
    }
    const collection = database.collections.start(args.fullSpeed === true);
    return { running: collection.describe(), result: null, cursor: keepJob(database, { collection }) };
  }
  const { job, isEnded } = await nextOfJob(database, number, 'collection');
  if (!isEnded) return { running: job.describe(), result: null, cursor: number };
  return { running: null, result: await job.done, cursor: null };
}

/** As `gc`: the first page starts a compaction; with `dryRun` it is all there is. */
async function compact(database: OperableDatabase, args: JsonObject): Promise<CompactionPage> {
  const number = cursorArgument(args);
  if (number === undefined) {
    if (args.dryRun === true) {
      return { running: null, result: await database.compactions.preview(), cursor: null };
    }
    const compaction = database.compactions.start(args.fullSpeed === true);
    return { running: compaction.describe(), result: null, cursor: keepJob(database, { compaction }) };
  }
  const { job, isEnded } = await nextOfJob(database, number, 'compaction');
  if (!isEnded) return { running: job.describe(), result: null, cursor: number };
  return { running: null, result: await job.done, cursor: null };
}

/** What is kept and why; without `dryRun` the rest is let go, and its pages are reclaimed in the background. */
async function retention(database: OperableDatabase, args: JsonObject): Promise<RetentionReport> {
  const { history, store } = database;
  if (args.dryRun === true) {
    if (!store.readOnly && store.failure === undefined) await store.checkpoint();
    history.releaseIdle();
    return reportRetention(database, history.decideRetention(), false);
  }
  // The store does it by itself, too: maybe while the checkpoint is written.
  const before = momentsOf(database);
  let report: RetentionReport | undefined;
  do await store.checkpoint();
  while (
    !history.applyRetention((decision) => {
      report = reportRetention(database, decision, true, before);
    })
  );
  // The decision is durable with the next checkpoint of the catalog, which this makes.
  await store.checkpointCatalog();
  return report!;
}

/** Starts or stops a scrub, or says how it is getting on; it goes on by itself. */
async function scrub(
  database: OperableDatabase,
  args: JsonObject,
): Promise<ScrubStatus & { stopped: boolean }> {
  const { verifications } = database;
  let stopped = false;
  switch (args.action) {
    case 'start':
      await verifications.start('scrub', sizeArgument(args, 'bytesPerSecond') ?? null);
      break;
    case 'stop':
      stopped = verifications.stopScrub();
      break;
    case 'status':
      break;
    default:
      return invalid("the argument 'action' must be 'start', 'stop' or 'status'");
  }
  return { ...verifications.scrubStatus(), stopped };
}

/** Exactly one of `lsn`, `time` (RFC 3339, or relative: "10 minutes ago") and `name` says what is restored. */
function restoreOperation(database: OperableDatabase, args: JsonObject): Promise<RestoreResult> {
  const paths = textsArgument(args, 'paths')?.map((path) => bytesOfText(path));
  const time = args.time === undefined ? undefined : textArgument(args, 'time');
  const target = oneTarget([
    args.lsn === undefined ? undefined : { kind: 'lsn', lsn: parseLsn(textArgument(args, 'lsn')) },
    time === undefined
      ? undefined
      : { kind: 'time', timeMicroseconds: parseTime(time, database.store.now()) },
    args.name === undefined ? undefined : { kind: 'name', name: textArgument(args, 'name') },
  ]);
  const exclusive = args.exclusive === true;
  return database.restore(target, { ...(paths && { paths }), exclusive, dryRun: args.dryRun === true });
}

type Operation = (database: OperableDatabase, args: JsonObject) => unknown;

const OPERATIONS = {
  commit: (database) => database.commit(),
  status: (database) => database.status(),
  snapshotCreate(database, args) {
    const name = textArgument(args, 'name');
    return database.snapshots.create(
      name,
      args.message === undefined ? {} : { message: textArgument(args, 'message') },
    );
  },
  snapshotList: (database) => database.snapshots.list(),
  async snapshotDelete(database, args) {
    const name = textArgument(args, 'name');
    await database.snapshots.delete(name);
    return { name };
  },
  snapshotHold: ({ snapshots }, args) =>
    snapshots.hold(textArgument(args, 'name'), textArgument(args, 'tag')),
  snapshotRelease: ({ snapshots }, args) =>
    snapshots.release(textArgument(args, 'name'), textArgument(args, 'tag')),
  snapshotRename: ({ snapshots }, args) =>
    snapshots.rename(textArgument(args, 'name'), textArgument(args, 'to')),
  list,
  read,
  export: exportArchive,
  import: importArchive,
  diff,
  log,
  show: (database, args) => reportState(database, textArgument(args, 'state')),
  closeCursor,
  check,
  scrub,
  configGet: ({ store }, args) =>
    readSettings(store, args.key === undefined ? undefined : textArgument(args, 'key')),
  configSet: ({ store }, args) =>
    changeSetting(store, textArgument(args, 'key'), textArgument(args, 'value')),
  retention,
  range: (database) => reportRange(database),
  gc,
  restore: restoreOperation,
  compact,
} as const satisfies Record<string, Operation>;

export type OperationName = keyof typeof OPERATIONS;

export async function executeOperation(
  database: OperableDatabase,
  name: string,
  args: JsonObject,
): Promise<unknown> {
  const operation = Object.hasOwn(OPERATIONS, name)
    ? (OPERATIONS[name as OperationName] as Operation)
    : undefined;
  if (operation === undefined) {
    return invalid(
      `'${name}' is no operation of this version of lsnfs; the daemon may be older than the command`,
    );
  }
  return operation(database, args);
}

/**
 * Whether an operation speaks of the live state as programs see it, so that what the kernel has not yet written
 * must be flushed before it runs on a mount. Only the first page of a listing or a file counts.
 */
export function needsFlushedMount(name: string, args: JsonObject): boolean {
  if (name === 'commit' || name === 'snapshotCreate' || name === 'restore') return true;
  if (name === 'log') return args.cursor === undefined;
  // Old content of files that make way belongs to whoever has them open.
  if (name === 'import') return args.end === true;
  if (name === 'diff') {
    if (args.cursor !== undefined) return false;
    return (
      args.to === undefined || [args.from, args.to].some((state) => state === 'live' || state === '@live')
    );
  }
  if (name !== 'list' && name !== 'read' && name !== 'export') return false;
  return typeof args.path === 'string' && !namesPastState(args.path);
}

/** Whether an operation depends on which states are open: what the kernel only remembers is let go of before it. */
export function looksAtLeases(name: string, args: JsonObject): boolean {
  const isFirst = args.cursor === undefined;
  return name === 'retention' || name === 'show' || ((name === 'gc' || name === 'compact') && isFirst);
}

/** Whether an operation changes the store; the others can be done on one that is opened read-only. */
export function changesStore(name: OperationName, args: JsonObject = {}): boolean {
  if (name === 'configSet' || name === 'snapshotHold' || name === 'snapshotRelease') return true;
  if (name === 'snapshotRename' || name === 'import') return true;
  if (name === 'gc' || name === 'compact' || name === 'retention' || name === 'restore')
    return args.dryRun !== true;
  return name === 'commit' || name === 'snapshotCreate' || name === 'snapshotDelete';
}
