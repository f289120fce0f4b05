/**
 * The operations that change nothing, the same for every state. What a read does to access times is left to the
 * live file system (`touchAccess`).
 */
import { putU64BE } from '../encoding/bytes.ts';
import { direntInode, direntType } from '../encoding/dirent.ts';
import { FLAG_ACCESS_ACL, FLAG_CAPABILITY, FLAG_DEFAULT_ACL, FLAG_XATTRS } from '../encoding/inode.ts';
import { PosixError } from '../errors.ts';
import { MAY_READ } from './caller.ts';
import { type Core, isDot, isDotDot } from './core.ts';
import { COOKIE_DOT, COOKIE_DOT_DOT, COOKIE_FIRST, DirectoryListing } from './directory-listing.ts';
import {
  type Attributes,
  type Caller,
  type EntrySink,
  type FileSystemStatistics,
  O_NOATIME,
  O_RDONLY,
  S_IFDIR,
  SEEK_DATA,
  SEEK_HOLE,
} from './file-system.ts';
import type { Handle } from './handle-table.ts';
import type { Inode } from './inode-cache.ts';
import { Values } from './values.ts';
import { checkXattrRead, isTrusted, NAMESPACE, xattrNamespace } from './xattr-rules.ts';
import { eachXattrName, readXattr, XATTR_ACCESS_ACL, XATTR_CAPABILITY } from './xattr-store.ts';

const NOTHING = Buffer.alloc(0);
const NAME_DOT = Buffer.from('.');
const NAME_DOT_DOT = Buffer.from('..');

export abstract class ReadOperations {
  protected readonly core: Core;
  /** Content and names by path, for a program that has the state in its own process. */
  readonly values: Values;

  constructor(core: Core) {
    this.core = core;
    this.values = new Values(core);
  }

  get lsn(): number {
    return this.core.state.lsn;
  }

  /** An inode was read: its access time may be due. */
  protected touchAccess(_inode: Inode): void {}

  lookup(caller: Caller, parent: number, name: Uint8Array): Attributes | undefined {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (isDot(name)) return directory;
    if (isDotDot(name)) return core.load(directory.parent);
    core.checkName(name);
    return core.child(parent, name);
  }

  getattr(_caller: Caller, inode: number): Attributes {
    return this.core.load(inode);
  }

  access(caller: Caller, inode: number, mask: number): void {
    if (!this.core.grants(caller, this.core.load(inode), mask)) throw new PosixError('EACCES');
  }

  readlink(_caller: Caller, number: number): Uint8Array {
    const inode = this.core.load(number);
    if (!inode.isSymlink) throw new PosixError('EINVAL');
    const target = Buffer.allocUnsafe(inode.size);
    this.readContent(inode, 0, target, 0, inode.size);
    this.touchAccess(inode);
    return target;
  }

  /** The handle and its inode, which is found again when the state was rebuilt. @throws PosixError EBADF, ESTALE */
  protected inodeOf(handle: Handle): Inode {
    if (handle.inode !== null) return handle.inode;
    const inode = this.core.load(handle.number);
    inode.pins++;
    handle.inode = inode;
    return inode;
  }

  read(number: number, offset: number, target: Uint8Array, targetStart: number, length: number): number {
    const handle = this.core.handles.get(number);
    const inode = this.inodeOf(handle);
    if (!handle.readable && !this.core.kernelHandles) throw new PosixError('EBADF');
    if (!inode.isRegular) throw new PosixError(inode.isDirectory ? 'EISDIR' : 'EINVAL');
    if (offset < 0) throw new PosixError('EINVAL');
    const count = Math.min(length, inode.size - offset);
    if (count > 0) this.readContent(inode, offset, target, targetStart, count);
    if (!handle.noAtime) this.touchAccess(inode);
    return Math.max(count, 0);
  }

  /** Reads content that is within the size. */
  protected readContent(
    inode: Inode,
    offset: number,
    target: Uint8Array,
    targetStart: number,
    length: number,
  ): void {
    if (length === 0) return;
    if (inode.isInline) inode.content!.copy(target, targetStart, offset, offset + length);
    else this.core.state.readData(inode.inode, offset, target, targetStart, length);
  }

  lseek(number: number, offset: number, whence: number): number {
    const inode = this.inodeOf(this.core.handles.get(number));
    if (whence !== SEEK_DATA && whence !== SEEK_HOLE) throw new PosixError('EINVAL');
    // Before the start as well: so says Linux, where POSIX would have EINVAL.
    if (offset < 0 || offset >= inode.size) throw new PosixError('ENXIO');
    // A directory has no holes.
    if (inode.isInline || inode.isDirectory) return whence === SEEK_DATA ? offset : inode.size;
    const { state } = this.core;
    if (whence === SEEK_HOLE) return Math.min(state.seekHole(inode.inode, offset), inode.size);
    const data = state.seekData(inode.inode, offset);
    if (data < 0 || data >= inode.size) throw new PosixError('ENXIO');
    return data;
  }

