/**
 * A tar archive (tar-format.ts) into a directory of the live state, within a transaction that its caller has begun.
 *
 * What is there already is treated as tar treats it: another file makes way, a directory stays and takes the
 * archive's attributes. Owners are numbers. Nothing leads out of the directory: a leading "/" is taken off, ".." is
 * refused, and so is a name below a symbolic link, whether that was there before or came out of the archive. Whatever
 * cannot be done is an error, upon which the caller rolls all of it back.
 *
 * Times and default ACLs of directories are set last: what is made in a directory would change the one and inherit the
 * other. Memory: one piece of content, and a few numbers for each directory of the archive.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  O_CREAT,
  O_EXCL,
  O_WRONLY,
  ROOT_CALLER,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
} from '../vfs/file-system.ts';
import type { LiveFileSystem } from '../vfs/live-file-system.ts';
import { aclFromText } from './tar-acl.ts';
import type { TarEntry, TarTime, TarType } from './tar-format.ts';
import { type ByteSource, TarReader } from './tar-reader.ts';
import { textOfBytes } from './text.ts';
import type { TreeChanges } from './tree-changes.ts';

const ACCESS_ACL = Buffer.from('system.posix_acl_access');
const DEFAULT_ACL = Buffer.from('system.posix_acl_default');
const SLASH = 0x2f;

/** What an import has done so far. */
export interface ImportTally {
  /** Entries of each kind. */
  readonly entries: Record<TarType, number>;
  /** Bytes of content that were written. */
  contentBytes: number;
  /** Bytes of the archive that were read. */
  archiveBytes: number;
}

export interface ImportOptions {
  /** What was left out, a sentence each. */
  warn?: (message: string) => void;
  /** Called after every entry. */
  progress?: (tally: ImportTally) => void;
}

/** What is set on a directory at the end. */
interface DirectoryEnd {
  readonly modify: TarTime;
  readonly access: TarTime | undefined;
  defaultAcl: Buffer | undefined;
}

/**
 * Reads the whole archive. `base`: the directory, by its inode. `changes` is told of what others may know otherwise.
 * @throws LsnfsError that names the entry and where it is
 */
export function importTar(
  live: LiveFileSystem,
  base: number,
  source: ByteSource,
  changes: TreeChanges,
  options: ImportOptions = {},
): ImportTally {
  return new Import(live, base, source, changes, options).run();
}

class Import {
  private readonly live: LiveFileSystem;
  private readonly base: number;
  private readonly reader: TarReader;
  private readonly changes: TreeChanges;
  private readonly options: ImportOptions;
  private readonly directories = new Map<number, DirectoryEnd>();
  private lastParent: { readonly path: string; readonly inode: number } | undefined;
  private strippedSlash = false;
  private readonly tally: ImportTally = {
    entries: {
      file: 0,
      hardlink: 0,
      symlink: 0,
      'character-device': 0,
      'block-device': 0,
      directory: 0,
      fifo: 0,
    },
    contentBytes: 0,
    archiveBytes: 0,
  };

  constructor(
    live: LiveFileSystem,
    base: number,
    source: ByteSource,
    changes: TreeChanges,
    options: ImportOptions,
  ) {
    this.changes = changes;
    this.live = live;
    this.base = base;
    this.reader = new TarReader(source);
    this.options = options;
  }

  run(): ImportTally {
    const { reader, tally } = this;
    for (let entry = reader.next(); entry !== undefined; entry = reader.next()) {
      this.named(entry.path, () => this.add(entry));
      tally.entries[entry.type]++;
      tally.archiveBytes = reader.offset;
      this.options.progress?.(tally);
    }
    tally.archiveBytes = reader.offset;
    for (const [inode, end] of this.directories) {
      if (end.defaultAcl !== undefined) this.setXattr(inode, DEFAULT_ACL, end.defaultAcl);
      this.setTimes(inode, end);
    }
    return tally;
  }

  /** An error about an entry says which, and where in the archive it is. Damage of the archive says so itself. */
  private named(path: Buffer, work: () => void): void {
    try {
      work();
    } catch (error) {
      if (!(error instanceof LsnfsError) || error.details.offset !== undefined) throw error;
      const offset = this.reader.entryStart;
      const message = `cannot import ${textOfBytes(path)}, at byte ${offset} of the archive: ${error.message}`;
      throw new LsnfsError(error.code, message, { ...error.details, offset }, { cause: error });
    }
  }

  private warn(path: Buffer, what: string): void {
    this.options.warn?.(`${textOfBytes(path)}: ${what}`);
  }

