/**
 * The live file system: every POSIX operation as one transaction on the live state.
 *
 * An operation validates all it can before `begin`, so that the plain answers (ENOENT, EEXIST, …) cost no
 * rollback; rename, setattr and xattrs are in files of their own. Reads through a handle touch no tree but that of
 * the extents; writes put the file's record in the same transaction as its data.
 */
import { FLAG_LINKABLE, MAX_FILE_SIZE, SYMLINK_MAX } from '../encoding/inode.ts';
import { PosixError } from '../errors.ts';
import type { LiveState, RestorableState, StateReader } from '../store/state.ts';
import { hasPrivileges, keepsPrivileges, MAY_EXECUTE, MAY_WRITE, withoutPrivileges } from './caller.ts';
import type { Timestamp } from './clock.ts';
import { Content } from './content.ts';
import { copyRange } from './copy-range.ts';
import { isDot, isDotDot, type VfsOptions } from './core.ts';
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type FileSystem,
  O_CREAT,
  O_EXCL,
  O_TRUNC,
  S_IFBLK,
  S_IFCHR,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_IFSOCK,
} from './file-system.ts';
import type { Handle } from './handle-table.ts';
import type { Inode } from './inode-cache.ts';
import { LiveCore } from './live-core.ts';
import { checkOpenType, openMask } from './open-rules.ts';
import { type PathRestorePlan, planPathRestore, restorePaths } from './path-restore.ts';
import { ReadOperations } from './read-operations.ts';
import { renameEntry } from './rename.ts';
import { type ClientChanges, restoreAll } from './restore.ts';
import { applyAttributes, checkAttributes } from './set-attributes.ts';
import { removeXattr, setXattr } from './set-xattr.ts';

/** Hard links of one file, as on ext4. */
export const LINK_MAX = 65_000;
const DAY_SECONDS = 86_400;

export class LiveFileSystem extends ReadOperations implements FileSystem {
  declare protected readonly core: LiveCore;
  private readonly content: Content;
  private readonly accessTime: Timestamp = { seconds: 0, nanoseconds: 0 };

  /** Serves a live state. A state without a root directory gets one. */
  constructor(state: LiveState, options: VfsOptions) {
    super(new LiveCore(state, options));
    this.content = new Content(state);
    // By the count and not by a look: the page with the root's record may be damaged, and the rest is to be served.
    if (!state.readOnly && state.counters.inodes === 0) this.core.createRoot();
  }

  get readOnly(): boolean {
    return this.core.live.readOnly;
  }

  /**
   * Makes all files what they were at an LSN; `state` is the live state. What is open or known and did not exist then
   * lives on without a name. Returns what a client that caches must be told.
   */
  restore(state: RestorableState, lsn: number): ClientChanges {
    return restoreAll(this.core, state, lsn);
  }

  /** What a restore of some paths to a past state would do; to be done at once, or not. @throws PosixError ENOENT */
  planRestore(state: RestorableState, past: StateReader, paths: readonly Buffer[]): PathRestorePlan {
    return planPathRestore(state, past, paths);
  }

  /** As `restore`, for what is at some paths only. */
  restorePaths(state: RestorableState, plan: PathRestorePlan): ClientChanges {
    return restorePaths(this.core, this.content, state, plan);
  }

  /** Removes what an earlier session had unlinked and still open. For the mount to call first. */
  removeOrphans(): number {
    return this.core.removeOrphans();
  }

  /** No client knows any inode any more (the end of a mount). */
  forgetAll(): void {
    this.core.references.clear();
    this.core.removeOrphans();
  }

  remember(inode: number, count: number): void {
    this.core.references.add(inode, count);
  }

  forget(inode: number, count: number): void {
    const { core } = this;
    if (core.references.subtract(inode, count) === 0 && core.orphans.size > 0) core.reap(inode);
  }

