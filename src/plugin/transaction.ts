/**
 * Changes by path: parents are made as they are needed, and all changes of one transaction take effect together.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  O_CREAT,
  O_TRUNC,
  O_WRONLY,
  ROOT_CALLER,
  S_IFDIR,
  S_IFMT,
} from '../vfs/file-system.ts';
import type { LiveFileSystem } from '../vfs/live-file-system.ts';
import { isEntryName, type ResolvedPath, resolvePath } from '../vfs/path.ts';
import { type ImportOptions, type ImportTally, importTar } from './import-tar.ts';
import type { ByteSource } from './tar-reader.ts';
import { TreeChanges } from './tree-changes.ts';
import { named, type PathLike, pathBytes, View } from './view.ts';

/** Permission bits of a file that is made, unless others are given. */
export const FILE_MODE = 0o644;

export interface PutOptions {
  /** Permission bits of a file that is made. Default: 0o644. */
  mode?: number;
}

const SLASH = 0x2f;

/**
 * Sets the content of what a path of plain names means, as one operation; says to `changes`, if anybody wants to know, what
 * that changed. Returns false, and does nothing, when it takes more: the directory is to be made, or a symbolic link to be
 * followed.
 */
export function putPlain(
  live: LiveFileSystem,
  path: string,
  content: Uint8Array,
  mode: number,
  changes: TreeChanges | undefined,
): boolean {
  const place = live.values.place(path);
  if (place === undefined) return false;
  const { directory, name } = place;
  return named(path, () => {
    try {
      const { inode, isNew } = live.put(ROOT_CALLER, directory, name, content, mode);
      if (isNew) changes?.created(directory, name, inode);
      else changes?.inode(inode);
      return true;
    } catch (error) {
      if (error instanceof PosixError && error.code === 'ELOOP') return false;
      throw error;
    }
  });
}

/** Reads and changes the live state. Valid until the function that it was given to returns. */
export class Transaction extends View {
  /** What it has changed so far. */
  readonly changes: TreeChanges;
  private readonly live: LiveFileSystem;
  private ended = false;

  /** `isFollowed`: somebody wants to know what it changes. */
  constructor(live: LiveFileSystem, isFollowed: boolean) {
    super(live, () => {});
    this.live = live;
    this.changes = new TreeChanges(isFollowed);
  }

  /** Nothing can be done with the transaction any more. */
  end(): void {
    this.ended = true;
  }

  private check(): void {
    if (this.ended) throw new LsnfsError('INVALID_INPUT', 'the transaction has ended');
  }

  /** Sets the content of a file; makes it, and the directories above it, where they are missing. */
  put(path: PathLike, content: Uint8Array | string, options: PutOptions = {}): void {
    this.check();
    const bytes = typeof content === 'string' ? Buffer.from(content, 'utf8') : content;
    const mode = options.mode ?? FILE_MODE;
    if (typeof path === 'string' && putPlain(this.live, path, bytes, mode, this.changes)) return;
    named(path, () => {
      const place = this.place(path, true);
      if (place.attributes !== undefined && (place.attributes.mode & S_IFMT) === S_IFDIR)
        throw new PosixError('EISDIR');
      const { live } = this;
      const handle = this.openToPut(place, mode);
      try {
        if (bytes.length > 0) live.write(ROOT_CALLER, handle, 0, bytes, 0, bytes.length, false);
      } finally {
        live.release(handle);
      }
    });
  }

  private openToPut({ parent, name, attributes }: ResolvedPath, mode: number): number {
    const { live, changes } = this;
    if (attributes !== undefined) {
      changes.inode(attributes.inode);
      return live.open(ROOT_CALLER, attributes.inode, O_WRONLY | O_TRUNC);
    }
    const { attributes: made, handle } = live.create(ROOT_CALLER, parent, name, mode, O_WRONLY | O_CREAT);
    changes.created(parent, name, made.inode);
    return handle;
  }

  /** Makes a directory and those above it; one that exists already is left as it is. */
  mkdir(path: PathLike, mode = 0o755): void {
    this.check();
    named(path, () => this.makeDirectories(Buffer.from(pathBytes(path)), mode));
  }

  symlink(path: PathLike, target: PathLike): void {
    this.check();
    named(path, () => {
      const place = this.place(path, true);
      const { inode } = this.live.symlink(ROOT_CALLER, place.parent, place.name, pathBytes(target));
      this.changes.created(place.parent, place.name, inode);
    });
  }

  /**
   * Deletes a file or an empty directory, or with `recursive` a directory with all below it. Returns whether there
   * was one.
   */
  delete(path: PathLike, options: { recursive?: boolean } = {}): boolean {
    this.check();
    return named(path, () => {
      const place = this.entry(path);
      if (place === undefined) return false;
      this.deleteEntry(place.parent, place.name, place.attributes, options.recursive === true);
      return true;
    });
  }