  opendir(caller: Caller, number: number, flags = O_RDONLY): number {
    const inode = this.core.loadDirectory(number);
    this.core.require(caller, inode, MAY_READ);
    return this.core.handles.open(inode, flags & O_NOATIME, new DirectoryListing());
  }

  readdir(number: number, cookie: number, sink: EntrySink): void {
    const handle = this.core.handles.get(number);
    const { listing } = handle;
    if (listing === null) throw new PosixError('ENOTDIR');
    const directory = this.inodeOf(handle);
    if (directory.links === 0) throw new PosixError('ENOENT', 'the directory was removed');
    if (cookie === 0) listing.clear();
    if (cookie < COOKIE_DOT) {
      if (!sink(NAME_DOT, directory.inode, S_IFDIR, COOKIE_DOT)) return;
    }
    if (cookie < COOKIE_DOT_DOT) {
      if (!sink(NAME_DOT_DOT, directory.parent, S_IFDIR, COOKIE_DOT_DOT)) return;
    }
    const done = cookie < COOKIE_FIRST ? 0 : cookie - COOKIE_FIRST + 1;
    // A cookie of another handle of this directory (a kernel's cache of the listing): count up to it.
    if (done > listing.count) this.list(directory, listing, listing.count, done, null);
    if (done <= listing.count) this.list(directory, listing, done, Number.POSITIVE_INFINITY, sink);
    if (!handle.noAtime) this.touchAccess(directory);
  }

  /**
   * Lists the entries after the first `done` of the listing, up to `limit`, to the sink; without a sink they
   * are only taken into the listing.
   */
  private list(
    directory: Inode,
    listing: DirectoryListing,
    done: number,
    limit: number,
    sink: EntrySink | null,
  ): void {
    const from = done === 0 ? NOTHING : listing.name(done - 1);
    const start = Buffer.allocUnsafe(8 + from.length);
    putU64BE(start, 0, directory.inode);
    from.copy(start, 8);
    const prefix = start.subarray(0, 8);
    const cursor = this.core.state.namespace.cursor();
    let found = cursor.seek(start);
    if (found && cursor.compare(start) === 0) found = cursor.next();
    for (let index = done; found && index < limit && cursor.startsWith(prefix); found = cursor.next()) {
      const name = cursor.keyView.subarray(8, cursor.keyLength);
      // A name that was returned at this place before keeps its cookie; any other gets the next one. It is kept
      // before the sink sees it: the cookie must mean it from the moment it is given out.
      if (!listing.equals(index, name)) index = listing.append(name);
      index++;
      if (sink === null) continue;
      const { bytes } = cursor.page;
      const { valueStart } = cursor;
      const inode = direntInode(bytes, valueStart, cursor.valueLength);
      if (!sink(name, inode, direntType(bytes, valueStart), COOKIE_FIRST + index - 1)) return;
    }
  }

  /** Closes a handle of either kind. */
  protected close(number: number): Handle {
    return this.core.handles.close(number);
  }

  statfs(): FileSystemStatistics {
    return this.core.statistics();
  }

  getxattr(caller: Caller, number: number, name: Uint8Array): Uint8Array {
    const inode = this.core.load(number);
    if ((inode.flags & FLAG_XATTRS) === 0) {
      // The frequent case: asked for security.capability or ACLs of a file that has no xattr at all.
      checkXattrRead(caller, inode, xattrNamespace(name));
      throw new PosixError('ENODATA');
    }
    const namespace = xattrNamespace(name);
    checkXattrRead(caller, inode, namespace);
    if (namespace === NAMESPACE.user) this.core.require(caller, inode, MAY_READ);
    const flag = XATTR_CAPABILITY.equals(name)
      ? FLAG_CAPABILITY
      : namespace === NAMESPACE.acl
        ? XATTR_ACCESS_ACL.equals(name)
          ? FLAG_ACCESS_ACL
          : FLAG_DEFAULT_ACL
        : FLAG_XATTRS;
    const value = (inode.flags & flag) === 0 ? undefined : readXattr(this.core.state, number, name);
    if (value === undefined) throw new PosixError('ENODATA');
    return value;
  }

  listxattr(caller: Caller, number: number): Uint8Array {
    const inode = this.core.load(number);
    if ((inode.flags & FLAG_XATTRS) === 0) return Buffer.alloc(0);
    const names: Buffer[] = [];
    eachXattrName(this.core.state, number, (name) => {
      if (caller.uid === 0 || !isTrusted(name)) names.push(name, Buffer.alloc(1));
    });
    return Buffer.concat(names);
  }
}