  /** The names of a path below the base. @throws LsnfsError INVALID_INPUT for one that may lead out */
  private namesOf(path: Buffer): Buffer[] {
    if (path[0] === SLASH && !this.strippedSlash) {
      this.strippedSlash = true;
      this.warn(path, 'the leading "/" of such names was taken off');
    }
    const names: Buffer[] = [];
    for (let start = 0; start < path.length; ) {
      const slash = path.indexOf(SLASH, start);
      const end = slash < 0 ? path.length : slash;
      const name = path.subarray(start, end);
      start = end + 1;
      if (name.length === 0 || (name.length === 1 && name[0] === 0x2e)) continue;
      if (name.equals(Buffer.from('..')))
        throw new LsnfsError('INVALID_INPUT', 'a name with ".." may lead out of the directory');
      names.push(name);
    }
    return names;
  }

  private lookup(parent: number, name: Buffer): Attributes | undefined {
    const found = this.live.lookup(ROOT_CALLER, parent, name);
    return found === undefined ? undefined : { ...found };
  }

  /** The directory that the last of the names is in. Directories that are missing are made, where `make` says so. */
  private parentOf(names: readonly Buffer[], make: boolean): number {
    const path = names
      .slice(0, -1)
      .map((name) => name.toString('latin1'))
      .join('/');
    if (this.lastParent?.path === path) return this.lastParent.inode;
    let inode = this.base;
    for (const name of names.slice(0, -1)) {
      let found = this.lookup(inode, name);
      if (found === undefined) {
        if (!make) throw new PosixError('ENOENT');
        found = { ...this.live.mkdir(ROOT_CALLER, inode, name, 0o755) };
        this.changes.created(inode, name, found.inode);
      }
      const type = found.mode & S_IFMT;
      if (type === S_IFLNK) {
        throw new LsnfsError('INVALID_INPUT', `it is below ${textOfBytes(name)}, which is a symbolic link`);
      }
      if (type !== S_IFDIR) throw new PosixError('ENOTDIR', `${textOfBytes(name)} is no directory`);
      inode = found.inode;
    }
    this.lastParent = { path, inode };
    return inode;
  }

  private add(entry: TarEntry): void {
    const names = this.namesOf(entry.path);
    if (entry.type === 'directory') {
      this.addDirectory(names, entry);
      return;
    }
    const name = names.at(-1);
    if (name === undefined) throw new LsnfsError('INVALID_INPUT', 'only a directory has no name');
    const parent = this.parentOf(names, true);
    if (entry.type === 'hardlink') {
      this.addLink(parent, name, entry);
      return;
    }
    this.makeWay(parent, name);
    const inode = this.create(parent, name, entry);
    this.changes.created(parent, name, inode);
    this.dropInherited(inode);
    this.setAttributes(inode, entry);
    this.setTimes(inode, entry);
  }

  /** Removes what has the name. @throws PosixError ENOTEMPTY */
  private makeWay(parent: number, name: Buffer): void {
    const existing = this.lookup(parent, name);
    if (existing === undefined) return;
    this.changes.entry(parent, name);
    this.changes.inode(existing.inode);
    if ((existing.mode & S_IFMT) !== S_IFDIR) {
      this.live.unlink(ROOT_CALLER, parent, name);
      return;
    }
    this.live.rmdir(ROOT_CALLER, parent, name);
    this.directories.delete(existing.inode);
    this.lastParent = undefined;
  }

  private addDirectory(names: readonly Buffer[], entry: TarEntry): void {
    let inode = this.base;
    const name = names.at(-1);
    if (name !== undefined) {
      const parent = this.parentOf(names, true);
      const existing = this.lookup(parent, name);
      if (existing !== undefined && (existing.mode & S_IFMT) === S_IFDIR) inode = existing.inode;
      else {
        if (existing !== undefined) this.makeWay(parent, name);
        inode = this.live.mkdir(ROOT_CALLER, parent, name, 0o700).inode;
        this.changes.created(parent, name, inode);
        this.dropInherited(inode);
      }
    }
    this.changes.inode(inode);
    const end: DirectoryEnd = { modify: entry.modify, access: entry.access, defaultAcl: undefined };
    this.directories.set(inode, end);
    end.defaultAcl = this.setAttributes(inode, entry);
  }

