/**
 * Paths over a volume: from bytes to a file system and an inode.
 *
 * The same names mean the same as in the mount: "@…" at the root is an ordinary entry when there is one, else a
 * past state; "@" lists the snapshots. Symbolic links are followed inside the store; an absolute one speaks of the
 * machine that mounts the store and cannot be followed here.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  type Door,
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  type Volume,
} from '../vfs/file-system.ts';
import { textOfBytes } from './text.ts';

const PATH_MAX = 4096;
const NAME_MAX = 255;
const LINKS_MAX = 40;
const SLASH = 0x2f;
const AT = 0x40;

export interface Place {
  readonly fileSystem: FileSystem;
  /** The state that is looked into; undefined in the live one. Retain it to keep the place. */
  readonly door: Door | undefined;
  /** A copy. */
  readonly attributes: Attributes;
}

function split(path: Uint8Array): Buffer[] {
  const names: Buffer[] = [];
  let start = 0;
  for (let at = 0; at <= path.length; at++) {
    if (at < path.length && path[at] !== SLASH) continue;
    if (at > start) names.push(Buffer.from(path.subarray(start, at)));
    start = at + 1;
  }
  return names;
}

function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === 0x2e;
}

function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === 0x2e && name[1] === 0x2e;
}

export function isDirectory(attributes: Attributes): boolean {
  return (attributes.mode & S_IFMT) === S_IFDIR;
}

export function isSymbolicLink(attributes: Attributes): boolean {
  return (attributes.mode & S_IFMT) === S_IFLNK;
}

/** The state behind a name at the root. */
function openDoor(volume: Volume, name: Uint8Array): Door {
  const door = volume.door(name);
  if (door !== undefined) return door;
  const text = textOfBytes(name);
  throw new LsnfsError(
    'NO_SUCH_STATE',
    `there is no snapshot or state ${text}; 'lsnfs snapshot list' shows the snapshots, @lsn-N and @TIME name a state`,
    { name: text },
  );
}

function placeAt(volume: Volume, door: Door | undefined, inode: number): Place {
  const fileSystem = door?.fileSystem ?? volume.live;
  return { fileSystem, door, attributes: { ...fileSystem.getattr(ROOT_CALLER, inode) } };
}

/** Whether a path begins with "@": it may speak of a past state. */
export function beginsWithAt(path: Uint8Array): boolean {
  const first = path.findIndex((byte) => byte !== SLASH);
  return first >= 0 && path[first] === AT;
}

/**
 * Finds what `path` names; a leading "/" changes nothing. `followLast`: a symbolic link at the end is followed.
 * @throws LsnfsError ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, NO_SUCH_STATE
 */
export function resolvePath(volume: Volume, path: Uint8Array, followLast: boolean): Place {
  const shown = textOfBytes(path);
  if (path.length >= PATH_MAX)
    throw new LsnfsError(
      'ENAMETOOLONG',
      `a path of ${path.length} bytes is too long: ${PATH_MAX - 1} is the limit`,
    );
  if (path.includes(0)) throw new LsnfsError('INVALID_INPUT', 'a path cannot hold a NUL byte');
  const rest = split(path).reverse();
  const directoryWanted = path.length > 0 && path[path.length - 1] === SLASH;
  let stack: Place[] = [placeAt(volume, undefined, ROOT_INODE)];
  let links = 0;
  while (rest.length > 0) {
    const name = rest.pop()!;
    const parent = stack[stack.length - 1]!;
    if (!isDirectory(parent.attributes))
      throw new LsnfsError('ENOTDIR', `${shown}: a part of the path is not a directory`, { path: shown });
    if (isDot(name)) continue;
    if (isDotDot(name)) {
      if (stack.length > 1) stack.pop();
      continue;
    }
    if (name.length > NAME_MAX)
      throw new LsnfsError(
        'ENAMETOOLONG',
        `${shown}: a name of ${name.length} bytes is too long: ${NAME_MAX} is the limit`,
      );
    const child = step(volume, parent, stack.length === 1, name, shown);
    if (isSymbolicLink(child.attributes) && (rest.length > 0 || followLast || directoryWanted)) {
      if (++links > LINKS_MAX)
        throw new LsnfsError('ELOOP', `${shown}: more than ${LINKS_MAX} symbolic links`, { path: shown });
      const target = child.fileSystem.readlink(ROOT_CALLER, child.attributes.inode);
      if (target[0] === SLASH) {
        throw new LsnfsError(
          'INVALID_INPUT',
          `${shown}: a symbolic link points to ${textOfBytes(target)}, outside of the store`,
          { path: shown },
        );
      }
      rest.push(...split(target).reverse());
      continue;
    }
    stack = [...stack, child];
  }
  const found = stack[stack.length - 1]!;
  if (directoryWanted && !isDirectory(found.attributes))
    throw new LsnfsError('ENOTDIR', `${shown} is not a directory`, { path: shown });
  return found;
}

/** One component down. Only the root of the live state has doors; "@" has one for each snapshot. */
function step(volume: Volume, parent: Place, atRoot: boolean, name: Buffer, shown: string): Place {
  const inSnapshotList =
    parent.door !== undefined && parent.fileSystem === volume.door(Buffer.of(AT))?.fileSystem;
  if (inSnapshotList)
    return placeAt(volume, openDoor(volume, Buffer.concat([Buffer.of(AT), name])), ROOT_INODE);
  let attributes: Attributes | undefined;
  try {
    attributes = parent.fileSystem.lookup(ROOT_CALLER, parent.attributes.inode, name);
  } catch (error) {
    throw withPath(error, shown);
  }
  if (attributes !== undefined)
    return { fileSystem: parent.fileSystem, door: parent.door, attributes: { ...attributes } };
  if (atRoot && name[0] === AT) return placeAt(volume, openDoor(volume, name), ROOT_INODE);
  throw new LsnfsError('ENOENT', `${shown} does not exist in the store`, { path: shown });
}

/** A bare errno becomes a sentence about the path. */
function withPath(error: unknown, shown: string): unknown {
  if (error instanceof PosixError)
    return new LsnfsError(error.code, `${shown}: ${error.message}`, { path: shown });
  return error;
}
