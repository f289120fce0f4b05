/**
 * Paths over a volume: from text to a file system and an inode.
 *
 * The first name decides where the rest is looked for, as in the mount: "@…" is an ordinary entry of the live root
 * when there is one, else a past state; "@" lists the snapshots. The rest is the path resolver's (vfs/path.ts), in
 * that one file system.
 */
import { isReservedName } from '../encoding/names.ts';
import { type ErrorCode, LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  type Door,
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFMT,
  type Volume,
} from '../vfs/file-system.ts';
import { resolveInode } from '../vfs/path.ts';
import { bytesOfText, textOfBytes } from './text.ts';

const SLASH = 0x2f;
const DOT = 0x2e;
const AT = Buffer.from('@');

export interface Place {
  readonly fileSystem: FileSystem;
  /** The state that is looked into; undefined in the live one. Retain it to keep the place. */
  readonly door: Door | undefined;
  /** A copy. */
  readonly attributes: Attributes;
}

export function isDirectory(attributes: Attributes): boolean {
  return (attributes.mode & S_IFMT) === S_IFDIR;
}

/** The first name of a path and what follows it; slashes and "." before a name mean nothing. */
function splitFirst(path: Buffer): { first: Buffer; rest: Buffer } {
  let start = 0;
  for (;;) {
    while (path[start] === SLASH) start++;
    if (path[start] !== DOT || (start + 1 < path.length && path[start + 1] !== SLASH)) break;
    start++;
  }
  const end = path.indexOf(SLASH, start);
  if (end < 0) return { first: path.subarray(start), rest: Buffer.alloc(0) };
  return { first: path.subarray(start, end), rest: path.subarray(end) };
}

/** Whether a path can only speak of a past state; any other "@name" may be an ordinary entry. */
export function namesPastState(path: string): boolean {
  return isReservedName(splitFirst(Buffer.from(path, 'utf8')).first);
}

/** The state behind a name at the root. */
function openDoor(volume: Volume, name: Uint8Array): Door {
  const door = volume.door(name);
  if (door !== undefined) return door;
  const text = textOfBytes(name);
  throw new LsnfsError(
    'NO_SUCH_STATE',
    `there is no snapshot ${text}; 'lsnfs snapshot list' shows those that exist, and @lsn-N, @TIME or @latest name other states`,
    { name: text },
  );
}

/**
 * Finds what `text` names; a leading "/" changes nothing. `followLast`: a symbolic link at the end is followed.
 * @throws LsnfsError ENOENT, ENOTDIR, ELOOP, ENAMETOOLONG, NO_SUCH_STATE, …: a sentence that names the path
 */
export function resolvePlace(volume: Volume, text: string, followLast: boolean): Place {
  let path = bytesOfText(text);
  let door: Door | undefined;
  try {
    let { first, rest } = splitFirst(path);
    if (first[0] === AT[0] && volume.live.lookup(ROOT_CALLER, ROOT_INODE, first) === undefined) {
      if (first.equals(AT)) {
        // Its entries are links to "../@NAME", which lead out of it.
        const below = splitFirst(rest);
        if (below.first.length > 0) {
          first = Buffer.concat([AT, below.first]);
          rest = below.rest;
        }
      }
      door = openDoor(volume, first);
      path = rest;
    }
    const fileSystem = door?.fileSystem ?? volume.live;
    const found =
      path.length === 0
        ? fileSystem.getattr(ROOT_CALLER, ROOT_INODE)
        : resolveInode(fileSystem, ROOT_CALLER, path, { followLast });
    return { fileSystem, door, attributes: { ...found } };
  } catch (error) {
    throw explained(error, text);
  }
}

const SENTENCES: Partial<Record<ErrorCode, string>> = {
  ENOENT: 'does not exist in the store',
  ENOTDIR: 'cannot be reached: a part of the path is not a directory',
  ELOOP: 'leads through too many symbolic links',
  ENAMETOOLONG: 'is too long, or a name in it is',
};

/** A bare errno becomes a sentence about the path. */
export function explained(error: unknown, path: string): unknown {
  if (!(error instanceof PosixError)) return error;
  return new LsnfsError(error.code, `${path} ${SENTENCES[error.code] ?? `failed: ${error.message}`}`, {
    path,
  });
}
