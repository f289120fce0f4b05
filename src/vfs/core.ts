/**
 * What reading needs, over one state: inodes by number, entries by name, permissions, handles. The live and the
 * past file systems share it; live-core.ts adds what changes a state.
 *
 * Key buffers are reused: a lookup that hits allocates nothing.
 */
import { putU64BE } from '../encoding/bytes.ts';
import { direntInode, direntType } from '../encoding/dirent.ts';
import { decodeInode, FLAG_ACCESS_ACL } from '../encoding/inode.ts';
import { KIND_INODE, NAME_MAX } from '../encoding/keys.ts';
import { PosixError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';
import { aclGrants, parseAcl } from './acl.ts';
import { inGroup, MAY_EXECUTE, rootMay } from './caller.ts';
import { systemClock, type Timestamp } from './clock.ts';
import { type Caller, type FileSystemStatistics, ROOT_INODE, S_IFDIR } from './file-system.ts';
import { HandleTable } from './handle-table.ts';
import { Inode, InodeCache } from './inode-cache.ts';
import { readXattr, XATTR_ACCESS_ACL } from './xattr-store.ts';

export interface VfsOptions {
  /** The numbers of statfs. */
  readonly statistics: () => FileSystemStatistics;
  /** Off behind a kernel that checks them itself (default_permissions). Default: on. */
  readonly checkPermissions?: boolean;
  /**
   * The handles belong to a kernel: it may read through handles that were opened for writing only (writeback
   * cache), and positions appending writes itself. Default: off.
   */
  readonly kernelHandles?: boolean;
  /** Whether reading updates the access time. Default: 'relatime'. */
  readonly atime?: 'relatime' | 'noatime';
  /** The clock; writes the present time into the object. Default: the system's. */
  readonly now?: (time: Timestamp) => void;
  /** Whether a name at the root, which begins with "@", is that of a snapshot and so not free. */
  readonly isSnapshotName?: (name: Uint8Array) => boolean;
  /** Whom the root directory of a new store belongs to. Default: root. */
  readonly rootOwner?: { readonly uid: number; readonly gid: number };
  /** How many decoded inodes are kept in memory. Default: 16,384. */
  readonly cachedInodes?: number;
}

const DOT = 0x2e;
const SLASH = 0x2f;

export function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === DOT;
}
export function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === DOT && name[1] === DOT;
}

export class Core {
  readonly state: StateReader;
  readonly cache: InodeCache;
  readonly handles = new HandleTable();
  readonly statistics: () => FileSystemStatistics;
  readonly checkPermissions: boolean;
  readonly kernelHandles: boolean;
  readonly relatime: boolean;
  readonly now: (time: Timestamp) => void;
  readonly isSnapshotName: (name: Uint8Array) => boolean;
  /** Views of one buffer, by length: the key of an entry without an allocation. */
  private readonly entryKeys: Buffer[] = [];
  private readonly entryKeyBuffer = Buffer.alloc(8 + NAME_MAX);
  private readonly recordKey = Buffer.alloc(9);
  /** Type of the entry that `childInode` found last. */
  childType = 0;
  /** How often a path may have come to lead to another directory, or to none. */
  directoryMoves = 0;

  constructor(state: StateReader, options: VfsOptions) {
    this.state = state;
    this.statistics = options.statistics;
    this.checkPermissions = options.checkPermissions ?? true;
    this.kernelHandles = options.kernelHandles ?? false;
    this.relatime = (options.atime ?? 'relatime') === 'relatime';
    this.now = options.now ?? systemClock;
    this.isSnapshotName = options.isSnapshotName ?? (() => false);
    this.cache = new InodeCache(options.cachedInodes ?? 16_384);
    this.recordKey[8] = KIND_INODE;
  }

  /** The key of an inode record, in a buffer that the next call reuses. */
  inodeKeyOf(inode: number): Buffer {
    putU64BE(this.recordKey, 0, inode);
    return this.recordKey;
  }

  /** The key of an entry, in a buffer that the next call reuses. The name has 1 to NAME_MAX bytes. */
  entryKeyOf(directory: number, name: Uint8Array): Buffer {
    let key = this.entryKeys[name.length];
    if (key === undefined) {
      key = this.entryKeyBuffer.subarray(0, 8 + name.length);
      this.entryKeys[name.length] = key;
    }
    putU64BE(key, 0, directory);
    key.set(name, 8);
    return key;
  }