  /** relatime: noted once after each change, and once a day. */
  private isAccessDue(inode: Inode): boolean {
    const { core } = this;
    if (!core.relatime || core.live.readOnly) return false;
    const { accessSeconds, accessNanoseconds } = inode;
    core.now(this.accessTime);
    const { seconds } = this.accessTime;
    const due =
      seconds - accessSeconds >= DAY_SECONDS ||
      core.isUnread(inode, inode.modifySeconds, inode.modifyNanoseconds) ||
      core.isUnread(inode, inode.changeSeconds, inode.changeNanoseconds);
    // A time of creation needs no update within its own clock tick: it would be the same.
    return due && (seconds !== accessSeconds || this.accessTime.nanoseconds !== accessNanoseconds);
  }

  private setAccess(inode: Inode): void {
    inode.accessSeconds = this.core.time.seconds;
    inode.accessNanoseconds = this.core.time.nanoseconds;
  }

  protected override touchAccess(inode: Inode): void {
    const { core } = this;
    if (!this.isAccessDue(inode) || !core.beginOptional(true)) return;
    try {
      this.setAccess(inode);
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  setattr(caller: Caller, number: number, changes: AttributeChanges, handleNumber?: number): Attributes {
    const { core } = this;
    const handle = handleNumber === undefined ? undefined : core.handles.get(handleNumber);
    const inode = handle !== undefined && handle.number === number ? this.inodeOf(handle) : core.load(number);
    if (handle !== undefined && changes.size !== undefined && !handle.writable)
      throw new PosixError('EINVAL');
    checkAttributes(core, caller, inode, changes, handle?.writable ?? false);
    if (this.areTimesOfNothing(inode, changes)) return inode;
    core.begin(changes.size !== undefined && changes.size < inode.size);
    try {
      applyAttributes(core, this.content, caller, inode, changes);
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
    return inode;
  }

  /**
   * A kernel that keeps the times of regular files itself sends them for each file that it unlinks. When nobody has the file open
   * it goes with the kernel's last reference, and until then the kernel believes its own.
   */
  private areTimesOfNothing(inode: Inode, changes: AttributeChanges): boolean {
    const { core } = this;
    if (inode.links > 0 || !core.kernelHandles || !inode.isRegular || core.handles.isOpen(inode.inode))
      return false;
    return Object.keys(changes).every((key) => key === 'modify' || key === 'change');
  }

  mknod(caller: Caller, parent: number, name: Uint8Array, mode: number, device: number): Attributes {
    const type = (mode & S_IFMT) === 0 ? S_IFREG : mode & S_IFMT;
    if (type === S_IFDIR) throw new PosixError('EPERM');
    const isDevice = type === S_IFCHR || type === S_IFBLK;
    if (type !== S_IFREG && type !== S_IFIFO && type !== S_IFSOCK && !isDevice)
      throw new PosixError('EINVAL');
    const directory = this.core.searchDirectory(caller, parent);
    this.core.checkNewEntry(caller, directory, name);
    const isWhiteout = type === S_IFCHR && device === 0;
    if (isDevice && !isWhiteout && this.core.checkPermissions && caller.uid !== 0)
      throw new PosixError('EPERM');
    return this.add(caller, directory, name, type | (mode & 0o7777), isDevice ? device : 0, null);
  }

  mkdir(caller: Caller, parent: number, name: Uint8Array, mode: number): Attributes {
    const directory = this.core.searchDirectory(caller, parent);
    this.core.checkNewEntry(caller, directory, name);
    return this.add(caller, directory, name, S_IFDIR | (mode & 0o1777), 0, null);
  }

  symlink(caller: Caller, parent: number, name: Uint8Array, target: Uint8Array): Attributes {
    if (target.length === 0) throw new PosixError('ENOENT', 'an empty target');
    if (target.length > SYMLINK_MAX) throw new PosixError('ENAMETOOLONG', 'the target of a symbolic link');
    if (target.includes(0)) throw new PosixError('EINVAL');
    const directory = this.core.searchDirectory(caller, parent);
    this.core.checkNewEntry(caller, directory, name);
    return this.add(caller, directory, name, S_IFLNK | 0o777, 0, target);
  }

  /** Makes an inode and its entry, which was checked. */
  private add(
    caller: Caller,
    directory: Inode,
    name: Uint8Array,
    mode: number,
    device: number,
    target: Uint8Array | null,
  ): Inode {
    const { core } = this;
    core.begin();
    try {
      const inode = core.newInode(caller, directory, mode);
      core.cache.add(inode);
      inode.device = device;
      if (target !== null) this.content.write(inode, 0, target, 0, target.length);
      core.addEntry(directory, name, inode);
      core.putInode(inode);
      core.putDirectory(directory);
      core.commit();
      return inode;
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  link(caller: Caller, number: number, newParent: number, newName: Uint8Array): Attributes {
    const { core } = this;
    const inode = core.load(number);
    const directory = core.searchDirectory(caller, newParent);
    core.checkNewEntry(caller, directory, newName);
    if (inode.isDirectory) throw new PosixError('EPERM');
    if (inode.links === 0 && (inode.flags & FLAG_LINKABLE) === 0) throw new PosixError('ENOENT');
    if (inode.links >= LINK_MAX) throw new PosixError('EMLINK');
    core.begin();
    try {
      if (inode.links === 0) {
        inode.flags &= ~FLAG_LINKABLE;
        core.deleteOrphan(number);
      }
      inode.links++;
      core.addEntry(directory, newName, inode);
      core.touchStatus(inode);
      core.putInode(inode);
      core.putInode(directory);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
    return inode;
  }

  unlink(caller: Caller, parent: number, name: Uint8Array): void {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (isDot(name) || isDotDot(name)) throw new PosixError('EISDIR');
    core.checkName(name);
    const inode = core.child(parent, name);
    if (inode === undefined) throw new PosixError('ENOENT');
    core.checkRemoval(caller, directory, inode);
    if (inode.isDirectory) throw new PosixError('EISDIR');
    this.remove(directory, name, inode);
  }

  rmdir(caller: Caller, parent: number, name: Uint8Array): void {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (isDot(name)) throw new PosixError('EINVAL');
    if (isDotDot(name)) throw new PosixError('ENOTEMPTY');
    core.checkName(name);
    const inode = core.child(parent, name);
    if (inode === undefined) throw new PosixError('ENOENT');
    core.checkRemoval(caller, directory, inode);
    if (!inode.isDirectory) throw new PosixError('ENOTDIR');
    if (!core.isEmptyDirectory(inode.inode)) throw new PosixError('ENOTEMPTY');
    this.remove(directory, name, inode);
  }

  private remove(directory: Inode, name: Uint8Array, inode: Inode): void {
    const { core } = this;
    core.begin(true);
    try {
      core.removeEntry(directory, name, inode);
      core.dropLink(inode);
      core.putInode(directory);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  rename(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
  ): void {
    renameEntry(this.core, caller, parent, name, newParent, newName, flags);
  }

  open(caller: Caller, number: number, flags: number): number {
    const { core } = this;
    const inode = core.load(number);
    checkOpenType(inode, flags);
    core.require(caller, inode, openMask(flags));
    if ((flags & O_TRUNC) !== 0 && inode.isRegular) this.truncateAtOpen(caller, inode);
    return core.handles.open(inode, flags, null);
  }

  private truncateAtOpen(caller: Caller, inode: Inode): void {
    const { core } = this;
    core.begin();
    try {
      applyAttributes(core, this.content, caller, inode, { size: 0 });
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  create(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    mode: number,
    flags: number,
  ): { attributes: Attributes; handle: number } {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (isDot(name) || isDotDot(name)) throw new PosixError((flags & O_EXCL) !== 0 ? 'EEXIST' : 'EISDIR');
    core.checkName(name);
    const existing = core.child(parent, name);
    if (existing !== undefined) {
      if ((flags & O_EXCL) !== 0) throw new PosixError('EEXIST');
      return { attributes: existing, handle: this.open(caller, existing.inode, flags | O_CREAT) };
    }
    core.checkFreeName(caller, directory, name);
    const inode = this.add(caller, directory, name, S_IFREG | (mode & 0o7777), 0, null);
    return { attributes: inode, handle: core.handles.open(inode, flags, null) };
  }

  /** Operations up to `endTransaction` are one transaction of the state. When that fails, the state is to be rolled back. */
  beginTransaction(): void {
    this.core.waitWithDirectories();
  }

  endTransaction(): void {
    this.core.putWaiting();
  }

  /**
   * Sets all of a file's content; makes the file, with this mode, when the name is free. One operation, where programs
   * behind a kernel need create, truncate, write and close. Returns the inode; `isNew`: it was made.
   * @throws PosixError as `create` and `write`; EISDIR; ELOOP for a symbolic link; EINVAL for what else is no file
   */
  put(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    content: Uint8Array,
    mode: number,
  ): { inode: number; isNew: boolean } {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (isDot(name) || isDotDot(name)) throw new PosixError('EISDIR');
    core.checkName(name);
    if (content.length > MAX_FILE_SIZE) throw new PosixError('EFBIG');
    const existing = core.child(parent, name);
    if (existing === undefined) core.checkFreeName(caller, directory, name);
    else {
      if (existing.isSymlink) throw new PosixError('ELOOP');
      if (!existing.isRegular) throw new PosixError(existing.isDirectory ? 'EISDIR' : 'EINVAL');
      core.require(caller, existing, MAY_WRITE);
    }
    core.begin();
    try {
      const inode = existing ?? core.newInode(caller, directory, S_IFREG | (mode & 0o7777));
      if (existing === undefined) {
        this.content.writeFirst(inode, content);
        core.addEntry(directory, name, inode);
        core.putDirectory(directory);
      } else {
        applyAttributes(core, this.content, caller, inode, { size: 0 });
        if (content.length > 0) this.content.write(inode, 0, content, 0, content.length);
        this.noteWrite(caller, inode, core.checkPermissions && !keepsPrivileges(caller));
      }
      core.putInode(inode);
      core.commit();
      return { inode: inode.inode, isNew: existing === undefined };
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  tmpfile(
    caller: Caller,
    parent: number,
    mode: number,
    flags: number,
  ): { attributes: Attributes; handle: number } {
    const { core } = this;
    const directory = core.searchDirectory(caller, parent);
    if (directory.links === 0) throw new PosixError('ENOENT', 'the directory was removed');
    core.require(caller, directory, MAY_WRITE | MAY_EXECUTE);
    core.begin();
    let inode: Inode;
    try {
      inode = core.newInode(caller, directory, S_IFREG | (mode & 0o7777));
      core.cache.add(inode);
      inode.links = 0;
      if ((flags & O_EXCL) === 0) inode.flags |= FLAG_LINKABLE;
      core.putOrphan(inode);
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
    return { attributes: inode, handle: core.handles.open(inode, flags, null) };
  }

  write(
    caller: Caller,
    number: number,
    offset: number,
    source: Uint8Array,
    sourceStart: number,
    length: number,
    killPrivileges: boolean,
  ): number {
    const { core } = this;
    const handle = core.handles.get(number);
    const inode = this.writableFile(handle);
    const at = handle.append && !core.kernelHandles ? inode.size : offset;
    if (at < 0) throw new PosixError('EINVAL');
    if (length === 0) return 0;
    if (at >= MAX_FILE_SIZE) throw new PosixError('EFBIG');
    const count = Math.min(length, MAX_FILE_SIZE - at);
    core.begin();
    try {
      this.content.write(inode, at, source, sourceStart, count);
      // A kernel that checks permissions itself has looked at the caller's capabilities, too.
      this.noteWrite(caller, inode, killPrivileges || (core.checkPermissions && !keepsPrivileges(caller)));
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
    return count;
  }

  /** The regular file behind a handle that may write. @throws PosixError EBADF */
  private writableFile(handle: Handle): Inode {
    const inode = this.inodeOf(handle);
    if (!handle.writable || !inode.isRegular) throw new PosixError('EBADF');
    return inode;
  }

  /** What a change of content does besides: times, setuid and setgid, capabilities. */
  private noteWrite(caller: Caller, inode: Inode, killPrivileges: boolean): void {
    const { core } = this;
    core.touchContent(inode);
    if (killPrivileges) inode.mode = withoutPrivileges(inode.mode, caller, inode.gid);
    core.dropCapability(inode);
  }

  /** The same for a change of which no kernel says whether it takes setuid and setgid away. */
  private noteChange(caller: Caller, inode: Inode): void {
    this.noteWrite(caller, inode, hasPrivileges(inode.mode) && !keepsPrivileges(caller));
  }

  release(handle: number): void {
    const { number } = this.close(handle);
    if (this.core.orphans.size > 0) this.core.reap(number);
  }

  releasedir(handle: number): void {
    this.release(handle);
  }

  fsync(inode: number): number {
    this.core.load(inode);
    return this.lsn;
  }

  fallocate(caller: Caller, number: number, mode: number, offset: number, length: number): void {
    const { core } = this;
    const inode = this.writableFile(core.handles.get(number));
    if (offset < 0 || length <= 0) throw new PosixError('EINVAL');
    const keepSize = (mode & FALLOC_FL_KEEP_SIZE) !== 0;
    const kind = mode & ~FALLOC_FL_KEEP_SIZE;
    if (
      kind !== 0 &&
      kind !== FALLOC_FL_ZERO_RANGE &&
      mode !== (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE)
    ) {
      throw new PosixError('EOPNOTSUPP');
    }
    const end = offset + length;
    if (end > MAX_FILE_SIZE) throw new PosixError('EFBIG');
    if (kind !== FALLOC_FL_PUNCH_HOLE) {
      const { blockSize, blocksAvailable } = core.statistics();
      if (length > blocksAvailable * blockSize + inode.pages * inode.blockSize)
        throw new PosixError('ENOSPC');
    }
    core.begin();
    try {
      if (kind !== 0) this.content.punch(inode, offset, end);
      if (kind !== FALLOC_FL_PUNCH_HOLE) this.content.allocate(inode, offset, end, keepSize);
      this.noteChange(caller, inode);
      core.putInode(inode);
      core.commit();
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  copyFileRange(
    caller: Caller,
    sourceHandle: number,
    sourceOffset: number,
    targetHandle: number,
    targetOffset: number,
    length: number,
  ): number {
    const { core } = this;
    const from = core.handles.get(sourceHandle);
    const to = core.handles.get(targetHandle);
    const source = this.inodeOf(from);
    const target = this.inodeOf(to);
    if (source.isDirectory || target.isDirectory) throw new PosixError('EISDIR');
    if (!source.isRegular || !target.isRegular) throw new PosixError('EINVAL');
    const readable = from.readable || core.kernelHandles;
    if (!readable || !to.writable || (to.append && !core.kernelHandles)) throw new PosixError('EBADF');
    if (sourceOffset < 0 || targetOffset < 0) throw new PosixError('EINVAL');
    if (targetOffset >= MAX_FILE_SIZE && length > 0) throw new PosixError('EFBIG');
    const count = Math.min(length, source.size - sourceOffset, MAX_FILE_SIZE - targetOffset);
    if (count <= 0) return 0;
    if (source === target && sourceOffset < targetOffset + count && targetOffset < sourceOffset + count) {
      throw new PosixError('EINVAL');
    }
    core.begin();
    try {
      const copied = copyRange(core.live, this.content, source, sourceOffset, target, targetOffset, count);
      this.noteChange(caller, target);
      core.putInode(target);
      if (!from.noAtime && this.isAccessDue(source)) {
        this.setAccess(source);
        core.putInode(source);
      }
      core.commit();
      return copied;
    } catch (error) {
      core.abort();
      throw error;
    }
  }

  setxattr(
    caller: Caller,
    inode: number,
    name: Uint8Array,
    value: Uint8Array,
    flags: number,
    killSgid: boolean,
  ): void {
    setXattr(this.core, caller, inode, name, value, flags, killSgid);
  }

  removexattr(caller: Caller, inode: number, name: Uint8Array): void {
    removeXattr(this.core, caller, inode, name);
  }
}
