/**
 * What lies in a store's directory, reached without ever leaving it.
 *
 * A store may come from somebody else, and root may open a store whose owner can change its names at any moment. So
 * what a name in a store leads to is never taken on trust:
 * - nothing inside is followed: a symbolic link in place of a file or of `wal` is refused and named. (How the
 *   store's own path is reached is its user's business.) A name below a sub-directory is reached through the
 *   descriptor of that directory, opened with O_NOFOLLOW, so that there is no moment in which it could be swapped;
 * - only regular files are opened, without waiting (O_NONBLOCK): a FIFO, a device or a directory in place of one is
 *   refused. What was opened is looked at again, by its descriptor;
 * - a file that is written to has one link: with a second one it is somebody's file elsewhere, too;
 * - what is made here is 0600 (directories 0700) whatever the umask, and belongs to whom the store belongs: root
 *   makes files for the owner, who could not open the store again otherwise. Files that are opened for writing and
 *   are wider than 0600 (a copy, made carelessly) are narrowed.
 *
 * Errors of the operating system are passed on as they are; what is refused is an LsnfsError UNSAFE_STORE.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { LsnfsError, systemErrorCode } from '../errors.ts';

const FILE_MODE = 0o600;
const DIRECTORY_MODE = 0o700;
const ALL_MODE_BITS = 0o7777;
const OTHERS = 0o077;
/** O_PATH of Linux, which Node does not name: a descriptor that stands for a name and opens nothing. */
const O_PATH = 0o10000000;
const { O_NOFOLLOW, O_NONBLOCK, O_DIRECTORY, O_CREAT, O_EXCL } = fs.constants;

const ACCESS = {
  read: fs.constants.O_RDONLY,
  write: fs.constants.O_RDWR,
  append: fs.constants.O_WRONLY | fs.constants.O_APPEND,
} as const;

function unsafe(full: string, what: string, advice: string): LsnfsError {
  return new LsnfsError('UNSAFE_STORE', `${full} ${what}: ${advice}`, { file: full });
}

function kindOf(stat: fs.Stats): string {
  if (stat.isSymbolicLink()) return 'a symbolic link';
  if (stat.isDirectory()) return 'a directory';
  if (stat.isFIFO()) return 'a FIFO';
  if (stat.isSocket()) return 'a socket';
  return stat.isFile() ? 'a file' : 'a device';
}

function notA(expected: string, stat: fs.Stats, full: string): LsnfsError {
  return unsafe(
    full,
    `is ${kindOf(stat)} and not ${expected}`,
    'nothing in a store leads out of it; put back what was there',
  );
}

/**
 * Calls `work` with a path to `name` (a plain name, or one below a sub-directory of the store) of which only the last
 * component can still be a link.
 * @throws LsnfsError UNSAFE_STORE when the sub-directory is none.
 */