  /** The inode, or undefined when the state has no such number. */
  find(number: number): Inode | undefined {
    const cached = this.cache.get(number);
    if (cached !== undefined) return cached;
    const tree = this.state.inodes;
    if (!tree.find(this.inodeKeyOf(number))) return number === ROOT_INODE ? this.emptyRoot() : undefined;
    const inode = new Inode(number, this.state.pageSize);
    decodeInode(inode, number, tree.page.bytes, tree.valueStart, tree.valueLength);
    this.cache.add(inode);
    return inode;
  }

  /** @throws PosixError ESTALE */
  load(number: number): Inode {
    const inode = this.find(number);
    if (inode === undefined) throw new PosixError('ESTALE', `inode ${number}`);
    return inode;
  }

  /** The root of a state before the first transaction: an empty directory. */
  private emptyRoot(): Inode {
    const root = new Inode(ROOT_INODE, this.state.pageSize);
    root.mode = S_IFDIR | 0o755;
    root.links = 2;
    root.parent = ROOT_INODE;
    return root;
  }

  /** @throws PosixError ESTALE, ENOTDIR */
  loadDirectory(number: number): Inode {
    const inode = this.load(number);
    if (!inode.isDirectory) throw new PosixError('ENOTDIR', `inode ${number}`);
    return inode;
  }

  /** The inode number of an entry, 0 when there is none. Sets `childType`. */
  childInode(directory: number, name: Uint8Array): number {
    return this.entryInode(this.entryKeyOf(directory, name));
  }

  /** The same by the key of the entry. */
  entryInode(key: Uint8Array): number {
    const tree = this.state.namespace;
    if (!tree.find(key)) return 0;
    const { bytes } = tree.page;
    const inode = direntInode(bytes, tree.valueStart, tree.valueLength);
    this.childType = direntType(bytes, tree.valueStart);
    return inode;
  }

  /** The inode of an entry, or undefined when there is none. */
  child(directory: number, name: Uint8Array): Inode | undefined {
    const number = this.childInode(directory, name);
    return number === 0 ? undefined : this.load(number);
  }

  /** @throws PosixError ENAMETOOLONG, EINVAL */
  checkName(name: Uint8Array): void {
    if (name.length > NAME_MAX) throw new PosixError('ENAMETOOLONG');
    if (name.length === 0) throw new PosixError('ENOENT');
    for (let i = 0; i < name.length; i++) {
      if (name[i] === SLASH || name[i] === 0) throw new PosixError('EINVAL', 'a name with "/" or NUL');
    }
  }

  isEmptyDirectory(inode: number): boolean {
    const prefix = Buffer.allocUnsafe(8);
    putU64BE(prefix, 0, inode);
    const cursor = this.state.namespace.cursor();
    return !cursor.seek(prefix) || !cursor.startsWith(prefix);
  }

  /** Whether the caller has all the permissions of `mask`. True when permissions are checked elsewhere. */
  may(caller: Caller, inode: Inode, mask: number): boolean {
    return !this.checkPermissions || this.grants(caller, inode, mask);
  }

  /** As `may`, whoever checks. */
  grants(caller: Caller, inode: Inode, mask: number): boolean {
    const { mode } = inode;
    if (caller.uid === 0) return rootMay(mode, mask);
    if (caller.uid === inode.uid) return ((mode >> 6) & mask) === mask;
    if ((inode.flags & FLAG_ACCESS_ACL) !== 0 && (mode & 0o070) !== 0) {
      const value = readXattr(this.state, inode.inode, XATTR_ACCESS_ACL);
      if (value !== undefined) return aclGrants(parseAcl(value), inode.gid, caller, mask);
    }
    const bits = inGroup(caller, inode.gid) ? mode >> 3 : mode;
    return (bits & mask) === mask;
  }

  /** @throws PosixError EACCES */
  require(caller: Caller, inode: Inode, mask: number): void {
    if (!this.may(caller, inode, mask)) throw new PosixError('EACCES');
  }

  /** The directory, which the caller may search. @throws PosixError ESTALE, ENOTDIR, EACCES */
  searchDirectory(caller: Caller, number: number): Inode {
    const directory = this.loadDirectory(number);
    if (this.checkPermissions) this.require(caller, directory, MAY_EXECUTE);
    return directory;
  }
}
