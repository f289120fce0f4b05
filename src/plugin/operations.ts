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
import { type Attributes, O_RDONLY, ROOT_CALLER, type Volume } from '../vfs/file-system.ts';
import type { CheckReport } from '../vfs/verify.ts';
import type { JsonObject } from './control-protocol.ts';
import { isDirectory, namesPastState, type Place, resolvePlace } from './paths.ts';
import { textOfBytes } from './text.ts';
import type { RunningVerification, ScrubStatus, VerificationJob, Verifications } from './verification.ts';
import { type EntryType, entryTypeOf } from './view.ts';

export interface SnapshotRow {
  readonly name: string;
  readonly lsn: number;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly message?: string;
}

/** What the operations need of a database; `Database` (database.ts) is one. */
export interface OperableDatabase {
  readonly volume: Volume;
  commit(): Promise<{ readonly lsn: number }>;
  readonly snapshots: {
    create(name: string, options?: { message?: string }): Promise<SnapshotRow>;
    list(): SnapshotRow[];
    delete(name: string): Promise<void>;
  };
  status(): Promise<object>;
  readonly verifications: Verifications;
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

/** How long the next page of a check is waited for, in milliseconds. */
const CHECK_PAGE_MS = 250;

/** An open directory or file and where in it the next page begins; or a check. */
interface Cursor {
  next(): ListPage | ReadPage;
  close(): void;
  readonly job?: VerificationJob;
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
function firstPage<Page extends ListPage | ReadPage>(database: OperableDatabase, cursor: Cursor): Page {
  let kept = false;
  try {
    const page = cursor.next() as Page;
    if (page.cursor === null) return page;
    const numbered = { ...page, cursor: keep(database, cursor) };
    kept = true;
    return numbered;
  } finally {
    if (!kept) cursor.close();
  }
}

function nextPage(database: OperableDatabase, number: number): ListPage | ReadPage {
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
    const next = (): never => invalid("this cursor is a check's");
    const cursor = keep(database, { next, close: () => job.cancel(), job });
    return { running: job.describe(), report: null, cursor };
  }
  const job = cursorsFor(database).open.get(number)?.job;
  if (job === undefined) return invalid('this cursor is of no check that is running');
  let timer: NodeJS.Timeout | undefined;
  const later = new Promise<void>((resolve) => {
    timer = setTimeout(resolve, CHECK_PAGE_MS);
  });
  try {
    await Promise.race([job.done, later]);
    if (!job.isEnded) return { running: job.describe(), report: null, cursor: number };
    return { running: job.describe(), report: await job.done, cursor: null };
  } finally {
    clearTimeout(timer);
    if (job.isEnded) cursorsFor(database).open.delete(number);
  }
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
  list,
  read,
  closeCursor,
  check,
  scrub,
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
  if (name === 'commit' || name === 'snapshotCreate') return true;
  if (name !== 'list' && name !== 'read') return false;
  return typeof args.path === 'string' && !namesPastState(args.path);
}

/** Whether an operation changes the store; the others can be done on one that is opened read-only. */
export function changesStore(name: OperationName): boolean {
  return name === 'commit' || name === 'snapshotCreate' || name === 'snapshotDelete';
}