export function inStore<Result>(store: string, name: string, work: (reachable: string) => Result): Result {
  const slash = name.indexOf('/');
  if (slash < 0) return work(path.join(store, name));
  const descriptor = openSubdirectory(store, name.slice(0, slash));
  try {
    return work(`/proc/self/fd/${descriptor}/${name.slice(slash + 1)}`);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** A descriptor of a directory in the store, or with '' of the store. The caller closes it. */
export function openSubdirectory(store: string, name: string): number {
  if (name === '') return fs.openSync(store, fs.constants.O_RDONLY | O_DIRECTORY);
  const full = path.join(store, name);
  try {
    return fs.openSync(full, fs.constants.O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ELOOP' || code === 'ENOTDIR') throw notA('a directory', fs.lstatSync(full), full);
    throw error;
  }
}

/** What stands under the name itself, or undefined. */
export function lstatInStore(store: string, name: string): fs.Stats | undefined {
  try {
    return inStore(store, name, (reachable) => fs.lstatSync(reachable));
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'ENOTDIR') return undefined;
    throw error;
  }
}

export interface OpenStoreFileOptions {
  readonly access: keyof typeof ACCESS;
  /** Makes the file if there is none. */
  readonly create?: boolean;
}

/** Opens a regular file in a store and returns its descriptor. @throws LsnfsError UNSAFE_STORE, or as open(2) */
export function openStoreFile(store: string, name: string, options: OpenStoreFileOptions): number {
  const full = path.join(store, name);
  const flags = ACCESS[options.access] | O_NOFOLLOW | O_NONBLOCK;
  return inStore(store, name, (reachable) => {
    // Looked at before it is opened too: opening a device can have effects.
    const present = fs.lstatSync(reachable, { throwIfNoEntry: false });
    if (present === undefined && options.create === true) {
      const descriptor = fs.openSync(reachable, flags | O_CREAT | O_EXCL, FILE_MODE);
      return orClose(descriptor, () => makePrivate(store, descriptor, FILE_MODE));
    }
    if (present !== undefined && !present.isFile()) throw notA('a file', present, full);
    const descriptor = fs.openSync(reachable, flags);
    return orClose(descriptor, () => {
      const stat = fs.fstatSync(descriptor);
      if (!stat.isFile()) throw notA('a file', stat, full);
      if (options.access === 'read') return;
      if (stat.nlink > 1) {
        const advice =
          'what is written to it would change them too; copy the file and put the copy in its place';
        throw unsafe(full, `has ${stat.nlink - 1} other names (hard links)`, advice);
      }
      if ((stat.mode & OTHERS) !== 0) fs.fchmodSync(descriptor, FILE_MODE);
    });
  });
}

/** The descriptor, unless `work` throws. */
function orClose(descriptor: number, work: () => void): number {
  try {
    work();
    return descriptor;
  } catch (error) {
    fs.closeSync(descriptor);
    throw error;
  }
}

/** Mode and owner for what has just been made. */
function makePrivate(store: string, descriptor: number, mode: number): void {
  const stat = fs.fstatSync(descriptor);
  if ((stat.mode & ALL_MODE_BITS) !== mode) fs.fchmodSync(descriptor, mode);
  if (process.geteuid?.() !== 0) return;
  const owner = fs.statSync(store);
  if (owner.uid !== stat.uid || owner.gid !== stat.gid) fs.fchownSync(descriptor, owner.uid, owner.gid);
}

/** The first `limit` bytes of a file in a store. @throws LsnfsError UNSAFE_STORE, or as open(2) */
export function readStoreFile(store: string, name: string, limit: number): Buffer {
  const descriptor = openStoreFile(store, name, { access: 'read' });
  try {
    const bytes = Buffer.alloc(Math.min(limit, fs.fstatSync(descriptor).size));
    let length = 0;
    while (length < bytes.length) {
      const count = fs.readSync(descriptor, bytes, length, bytes.length - length, length);
      if (count === 0) break;
      length += count;
    }
    return bytes.subarray(0, length);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Replaces a file by one with this text, through `temporary`, of which no remains may matter. */
export function replaceStoreFile(store: string, name: string, temporary: string, text: string): void {
  const at = path.join(store, temporary);
  fs.rmSync(at, { force: true });
  const descriptor = openStoreFile(store, temporary, { access: 'write', create: true });
  try {
    fs.writeSync(descriptor, text);
  } finally {
    fs.closeSync(descriptor);
  }
  fs.renameSync(at, path.join(store, name));
}

/** Makes a directory in a store, or accepts the one that is there. @throws LsnfsError UNSAFE_STORE */
export function makeStoreDirectory(store: string, name: string): void {
  try {
    fs.mkdirSync(path.join(store, name), { mode: DIRECTORY_MODE });
  } catch (error) {
    if (systemErrorCode(error) !== 'EEXIST') throw error;
  }
  const descriptor = openSubdirectory(store, name);
  try {
    makePrivate(store, descriptor, DIRECTORY_MODE);
  } finally {
    fs.closeSync(descriptor);
  }
}

/** Makes a socket that was just bound in the store private. @throws LsnfsError UNSAFE_STORE */
export function makeSocketPrivate(store: string, name: string): void {
  const socket = openSocketName(store, name);
  try {
    fs.chmodSync(socket.path, FILE_MODE);
    const owner = fs.statSync(store);
    if (process.geteuid?.() === 0) fs.chownSync(socket.path, owner.uid, owner.gid);
  } finally {
    socket.close();
  }
}

/**
 * A path that leads to the socket that stands under the name at this moment, and stays with it; short enough for
 * connect(2), whose addresses hold 107 bytes. Close it when the call is done.
 * @throws LsnfsError UNSAFE_STORE, or as open(2)
 */
export function openSocketName(store: string, name: string): { path: string; close: () => void } {
  const full = path.join(store, name);
  const descriptor = fs.openSync(full, O_PATH | O_NOFOLLOW);
  orClose(descriptor, () => {
    const stat = fs.fstatSync(descriptor);
    if (!stat.isSocket()) throw notA('a socket', stat, full);
  });
  return { path: `/proc/self/fd/${descriptor}`, close: () => fs.closeSync(descriptor) };
}

/**
 * Whether this process may open the store at all, as PostgreSQL asks of a data directory: it belongs to whoever opens
 * it (or root does), and nobody else can enter it.
 * @throws LsnfsError UNSAFE_STORE
 */
export function checkStoreDirectory(store: string): void {
  const stat = fs.statSync(store);
  const user = process.geteuid?.();
  if (user !== 0 && stat.uid !== user) {
    const advice = 'only that user and root may open it';
    throw unsafe(`the store ${store}`, `belongs to user ${stat.uid}, and this is user ${user}`, advice);
  }
  if ((stat.mode & OTHERS) !== 0) {
    const mode = (stat.mode & 0o777).toString(8).padStart(4, '0');
    const advice = `it holds everybody's files; see who was in, and close it with "chmod -R go= ${store}"`;
    throw unsafe(`the store ${store}`, `is open to other users (mode ${mode})`, advice);
  }
}

/**
 * Whether what a file in the store says may make code run: nobody but this user (or root) can have written it, and
 * nobody else can put another in its place.
 * @throws LsnfsError UNSAFE_STORE, or as lstat(2)
 */
export function checkTrustedFile(store: string, name: string): void {
  const full = path.join(store, name);
  const user = process.geteuid?.();
  const directory = fs.statSync(store);
  const stat = fs.lstatSync(full);
  const advice = 'modules that it names are loaded only when it is all of the user who runs lsnfs';
  if (directory.uid !== user || (stat.uid !== user && stat.uid !== 0)) {
    const owner = directory.uid === user ? stat.uid : directory.uid;
    throw unsafe(full, `is in the hands of user ${owner}, and this is user ${user}`, advice);
  }
  if (!stat.isFile()) throw notA('a file', stat, full);
  if ((stat.mode & 0o022) !== 0) throw unsafe(full, 'can be written by other users', advice);
}
