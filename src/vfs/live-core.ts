/**
 * What changing needs: transactions, writing inodes and entries through, new inodes, and inodes that go.
 *
 * Every operation validates first, then brackets its changes with `begin` and `commit`; what fails in between
 * goes to `abort`, which rolls the state back and forgets all decoded inodes, for they may be ahead of it.
 *
 * An inode without links lives on as an orphan while a handle is open or a client knows it: its orphan key is put
 * in the transaction that removes its last link and deleted in the one that removes the inode, so that after a
 * crash `removeOrphans` finds every one.
 */
import { getU64BE } from '../encoding/bytes.ts';
import { DIRENT_MAX, encodeDirent } from '../encoding/dirent.ts';
import {
  encodeInode,
  FLAG_ACCESS_ACL,
  FLAG_CAPABILITY,
  FLAG_DEFAULT_ACL,
  FLAG_INLINE,
  FLAG_XATTRS,
  INODE_CONTENT,
  inlineMax,
} from '../encoding/inode.ts';
import { orphanKey, TREE } from '../encoding/keys.ts';
import { isReservedName } from '../encoding/names.ts';
import { LsnfsError, PosixError } from '../errors.ts';
import type { LiveState } from '../store/state.ts';
import { formatAcl, inheritAcl, isMinimalAcl, parseAcl } from './acl.ts';
import { inGroup, isOwner, MAY_EXECUTE, MAY_WRITE } from './caller.ts';
import type { Timestamp } from './clock.ts';
import { Core, isDot, isDotDot, type VfsOptions } from './core.ts';
import {
  type Caller,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
  S_ISGID,
  S_ISVTX,
} from './file-system.ts';
import { Inode } from './inode-cache.ts';
import { ReferenceTable } from './reference-table.ts';
import {
  deleteAllXattrs,
  deleteXattr,
  hasAnyXattr,
  readXattr,
  writeXattr,
  XATTR_ACCESS_ACL,
  XATTR_CAPABILITY,
  XATTR_DEFAULT_ACL,
} from './xattr-store.ts';

/** What an entry adds to the size of its directory, beside the length of its name. */
export const ENTRY_OVERHEAD = 16;

/** The longest tick of a kernel's clock: CONFIG_HZ=100. */
const KERNEL_TICK_NANOSECONDS = 10_000_000;

const AT = 0x40;

export class LiveCore extends Core {
  readonly live: LiveState;
  readonly references = new ReferenceTable();
  /** Inodes without links that are still open or known. */
  readonly orphans = new Set<number>();
  /** The time of the operation that is under way. */
  readonly time: Timestamp = { seconds: 0, nanoseconds: 0 };
  private readonly rootOwner: { readonly uid: number; readonly gid: number };
  private readonly record: Buffer;
  private readonly bareRecord: Buffer;
  private readonly direntViews: Buffer[] = [];
  /** Directories whose records are to be put at the end of the transaction, pinned; undefined outside one. */
  private waiting: Set<Inode> | undefined;
  private readonly dirent = Buffer.alloc(DIRENT_MAX);

  constructor(state: LiveState, options: VfsOptions) {
    super(state, options);
    this.live = state;
    this.rootOwner = options.rootOwner ?? { uid: 0, gid: 0 };
    this.record = Buffer.alloc(INODE_CONTENT + inlineMax(state.pageSize));
    this.bareRecord = this.record.subarray(0, INODE_CONTENT);
    for (let i = 0; i <= DIRENT_MAX; i++) this.direntViews.push(this.dirent.subarray(0, i));
    state.onReset(() => this.forget());
  }

  begin(frees = false): void {
    this.live.begin(frees);
    this.now(this.time);
  }

  /**
   * Begins a change that nobody asked for (an access time, an orphan). A full or failed store can still be read
   * and closed: returns false, and the change is left out.
   */
  beginOptional(frees = false): boolean {
    if (this.live.readOnly) return false;
    try {
      this.begin(frees);
      return true;
    } catch (error) {
      if (error instanceof LsnfsError && ['ENOSPC', 'ENFILE', 'EROFS'].includes(error.errno)) return false;
      throw error;
    }
  }

  commit(): void {
    this.live.commit();
  }

  /** Undoes an operation that failed after `begin`. */
  abort(): void {
    try {
      this.live.rollback();
    } finally {
      this.forget();
    }
  }

