/**
 * The operations of a file system by path, with the rules that a kernel applies before it asks one: which calls
 * follow a symbolic link at the end, what a trailing slash, "." and ".." mean, what O_CREAT, O_EXCL, O_NOFOLLOW and
 * O_TMPFILE ask for.
 */
import { PosixError } from '../../src/errors.ts';
import { isDot, isDotDot } from '../../src/vfs/core.ts';
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  type FileSystem,
  O_CREAT,
  O_EXCL,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from '../../src/vfs/file-system.ts';
import { O_DIRECTORY } from '../../src/vfs/open-rules.ts';
import { type ResolvedPath, resolveInode, resolvePath } from '../../src/vfs/path.ts';

export const O_NOFOLLOW = 0o400000;
/** __O_TMPFILE; the call passes O_DIRECTORY with it. */
export const O_TMPFILE = 0o20000000;

const NO_FOLLOW = { followLast: false } as const;

function isDirectory(attributes: Attributes): boolean {
  return (attributes.mode & S_IFMT) === S_IFDIR;
}

/** "." or "..", where an entry's own name is needed. */
function isSelf(name: Uint8Array): boolean {
  return isDot(name) || isDotDot(name);
}

export class PathOperations {
  readonly fileSystem: FileSystem;

  constructor(fileSystem: FileSystem) {
    this.fileSystem = fileSystem;
  }

  stat(caller: Caller, path: Uint8Array): Attributes {
    return resolveInode(this.fileSystem, caller, path);
  }

  lstat(caller: Caller, path: Uint8Array): Attributes {
    return resolveInode(this.fileSystem, caller, path, NO_FOLLOW);
  }

  /** `followLast`: whether a symbolic link at the end stands for its target. Default: true. */
  setattr(caller: Caller, path: Uint8Array, changes: AttributeChanges, followLast = true): Attributes {
    const { inode } = resolveInode(this.fileSystem, caller, path, { followLast });
    return this.fileSystem.setattr(caller, inode, changes);
  }

  readlink(caller: Caller, path: Uint8Array): Uint8Array {
    return this.fileSystem.readlink(caller, resolveInode(this.fileSystem, caller, path, NO_FOLLOW).inode);
  }

  /** The place of a new entry. @throws PosixError EEXIST, ENOENT */
  private newEntry(caller: Caller, path: Uint8Array, isForDirectory: boolean): ResolvedPath {
    const place = resolvePath(this.fileSystem, caller, path, NO_FOLLOW);
    if (place.attributes !== undefined || isSelf(place.name)) throw new PosixError('EEXIST');
    if (place.mustBeDirectory && !isForDirectory) throw new PosixError('ENOENT');
    return place;
  }

  mkdir(caller: Caller, path: Uint8Array, mode: number): Attributes {
    const { parent, name } = this.newEntry(caller, path, true);
    return this.fileSystem.mkdir(caller, parent, name, mode);
  }

  mknod(caller: Caller, path: Uint8Array, mode: number, device: number): Attributes {
    const { parent, name } = this.newEntry(caller, path, false);
    return this.fileSystem.mknod(caller, parent, name, mode, device);
  }

  symlink(caller: Caller, target: Uint8Array, path: Uint8Array): Attributes {
    if (target.length === 0) throw new PosixError('ENOENT', 'an empty target');
    const { parent, name } = this.newEntry(caller, path, false);
    return this.fileSystem.symlink(caller, parent, name, target);
  }

  /** A symbolic link at the end of `path` is linked itself. */
  link(caller: Caller, path: Uint8Array, newPath: Uint8Array): Attributes {
    const { inode } = resolveInode(this.fileSystem, caller, path, NO_FOLLOW);
    return this.linkInode(caller, inode, newPath);
  }

  linkInode(caller: Caller, inode: number, newPath: Uint8Array): Attributes {
    const { parent, name } = this.newEntry(caller, newPath, false);
    return this.fileSystem.link(caller, inode, parent, name);
  }

