/**
 * A state of the store as a program reads it: values by path. The live state and past ones look the same; a past one
 * is pinned until it is closed.
 */
import { copyBytes } from '../encoding/cells.ts';
import { LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  type FileSystem,
  O_NOATIME,
  O_RDONLY,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from '../vfs/file-system.ts';
import { resolvePath } from '../vfs/path.ts';
import type { FileValue, Values } from '../vfs/values.ts';

/** A path: text in UTF-8, or bytes. A leading slash changes nothing. */
export type PathLike = string | Uint8Array;

export type EntryType =
  | 'file'
  | 'directory'
  | 'symlink'
  | 'fifo'
  | 'socket'
  | 'character-device'
  | 'block-device';

/** What `stat` tells. Times are milliseconds since 1970 with a fraction. */
export interface Stat {
  readonly type: EntryType;
  readonly inode: number;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly links: number;
  readonly uid: number;
  readonly gid: number;
  readonly size: number;
  readonly accessedMs: number;
  readonly modifiedMs: number;
  readonly changedMs: number;
  readonly createdMs: number;
}

export interface Entry {
  /** UTF-8; bytes that are not are replaced, `nameBytes` has them. */
  readonly name: string;
  readonly nameBytes: Buffer;
  readonly type: EntryType;
  readonly inode: number;
}

/** Bytes that are read into one buffer; a sparse file may say that it has any number. */
const CONTENT_MAX = 2 ** 31 - 1;

const TYPES = new Map<number, EntryType>([
  [S_IFREG, 'file'],
  [S_IFDIR, 'directory'],
  [S_IFLNK, 'symlink'],
  [S_IFIFO, 'fifo'],
  [S_IFSOCK, 'socket'],
  [S_IFCHR, 'character-device'],
  [S_IFBLK, 'block-device'],
]);

const SLASH = 0x2f;

export const ENTRY_TYPES: readonly EntryType[] = [...TYPES.values()];

/** The kind of entry that a mode speaks of. */
export function entryTypeOf(mode: number): EntryType {
  return TYPES.get(mode & S_IFMT) ?? 'file';
}

export function pathBytes(path: PathLike): Uint8Array {
  if (typeof path === 'string') return Buffer.from(path === '' ? '/' : path, 'utf8');
  return path.length === 0 ? Buffer.from('/') : path;
}

/** Runs `work`; a plain POSIX answer comes out with the path in its message. */
export function named<T>(path: PathLike, work: () => T): T {
  try {
    return work();
  } catch (error) {
    if (error instanceof PosixError && error.message === error.code) {
      throw new PosixError(error.errno, typeof path === 'string' ? path : Buffer.from(path).toString('utf8'));
    }
    throw error;
  }
}

function milliseconds(seconds: number, nanoseconds: number): number {
  return seconds * 1000 + nanoseconds / 1e6;
}

/** An entry of a directory; the bytes of its name are made when they are asked for. */
class ListedEntry implements Entry {
  readonly name: string;
  readonly type: EntryType;
  readonly inode: number;
  /** The bytes of a name that is no UTF-8. */
  private readonly bytes: Buffer | undefined;

  constructor(name: string, type: number, inode: number, bytes: Buffer | undefined) {
    this.name = name;
    this.type = entryTypeOf(type);
    this.inode = inode;
    this.bytes = bytes;
  }

  get nameBytes(): Buffer {
    return this.bytes ?? Buffer.from(this.name, 'utf8');
  }
}

/** Names are made into strings together, up to so many bytes: one by one that takes longer than to read them. */
const NAMES_BYTES = 4096;
/** Names that are no strings yet, each with a slash behind it. A listing is made in one piece. */
const namesBuffer = Buffer.alloc(NAMES_BYTES);

/** Collects the entries of a directory. */
class Listing {
  readonly entries: Entry[] = [];
  private used = 0;
  private readonly inodes: number[] = [];
  private readonly types: number[] = [];

  readonly add = (bytes: Buffer, start: number, end: number, inode: number, type: number): void => {
    if (this.used + end - start >= NAMES_BYTES) this.flush();
    copyBytes(bytes, start, namesBuffer, this.used, end - start);
    this.used += end - start;
    namesBuffer[this.used++] = SLASH;
    this.inodes.push(inode);
    this.types.push(type);
  };

  /** All entries that were added. */
  end(): Entry[] {
    this.flush();
    return this.entries;
  }

  private flush(): void {
    const text = namesBuffer.toString('utf8', 0, this.used);
    const names = text.split('/');
    const isDoubtful = text.includes('\ufffd');
    let start = 0;
    for (let i = 0; i < this.inodes.length; i++) {
      let bytes: Buffer | undefined;
      if (isDoubtful) {
        const end = namesBuffer.indexOf(SLASH, start);
        if (names[i]!.includes('\ufffd')) bytes = Buffer.from(namesBuffer.subarray(start, end));
        start = end + 1;
      }
      this.entries.push(new ListedEntry(names[i]!, this.types[i]!, this.inodes[i]!, bytes));
    }
    this.used = 0;
    this.inodes.length = 0;
    this.types.length = 0;
  }
}

/** A file system that a program has in its own process. */
export type OwnFileSystem = FileSystem & { readonly values: Values };

/** Reading leaves access times as they are: it is no change of a database. */
export class View {
  protected readonly fileSystem: OwnFileSystem;
  private readonly onClose: () => void;

  constructor(fileSystem: OwnFileSystem, onClose: () => void) {
    this.fileSystem = fileSystem;
    this.onClose = onClose;
  }

  /** LSN of the state: of its last transaction. */
  get lsn(): number {
    return this.fileSystem.lsn;
  }

  /** The content of a file, or undefined when there is nothing at the path. @throws PosixError EISDIR, ENOTDIR, … */
  get(path: PathLike): Buffer | undefined {
    if (typeof path === 'string') {
      const content = this.fileSystem.values.content(path);
      if (content !== undefined) return content ?? undefined;
    }
    return named(path, () => {
      const attributes = this.find(path, true);
      return attributes === undefined ? undefined : this.content(attributes);
    });
  }

  /** The content of a file, or a part of it. @throws PosixError ENOENT when there is nothing at the path. */
  read(path: PathLike, range: { offset?: number; length?: number } = {}): Buffer {
    return named(path, () => {
      const attributes = this.find(path, true);
      if (attributes === undefined) throw new PosixError('ENOENT');
      return this.content(attributes, range.offset, range.length);
    });
  }

  private content(attributes: Attributes, offset = 0, length = Number.POSITIVE_INFINITY): Buffer {
    if ((attributes.mode & S_IFMT) === S_IFDIR) throw new PosixError('EISDIR');
    if (!(offset >= 0) || !(length >= 0))
      throw new LsnfsError('INVALID_INPUT', 'offset and length count from 0 up');
    const count = Math.max(0, Math.min(length, attributes.size - offset));
    if (count > CONTENT_MAX) {
      const message = `${count} bytes are more than one buffer takes: read the file in parts of up to ${CONTENT_MAX}`;
      throw new LsnfsError('EFBIG', message, { size: count, limit: CONTENT_MAX });
    }
    const { fileSystem } = this;
    const handle = fileSystem.open(ROOT_CALLER, attributes.inode, O_RDONLY | O_NOATIME);
    try {
      const bytes = Buffer.alloc(count);
      let filled = 0;
      while (filled < count) {
        const got = fileSystem.read(handle, offset + filled, bytes, filled, count - filled);
        if (got === 0) break;
        filled += got;
      }
      return filled === count ? bytes : bytes.subarray(0, filled);
    } finally {
      fileSystem.release(handle);
    }
  }

  /** What is at the path, or undefined. A symbolic link at the end is described itself. */
  stat(path: PathLike): Stat | undefined {
    return named(path, () => {
      const a = this.find(path, false);
      if (a === undefined) return undefined;
      return {
        type: entryTypeOf(a.mode),
        inode: a.inode,
        mode: a.mode & 0o7777,
        links: a.links,
        uid: a.uid,
        gid: a.gid,
        size: a.size,
        accessedMs: milliseconds(a.accessSeconds, a.accessNanoseconds),
        modifiedMs: milliseconds(a.modifySeconds, a.modifyNanoseconds),
        changedMs: milliseconds(a.changeSeconds, a.changeNanoseconds),
        createdMs: milliseconds(a.birthSeconds, a.birthNanoseconds),
      };
    });
  }

  /** Where a symbolic link leads. */
  readlink(path: PathLike): Buffer {
    return named(path, () => {
      const attributes = this.find(path, false);
      if (attributes === undefined) throw new PosixError('ENOENT');
      return Buffer.from(this.fileSystem.readlink(ROOT_CALLER, attributes.inode));
    });
  }

  /** The entries of a directory, in the order of their names' bytes. @throws PosixError ENOENT, ENOTDIR */
  list(path: PathLike = '/'): Entry[] {
    const listing = new Listing();
    this.fileSystem.values.eachEntry(this.directoryAt(path), listing.add);
    return listing.end();
  }

  /**
   * All regular files below a directory, with their content, in the order of a walk by name. Of the live state: what is
   * changed between two steps may be seen or not. @throws PosixError ENOENT, ENOTDIR
   */
  files(path: PathLike = '/'): Generator<FileValue> {
    const text = typeof path === 'string' ? path : Buffer.from(path).toString('utf8');
    const above = text.split('/').filter((name) => name !== '' && name !== '.');
    return this.fileSystem.values.files(
      this.directoryAt(path),
      above.map((name) => `/${name}`).join(''),
      (inode) => this.contentOf(inode),
    );
  }

  /** Of an inode that may be gone by now. */
  private contentOf(inode: number): Buffer | undefined {
    try {
      return this.content(this.fileSystem.getattr(ROOT_CALLER, inode));
    } catch (error) {
      if (error instanceof PosixError && error.code === 'ESTALE') return undefined;
      throw error;
    }
  }

  /** @throws PosixError ENOENT, ENOTDIR */
  private directoryAt(path: PathLike): number {
    const plain = typeof path === 'string' ? this.fileSystem.values.directory(path) : 0;
    if (plain !== 0) return plain;
    return named(path, () => {
      const attributes = this.find(path, true);
      if (attributes === undefined) throw new PosixError('ENOENT');
      if ((attributes.mode & S_IFMT) !== S_IFDIR) throw new PosixError('ENOTDIR');
      return attributes.inode;
    });
  }

  protected find(path: PathLike, followLast: boolean): Attributes | undefined {
    try {
      const found = resolvePath(this.fileSystem, ROOT_CALLER, pathBytes(path), {
        followLast,
        start: ROOT_INODE,
      });
      return found.attributes === undefined ? undefined : { ...found.attributes };
    } catch (error) {
      if (error instanceof PosixError && error.code === 'ENOENT') return undefined;
      throw error;
    }
  }

  /** Lets go of the state. */
  close(): void {
    this.onClose();
  }
}