  /** The state may be another than the one that was decoded. */
  forget(): void {
    this.directoryMoves++;
    this.waiting = undefined;
    this.cache.clear();
    this.handles.detach();
    this.orphans.clear();
    for (const inode of this.storedOrphans()) this.orphans.add(inode);
  }

  /** Creates the root directory of a new store. */
  createRoot(): void {
    this.begin();
    try {
      const root = new Inode(ROOT_INODE, this.live.pageSize);
      root.mode = S_IFDIR | 0o755;
      root.uid = this.rootOwner.uid;
      root.gid = this.rootOwner.gid;
      root.links = 2;
      root.parent = ROOT_INODE;
      this.setAllTimes(root);
      this.putInode(root);
      this.commit();
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  putInode(inode: Inode): void {
    const length = encodeInode(inode, this.record);
    const value = length === INODE_CONTENT ? this.bareRecord : this.record.subarray(0, length);
    this.live.put(TREE.inodes, this.inodeKeyOf(inode.inode), value);
  }

  /**
   * From here to `putWaiting` directories that get new entries put their records once, at the end: a transaction that
   * makes many files would write the same records over and over. What fails in between must go to `forget`.
   */
  waitWithDirectories(): void {
    this.waiting = new Set();
  }

  /** Puts the records of a directory that has got an entry, now or when the transaction ends. */
  putDirectory(directory: Inode): void {
    const { waiting } = this;
    if (waiting === undefined) {
      this.putInode(directory);
      return;
    }
    if (waiting.has(directory)) return;
    directory.pins++;
    waiting.add(directory);
  }

  putWaiting(): void {
    const { waiting } = this;
    this.waiting = undefined;
    if (waiting === undefined || waiting.size === 0) return;
    this.live.begin();
    try {
      for (const directory of waiting) {
        directory.pins--;
        this.putInode(directory);
      }
      this.live.commit();
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  putEntry(directory: Inode, name: Uint8Array, child: Inode): void {
    const length = encodeDirent(this.dirent, child.inode, child.mode);
    this.live.put(TREE.namespace, this.entryKeyOf(directory.inode, name), this.direntViews[length]!);
  }

  /** Adds an entry. The directory's record is the caller's to put. */
  addEntry(directory: Inode, name: Uint8Array, child: Inode): void {
    this.putEntry(directory, name, child);
    directory.size += name.length + ENTRY_OVERHEAD;
    if (child.isDirectory) directory.links++;
    this.touchContent(directory);
  }

  /** Removes an entry. The directory's record is the caller's to put. */
  removeEntry(directory: Inode, name: Uint8Array, child: Inode): void {
    this.live.delete(TREE.namespace, this.entryKeyOf(directory.inode, name));
    directory.size -= name.length + ENTRY_OVERHEAD;
    if (child.isDirectory) {
      directory.links--;
      this.directoryMoves++;
    }
    this.touchContent(directory);
  }

  /**
   * mtime and ctime are now.
   *
   * A kernel that caches writes keeps these times of a file itself, by a clock that ticks, and tells us when it has
   * changed them; it does not when a change falls into the tick of the one before. Then the time that it told stays,
   * for otherwise programs would see another one live than in the past.
   */
  touchContent(inode: Inode): void {
    if (this.kernelHandles && inode.isRegular && this.isWithinTick(inode)) return;
    inode.modifySeconds = this.time.seconds;
    inode.modifyNanoseconds = this.time.nanoseconds;
    this.touchStatus(inode);
  }

  /** Whether the file's content was changed at most one tick of any kernel's clock ago. */
  private isWithinTick(inode: Inode): boolean {
    const seconds = this.time.seconds - inode.modifySeconds;
    if (seconds < 0 || seconds > 1) return false;
    const nanoseconds = seconds * 1e9 + this.time.nanoseconds - inode.modifyNanoseconds;
    return nanoseconds >= 0 && nanoseconds <= KERNEL_TICK_NANOSECONDS;
  }

  /**
   * Whether the inode was not read after a change at this time. A change that a kernel has timed by a clock that ticks
   * may be later than it looks, by a tick: that of a new file's first content looks older than the file.
   */
  isUnread(inode: Inode, seconds: number, nanoseconds: number): boolean {
    const between = inode.accessSeconds - seconds;
    if (between < 0) return true;
    if (between > 1) return false;
    const slack = this.kernelHandles ? KERNEL_TICK_NANOSECONDS : 0;
    return between * 1e9 + inode.accessNanoseconds - nanoseconds <= slack;
  }

  /** ctime is now. */
  touchStatus(inode: Inode): void {
    inode.changeSeconds = this.time.seconds;
    inode.changeNanoseconds = this.time.nanoseconds;
  }

  private setAllTimes(inode: Inode): void {
    this.touchContent(inode);
    inode.accessSeconds = inode.birthSeconds = this.time.seconds;
    inode.accessNanoseconds = inode.birthNanoseconds = this.time.nanoseconds;
  }

  /**
   * Checks that an entry can be made: the name is one, free and not reserved, and the caller may write.
   * @throws PosixError EEXIST, EINVAL, ENAMETOOLONG, ENOENT, EACCES
   */
  checkNewEntry(caller: Caller, directory: Inode, name: Uint8Array): void {
    if (isDot(name) || isDotDot(name)) throw new PosixError('EEXIST');
    this.checkName(name);
    if (this.childInode(directory.inode, name) !== 0) throw new PosixError('EEXIST');
    this.checkFreeName(caller, directory, name);
  }

  /** The part of `checkNewEntry` for a name that is known to be valid and without an entry. */
  checkFreeName(caller: Caller, directory: Inode, name: Uint8Array): void {
    if (directory.links === 0) throw new PosixError('ENOENT', 'the directory was removed');
    if (directory.inode === ROOT_INODE && name[0] === AT) {
      if (isReservedName(name)) {
        throw new LsnfsError(
          'NAME_RESERVED',
          `${JSON.stringify(Buffer.from(name).toString())} names a state and cannot be created`,
        );
      }
      if (this.isSnapshotName(name)) {
        throw new LsnfsError(
          'NAME_TAKEN',
          `a snapshot is named ${JSON.stringify(Buffer.from(name).toString())}`,
        );
      }
    }
    this.require(caller, directory, MAY_WRITE | MAY_EXECUTE);
  }

  /** Whether the caller may remove this entry: writing to the directory, and the sticky bit. */
  checkRemoval(caller: Caller, directory: Inode, child: Inode): void {
    if (!this.checkPermissions) return;
    this.require(caller, directory, MAY_WRITE | MAY_EXECUTE);
    const sticky = (directory.mode & S_ISVTX) !== 0;
    if (sticky && !isOwner(caller, directory.uid) && !isOwner(caller, child.uid))
      throw new PosixError('EPERM');
  }

  /**
   * A new inode in a directory: owner and group, setgid and the default ACL taken from the directory. Its record
   * is the caller's to put, and the caller's to take into the cache if somebody goes on with it. Inside a transaction.
   */
  newInode(caller: Caller, directory: Inode, mode: number): Inode {
    const type = mode & S_IFMT;
    const inode = new Inode(this.live.allocateInode(), this.live.pageSize);
    inode.uid = caller.uid;
    inode.gid = caller.gid;
    inode.mode = type === S_IFLNK ? S_IFLNK | 0o777 : mode;
    inode.links = type === S_IFDIR ? 2 : 1;
    if (type === S_IFDIR) inode.parent = directory.inode;
    else if (type === S_IFREG || type === S_IFLNK) inode.flags = FLAG_INLINE;
    if (type !== S_IFLNK) {
      if ((directory.flags & FLAG_DEFAULT_ACL) !== 0) this.inheritAcls(directory, inode);
      else if (caller.umask !== undefined) inode.mode &= ~(caller.umask & 0o777);
    }
    if ((directory.mode & S_ISGID) !== 0) {
      inode.gid = directory.gid;
      if (type === S_IFDIR) inode.mode |= S_ISGID;
      else if (
        this.checkPermissions &&
        (inode.mode & (S_ISGID | 0o010)) === (S_ISGID | 0o010) &&
        caller.uid !== 0 &&
        !inGroup(caller, directory.gid)
      ) {
        inode.mode &= ~S_ISGID;
      }
    }
    this.setAllTimes(inode);
    return inode;
  }

  private inheritAcls(directory: Inode, inode: Inode): void {
    const value = readXattr(this.live, directory.inode, XATTR_DEFAULT_ACL);
    if (value === undefined) return;
    const acl = parseAcl(value);
    inode.mode = (inode.mode & ~0o777) | inheritAcl(acl, inode.mode);
    if (!isMinimalAcl(acl)) {
      writeXattr(this.live, inode.inode, XATTR_ACCESS_ACL, formatAcl(acl));
      inode.flags |= FLAG_XATTRS | FLAG_ACCESS_ACL;
    }
    if (inode.isDirectory) {
      writeXattr(this.live, inode.inode, XATTR_DEFAULT_ACL, value);
      inode.flags |= FLAG_XATTRS | FLAG_DEFAULT_ACL;
    }
  }

  /** Removes an xattr that is there, with its flag. The record is the caller's to put. */
  removeXattr(inode: Inode, name: Uint8Array, flag: number): void {
    deleteXattr(this.live, inode.inode, name);
    inode.flags &= ~flag;
    if (!hasAnyXattr(this.live, inode.inode)) inode.flags &= ~FLAG_XATTRS;
  }

  /** Every change of content or owner takes the file's capabilities away. */
  dropCapability(inode: Inode): void {
    if ((inode.flags & FLAG_CAPABILITY) !== 0) this.removeXattr(inode, XATTR_CAPABILITY, FLAG_CAPABILITY);
  }

  /** Whether a handle or a client holds the inode. */
  isInUse(inode: number): boolean {
    return this.handles.isOpen(inode) || this.references.get(inode) > 0;
  }

  /** The inodes that a handle or a client holds, each once. */
  *inUse(): Generator<number> {
    yield* this.handles.inodes();
    for (const inode of this.references.inodes()) if (!this.handles.isOpen(inode)) yield inode;
  }

  /** One name fewer; a directory's own two links go at once. Puts or removes the inode's record. */
  dropLink(inode: Inode): void {
    inode.links = inode.isDirectory ? 0 : inode.links - 1;
    if (inode.links === 0) {
      if (!this.isInUse(inode.inode)) {
        this.destroy(inode);
        return;
      }
      this.putOrphan(inode);
    }
    this.touchStatus(inode);
    this.putInode(inode);
  }

  putOrphan(inode: Inode): void {
    this.live.put(TREE.inodes, orphanKey(inode.inode), Buffer.alloc(0));
    this.orphans.add(inode.inode);
  }

  deleteOrphan(inode: number): void {
    this.live.delete(TREE.inodes, orphanKey(inode));
    this.orphans.delete(inode);
  }

  /** Removes the inode with all that belongs to it. */
  private destroy(inode: Inode): void {
    if ((inode.isRegular || inode.isSymlink) && !inode.isInline) {
      this.live.unmapData(inode.inode, 0, Number.POSITIVE_INFINITY);
    }
    if ((inode.flags & FLAG_XATTRS) !== 0) deleteAllXattrs(this.live, inode.inode);
    if (this.waiting?.delete(inode) === true) inode.pins--;
    this.live.delete(TREE.inodes, this.inodeKeyOf(inode.inode));
    this.cache.delete(inode.inode);
  }

  /** Removes an orphan that nobody holds any more. What cannot go now goes with `removeOrphans`. */
  reap(number: number): void {
    if (!this.orphans.has(number) || this.isInUse(number)) return;
    const inode = this.find(number);
    if (!this.beginOptional()) return;
    try {
      if (inode !== undefined) this.destroy(inode);
      this.deleteOrphan(number);
      this.commit();
    } catch (error) {
      this.abort();
      throw error;
    }
  }

  /** Removes all orphans that nobody holds: those of a session that ended. Returns how many. */
  removeOrphans(): number {
    let removed = 0;
    for (const inode of this.storedOrphans()) {
      this.orphans.add(inode);
      this.reap(inode);
      if (!this.orphans.has(inode)) removed++;
    }
    return removed;
  }

  /** The inodes that the state says are orphans. */
  private storedOrphans(): number[] {
    const found: number[] = [];
    const prefix = orphanKey(0).subarray(0, 9);
    const cursor = this.state.inodes.cursor();
    for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.next()) {
      found.push(getU64BE(cursor.keyView, 9));
    }
    return found;
  }
}