  private deleteEntry(parent: number, name: Uint8Array, attributes: Attributes, recursive: boolean): void {
    const { live } = this;
    this.changes.entry(parent, name);
    this.changes.inode(attributes.inode);
    if ((attributes.mode & S_IFMT) !== S_IFDIR) {
      live.unlink(ROOT_CALLER, parent, name);
      return;
    }
    const { inode } = attributes;
    if (recursive) {
      const names: Buffer[] = [];
      const handle = live.opendir(ROOT_CALLER, inode);
      try {
        live.readdir(handle, 0, (entry) => {
          if (isEntryName(entry)) names.push(Buffer.from(entry));
          return true;
        });
      } finally {
        live.releasedir(handle);
      }
      for (const entry of names) {
        const found = live.lookup(ROOT_CALLER, inode, entry);
        if (found !== undefined) this.deleteEntry(inode, entry, { ...found }, true);
      }
    }
    live.rmdir(ROOT_CALLER, parent, name);
  }

  /**
   * Puts what a tar archive holds into a directory, which is made if it is missing. `source` gives the archive's bytes
   * and may block. After an error the transaction must be left with one too: some entries are there, others are not.
   * @throws LsnfsError that names the entry and the byte of the archive
   */
  importTar(path: PathLike, source: ByteSource, options: ImportOptions = {}): ImportTally {
    this.check();
    this.mkdir(path);
    const base = named(path, () => this.find(path, true));
    if (base === undefined || (base.mode & S_IFMT) !== S_IFDIR) throw new PosixError('ENOTDIR');
    return importTar(this.live, base.inode, source, this.changes, options);
  }

  /** Renames as rename(2) does: a file replaces a file, a directory an empty directory. */
  rename(from: PathLike, to: PathLike): void {
    this.check();
    named(from, () => {
      const source = this.entry(from);
      if (source === undefined) throw new PosixError('ENOENT');
      const target = this.place(to, true);
      this.live.rename(ROOT_CALLER, source.parent, source.name, target.parent, target.name, 0);
      this.changes.entry(source.parent, source.name);
      this.changes.entry(target.parent, target.name);
      this.changes.inode(source.attributes.inode);
      if (target.attributes !== undefined) this.changes.inode(target.attributes.inode);
    });
  }

  /** An entry that exists, not followed when it is a symbolic link. */
  private entry(path: PathLike): (ResolvedPath & { attributes: Attributes }) | undefined {
    let found: ResolvedPath;
    try {
      found = resolvePath(this.live, ROOT_CALLER, pathBytes(path), { followLast: false });
    } catch (error) {
      if (error instanceof PosixError && error.code === 'ENOENT') return undefined;
      throw error;
    }
    if (found.attributes === undefined) return undefined;
    if (!isEntryName(found.name)) throw new PosixError('EINVAL');
    return { ...found, name: Buffer.from(found.name), attributes: { ...found.attributes } };
  }

  /** Where a path leads, with the directories above it made. */
  private place(path: PathLike, makeParents: boolean): ResolvedPath {
    const bytes = Buffer.from(pathBytes(path));
    try {
      return this.usable(resolvePath(this.live, ROOT_CALLER, bytes));
    } catch (error) {
      if (!makeParents || !(error instanceof PosixError) || error.code !== 'ENOENT') throw error;
    }
    const end = bytes.lastIndexOf(SLASH);
    if (end > 0) this.makeDirectories(bytes.subarray(0, end), 0o755);
    return this.usable(resolvePath(this.live, ROOT_CALLER, bytes));
  }

  private usable(found: ResolvedPath): ResolvedPath {
    if (!isEntryName(found.name) && found.attributes === undefined) throw new PosixError('EINVAL');
    return { ...found, name: Buffer.from(found.name) };
  }

  private makeDirectories(path: Buffer, mode: number): void {
    for (let start = 0; start < path.length; ) {
      const slash = path.indexOf(SLASH, start);
      const end = slash < 0 ? path.length : slash;
      if (end > start) {
        const prefix = path.subarray(0, end);
        const found = resolvePath(this.live, ROOT_CALLER, prefix);
        if (found.attributes === undefined) {
          const name = Buffer.from(found.name);
          const { inode } = this.live.mkdir(ROOT_CALLER, found.parent, name, mode | S_IFDIR);
          this.changes.created(found.parent, name, inode);
        } else if ((found.attributes.mode & S_IFMT) !== S_IFDIR) throw new PosixError('ENOTDIR');
      }
      start = end + 1;
    }
  }
}