  private addLink(parent: number, name: Buffer, entry: TarEntry): void {
    const names = this.namesOf(entry.link);
    const last = names.at(-1);
    const { lastParent } = this;
    const other = last === undefined ? undefined : this.lookup(this.parentOf(names, false), last);
    this.lastParent = lastParent;
    if (other === undefined || (other.mode & S_IFMT) === S_IFDIR) {
      throw new LsnfsError(
        'ENOENT',
        `it is a hard link to ${textOfBytes(entry.link)}, which is no file here`,
      );
    }
    if (this.lookup(parent, name)?.inode === other.inode) return;
    this.makeWay(parent, name);
    this.live.link(ROOT_CALLER, other.inode, parent, name);
    this.changes.entry(parent, name);
    this.changes.inode(other.inode);
  }

  private create(parent: number, name: Buffer, entry: TarEntry): number {
    const { live } = this;
    const { major, minor } = entry;
    // new_encode_dev of the kernel.
    const device = ((minor & 0xff) | (major << 8) | ((minor & 0xfff00) << 12)) >>> 0;
    switch (entry.type) {
      case 'symlink':
        return live.symlink(ROOT_CALLER, parent, name, entry.link).inode;
      case 'fifo':
        return live.mknod(ROOT_CALLER, parent, name, S_IFIFO | 0o600, 0).inode;
      case 'character-device':
      case 'block-device': {
        if (major > 0xfff || minor > 0xfffff)
          throw new LsnfsError('INVALID_INPUT', `there is no device ${major}:${minor}`);
        const type = entry.type === 'block-device' ? S_IFBLK : S_IFCHR;
        return live.mknod(ROOT_CALLER, parent, name, type | 0o600, device).inode;
      }
      default:
        return this.createFile(parent, name, entry);
    }
  }

  private createFile(parent: number, name: Buffer, entry: TarEntry): number {
    const { live, reader, tally } = this;
    const { attributes, handle } = live.create(ROOT_CALLER, parent, name, 0o600, O_WRONLY | O_CREAT | O_EXCL);
    const { inode } = attributes;
    try {
      let end = 0;
      for (const { offset, length } of entry.segments ?? [{ offset: 0, length: entry.size }]) {
        for (let done = 0; done < length; ) {
          const piece = reader.content(length - done)!;
          const written = live.write(ROOT_CALLER, handle, offset + done, piece, 0, piece.length, false);
          if (written < piece.length) throw new PosixError('EFBIG');
          done += written;
          tally.contentBytes += written;
        }
        end = offset + length;
      }
      if (end < entry.size) live.setattr(ROOT_CALLER, inode, { size: entry.size }, handle);
    } finally {
      live.release(handle);
    }
    return inode;
  }

  /** The entry has the ACLs that the archive says, not those of the directory that it was made in. */
  private dropInherited(inode: number): void {
    const names = Buffer.from(this.live.listxattr(ROOT_CALLER, inode));
    for (const name of [ACCESS_ACL, DEFAULT_ACL])
      if (names.includes(name)) this.live.removexattr(ROOT_CALLER, inode, name);
  }

  /** Owner, mode and xattrs; returns the default ACL, which is set at the end. chown takes setuid and setgid away. */
  private setAttributes(inode: number, entry: TarEntry): Buffer | undefined {
    const { live } = this;
    live.setattr(ROOT_CALLER, inode, { uid: entry.uid, gid: entry.gid });
    if (entry.type !== 'symlink') live.setattr(ROOT_CALLER, inode, { mode: entry.mode });
    let defaultAcl: Buffer | undefined;
    let hasAccessAcl = false;
    for (const { name, value } of entry.xattrs) {
      hasAccessAcl ||= name.equals(ACCESS_ACL);
      if (name.equals(DEFAULT_ACL)) defaultAcl = value;
      else this.setXattr(inode, name, value, entry);
    }
    if (!hasAccessAcl && entry.accessAcl !== undefined && entry.type !== 'symlink')
      this.setXattr(inode, ACCESS_ACL, aclFromText(entry.accessAcl), entry);
    if (entry.type === 'directory' && entry.defaultAcl !== undefined)
      defaultAcl ??= aclFromText(entry.defaultAcl);
    return defaultAcl;
  }

  /** A namespace that no Linux file system has (those of other systems) is left out. */
  private setXattr(inode: number, name: Buffer, value: Buffer, entry?: TarEntry): void {
    try {
      this.live.setxattr(ROOT_CALLER, inode, name, value, 0, false);
    } catch (error) {
      if (!(error instanceof PosixError) || error.code !== 'EOPNOTSUPP' || entry === undefined) throw error;
      this.warn(entry.path, `the attribute ${textOfBytes(name)} was left out: no such kind is supported`);
    }
  }

  private setTimes(inode: number, { modify, access }: Pick<DirectoryEnd, 'modify' | 'access'>): void {
    this.live.setattr(ROOT_CALLER, inode, { modify, access: access ?? 'now' });
  }
}