  unlink(caller: Caller, path: Uint8Array): void {
    const { parent, name, attributes, mustBeDirectory } = this.entryBeforeSlash(caller, path);
    if (isSelf(name)) throw new PosixError('EISDIR');
    if (attributes === undefined) throw new PosixError('ENOENT');
    if (mustBeDirectory) throw new PosixError(isDirectory(attributes) ? 'EISDIR' : 'ENOTDIR');
    this.fileSystem.unlink(caller, parent, name);
  }

  rmdir(caller: Caller, path: Uint8Array): void {
    const { parent, name, attributes } = this.entryBeforeSlash(caller, path);
    if (isSelf(name) && path.every((byte) => byte === 0x2f)) throw new PosixError('EBUSY');
    if (attributes === undefined && !isSelf(name)) throw new PosixError('ENOENT');
    this.fileSystem.rmdir(caller, parent, name);
  }

  rename(caller: Caller, path: Uint8Array, newPath: Uint8Array, flags: number): void {
    const from = this.entryBeforeSlash(caller, path);
    const to = this.entryBeforeSlash(caller, newPath);
    if (!isSelf(from.name) && !isSelf(to.name)) {
      if (from.attributes === undefined) throw new PosixError('ENOENT');
      if (to.attributes !== undefined && flags === RENAME_NOREPLACE) throw new PosixError('EEXIST');
      const slashed = from.mustBeDirectory || (to.mustBeDirectory && flags !== RENAME_EXCHANGE);
      if (slashed && !isDirectory(from.attributes)) throw new PosixError('ENOTDIR');
      if (flags === RENAME_EXCHANGE && to.mustBeDirectory && to.attributes && !isDirectory(to.attributes)) {
        throw new PosixError('ENOTDIR');
      }
    }
    this.fileSystem.rename(caller, from.parent, from.name, to.parent, to.name, flags);
  }

  /** The entry itself, though a slash follows its name: removing and renaming follow no symbolic link. */
  private entryBeforeSlash(caller: Caller, path: Uint8Array): ResolvedPath {
    let end = path.length;
    while (end > 1 && path[end - 1] === 0x2f) end--;
    const place = resolvePath(this.fileSystem, caller, path.subarray(0, end), NO_FOLLOW);
    return end === path.length ? place : { ...place, mustBeDirectory: true };
  }

  /** open(2) for files, and for directories to be synced; read a directory with `opendir`. Returns a handle. */
  open(caller: Caller, path: Uint8Array, flags: number, mode: number): { inode: number; handle: number } {
    const { fileSystem } = this;
    if ((flags & O_TMPFILE) !== 0) return this.openUnnamed(caller, path, flags, mode);
    const exclusive = (flags & O_CREAT) !== 0 && (flags & O_EXCL) !== 0;
    const followLast = !exclusive && (flags & O_NOFOLLOW) === 0;
    const creates = (flags & O_CREAT) !== 0;
    const place = resolvePath(fileSystem, caller, path, { followLast });
    const { parent, name, attributes, mustBeDirectory } = place;
    if (attributes === undefined) {
      if (!creates) throw new PosixError('ENOENT');
      if (mustBeDirectory) throw new PosixError('EISDIR');
      const created = fileSystem.create(caller, parent, name, mode, flags);
      return { inode: created.attributes.inode, handle: created.handle };
    }
    if (exclusive) throw new PosixError('EEXIST');
    const { inode } = attributes;
    const type = attributes.mode & S_IFMT;
    if (type === S_IFDIR && creates) throw new PosixError('EISDIR');
    if (type === S_IFLNK) throw new PosixError((flags & O_DIRECTORY) !== 0 ? 'ENOTDIR' : 'ELOOP');
    return { inode, handle: fileSystem.open(caller, inode, flags & ~O_CREAT) };
  }

  private openUnnamed(
    caller: Caller,
    path: Uint8Array,
    flags: number,
    mode: number,
  ): { inode: number; handle: number } {
    if ((flags & 3) === 0) throw new PosixError('EINVAL');
    const directory = resolveInode(this.fileSystem, caller, path);
    const { attributes, handle } = this.fileSystem.tmpfile(caller, directory.inode, mode, flags);
    return { inode: attributes.inode, handle };
  }
}
