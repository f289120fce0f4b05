/**
 * Paths over a file system: what the kernel does for a mount, done here for the API and the command line. Rules
 * of path_resolution(7): symbolic links are followed (the last one if asked, or if a slash follows it), 40 at
 * most; ".." of the root is the root; a trailing slash demands a directory.
 */
import { PosixError } from '../errors.ts';
import { isDot, isDotDot } from './core.ts';
import {
  type Attributes,
  type Caller,
  type FileSystem,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from './file-system.ts';

const SLASH = 0x2f;
/** PATH_MAX of Linux, without the NUL. */
export const PATH_MAX = 4095;
const SYMLINKS_MAX = 40;
const NAME_DOT = Buffer.from('.');

export interface ResolveOptions {
  /** Whether a symbolic link at the end is followed. Default: true. */
  readonly followLast?: boolean;
  /** The directory where relative paths start. Default: the root; a path may always begin with "/". */
  readonly start?: number;
}

/** Where a path leads: an entry that exists, or the place where it could be created. */
export interface ResolvedPath {
  /** The directory of the last name, after following links. */
  readonly parent: number;
  /** The last name; "." for the root, and "." or ".." when the path ends so. */
  readonly name: Buffer;
  /** What is there, or undefined. */
  readonly attributes: Attributes | undefined;
  /** A slash follows the name: only a directory is meant. */
  readonly mustBeDirectory: boolean;
}

/** @throws PosixError ENOENT, ENOTDIR, EACCES, ELOOP, ENAMETOOLONG. A missing last name is no error. */
export function resolvePath(
  fs: FileSystem,
  caller: Caller,
  path: Uint8Array,
  options: ResolveOptions = {},
): ResolvedPath {
  if (path.length === 0) throw new PosixError('ENOENT', 'an empty path');
  if (path.length > PATH_MAX) throw new PosixError('ENAMETOOLONG');
  if (path.includes(0)) throw new PosixError('EINVAL', 'a path with NUL');
  const followLast = options.followLast ?? true;
  let rest = Buffer.from(path);
  let at = 0;
  let directory = rest[0] === SLASH ? ROOT_INODE : (options.start ?? ROOT_INODE);
  let links = 0;
  let parent = directory;
  let name: Buffer = NAME_DOT;
  for (;;) {
    while (at < rest.length && rest[at] === SLASH) at++;
    if (at === rest.length) {
      // Only slashes, or nothing but ".": the directory itself.
      return { parent, name, attributes: fs.getattr(caller, directory), mustBeDirectory: true };
    }
    const end = rest.indexOf(SLASH, at);
    name = rest.subarray(at, end < 0 ? rest.length : end);
    at = end < 0 ? rest.length : end;
    let after = at;
    while (after < rest.length && rest[after] === SLASH) after++;
    const isLast = after === rest.length;
    const mustBeDirectory = end >= 0;
    parent = directory;
    const attributes = fs.lookup(caller, directory, name);
    if (attributes === undefined) {
      if (!isLast) throw new PosixError('ENOENT');
      return { parent, name, attributes: undefined, mustBeDirectory };
    }
    const type = attributes.mode & S_IFMT;
    if (type === S_IFLNK && (!isLast || followLast || mustBeDirectory)) {
      if (++links > SYMLINKS_MAX) throw new PosixError('ELOOP');
      const target = Buffer.from(fs.readlink(caller, attributes.inode));
      rest = Buffer.concat([target, rest.subarray(at)]);
      if (rest.length > PATH_MAX * 2) throw new PosixError('ENAMETOOLONG');
      at = 0;
      if (rest[0] === SLASH) directory = ROOT_INODE;
      parent = directory;
      name = NAME_DOT;
      continue;
    }
    if (isLast) {
      if (mustBeDirectory && type !== S_IFDIR) throw new PosixError('ENOTDIR');
      return { parent, name, attributes, mustBeDirectory };
    }
    if (type !== S_IFDIR) throw new PosixError('ENOTDIR');
    directory = attributes.inode;
    at = after;
  }
}

/** The inode that a path leads to. @throws PosixError ENOENT when there is none, and as `resolvePath` */
export function resolveInode(
  fs: FileSystem,
  caller: Caller,
  path: Uint8Array,
  options: ResolveOptions = {},
): Attributes {
  const { attributes } = resolvePath(fs, caller, path, options);
  if (attributes === undefined) throw new PosixError('ENOENT');
  return attributes;
}

/** Whether a resolved name can be created or removed as an entry: not ".", ".." or the root. */
export function isEntryName(name: Uint8Array): boolean {
  return name.length > 0 && !isDot(name) && !isDotDot(name);
}
