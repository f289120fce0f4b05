/**
 * The operations of a file system, shaped like the Linux kernel's own inode operations.
 *
 * They are synchronous, work on inode numbers and names of bytes, carry the caller's identity, and throw
 * PosixError with the errno that ext4 would give. They know nothing of FUSE; the kernel binding, the API
 * and the tests are thin adapters over them. One object serves one state: the live one (read-write) or a
 * past one (every change is EROFS).
 *
 * Buffers that are passed in belong to the caller and are copied when kept; buffers that are returned are
 * fresh unless said otherwise. Attributes objects that are returned may be reused by the next call: copy
 * what is kept.
 */

/**
 * Who asks. uid 0 has all capabilities, unless `keepsPrivileges` says otherwise of CAP_FSETID. `groups` are the
 * supplementary groups, where they are known. Both may cost something to find out: ask only if they decide.
 */
export interface Caller {
  readonly uid: number;
  readonly gid: number;
  readonly pid: number;
  readonly groups?: readonly number[];
  readonly keepsPrivileges?: boolean;
  /**
   * The umask, where whoever passes the mode has not applied it (FUSE_DONT_MASK): it counts only where the
   * directory has no default ACL.
   */
  readonly umask?: number;
}

export const ROOT_CALLER: Caller = Object.freeze({ uid: 0, gid: 0, pid: 0 });

/** The inode number of the root directory; FUSE_ROOT_ID is the same number. */
export const ROOT_INODE = 1;

/** Types in the mode, as in stat(2). */
export const S_IFMT = 0o170000;
export const S_IFSOCK = 0o140000;
export const S_IFLNK = 0o120000;
export const S_IFREG = 0o100000;
export const S_IFBLK = 0o060000;
export const S_IFDIR = 0o040000;
export const S_IFCHR = 0o020000;
export const S_IFIFO = 0o010000;
export const S_ISUID = 0o4000;
export const S_ISGID = 0o2000;
export const S_ISVTX = 0o1000;

/** Flags of open(2) on x86-64 and arm64 alike where they matter here. */
export const O_ACCMODE = 0o3;
export const O_RDONLY = 0o0;
export const O_WRONLY = 0o1;
export const O_RDWR = 0o2;
export const O_CREAT = 0o100;
export const O_EXCL = 0o200;
export const O_TRUNC = 0o1000;
export const O_APPEND = 0o2000;
export const O_DSYNC = 0o10000;
export const O_NOATIME = 0o1000000;
export const O_SYNC = 0o4010000;

/** Flags of renameat2(2). */
export const RENAME_NOREPLACE = 1;
export const RENAME_EXCHANGE = 2;
export const RENAME_WHITEOUT = 4;

/** Modes of fallocate(2). */
export const FALLOC_FL_KEEP_SIZE = 0x01;
export const FALLOC_FL_PUNCH_HOLE = 0x02;
export const FALLOC_FL_COLLAPSE_RANGE = 0x08;
export const FALLOC_FL_ZERO_RANGE = 0x10;
export const FALLOC_FL_INSERT_RANGE = 0x20;

export const SEEK_DATA = 3;
export const SEEK_HOLE = 4;

export const XATTR_CREATE = 1;
export const XATTR_REPLACE = 2;

/** Times are signed seconds since 1970 and nanoseconds 0..999,999,999. */
export interface Attributes {
  inode: number;
  /** Type and permission bits. */
  mode: number;
  links: number;
  uid: number;
  gid: number;
  /** Device number as the kernel encodes it (new_encode_dev), for device nodes. */
  device: number;
  size: number;
  /** Space in use, in units of 512 bytes. */
  blocks: number;
  blockSize: number;
  accessSeconds: number;
  accessNanoseconds: number;
  modifySeconds: number;
  modifyNanoseconds: number;
  changeSeconds: number;
  changeNanoseconds: number;
  birthSeconds: number;
  birthNanoseconds: number;
}

/** What setattr is to change; an absent member stays as it is. 'now' is the server's clock. */
export interface AttributeChanges {
  mode?: number;
  uid?: number;
  gid?: number;
  size?: number;
  access?: 'now' | { readonly seconds: number; readonly nanoseconds: number };
  modify?: 'now' | { readonly seconds: number; readonly nanoseconds: number };
  /** The kernel's own ctime (writeback cache); otherwise ctime is now. */
  change?: { readonly seconds: number; readonly nanoseconds: number };
  /** FATTR_KILL_SUIDGID: the kernel asks to clear setuid and setgid as a write would. */
  killPrivileges?: boolean;
}

export interface FileSystemStatistics {
  blockSize: number;
  blocks: number;
  blocksFree: number;
  blocksAvailable: number;
  files: number;
  filesFree: number;
  nameMax: number;
}

/**
 * Receives directory entries one by one. `cookie` resumes after this entry. Return false when the entry did
 * not fit: the listing stops before it. `name` is valid during the call only.
 */
export type EntrySink = (name: Uint8Array, inode: number, mode: number, cookie: number) => boolean;

export interface FileSystem {
  readonly readOnly: boolean;
  /** LSN of the state that is served; for the live one, that of its last transaction. */
  readonly lsn: number;

  /** The entry's attributes, or undefined: a missing name is an answer, not an exception. Takes no reference. */
  lookup(caller: Caller, parent: number, name: Uint8Array): Attributes | undefined;
  /** The kernel (or another client) now knows the inode by `count` more references … */
  remember(inode: number, count: number): void;
  /** … and now by fewer. At zero, with no handle and no link, the inode goes. */
  forget(inode: number, count: number): void;

  getattr(caller: Caller, inode: number): Attributes;
  setattr(caller: Caller, inode: number, changes: AttributeChanges, handle?: number): Attributes;
  /** access(2); for callers without default_permissions. @throws EACCES */
  access(caller: Caller, inode: number, mask: number): void;
  readlink(caller: Caller, inode: number): Uint8Array;

  /** `mode` has the umask applied already, type bits included. */
  mknod(caller: Caller, parent: number, name: Uint8Array, mode: number, device: number): Attributes;
  mkdir(caller: Caller, parent: number, name: Uint8Array, mode: number): Attributes;
  symlink(caller: Caller, parent: number, name: Uint8Array, target: Uint8Array): Attributes;
  link(caller: Caller, inode: number, newParent: number, newName: Uint8Array): Attributes;
  unlink(caller: Caller, parent: number, name: Uint8Array): void;
  rmdir(caller: Caller, parent: number, name: Uint8Array): void;
  rename(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
  ): void;

  /** Opens a file; returns a handle. O_TRUNC is honoured here (ATOMIC_O_TRUNC). */
  open(caller: Caller, inode: number, flags: number): number;
  /** Creates and opens; with an existing name and no O_EXCL, opens that. */
  create(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    mode: number,
    flags: number,
  ): { attributes: Attributes; handle: number };
  /** O_TMPFILE: a file without a name, linkable unless O_EXCL. */
  tmpfile(
    caller: Caller,
    parent: number,
    mode: number,
    flags: number,
  ): { attributes: Attributes; handle: number };
  /** Reads up to `length` bytes at `offset` into `target`; returns how many (less only at the end of file). */
  read(handle: number, offset: number, target: Uint8Array, targetStart: number, length: number): number;
  /** Writes all of it. `killPrivileges`: clear setuid/setgid as the kernel asked (FUSE_WRITE_KILL_SUIDGID). */
  write(
    caller: Caller,
    handle: number,
    offset: number,
    source: Uint8Array,
    sourceStart: number,
    length: number,
    killPrivileges: boolean,
  ): number;
  release(handle: number): void;
  /** The LSN that must be durable before an fsync of this inode may be answered. */
  fsync(inode: number): number;
  fallocate(caller: Caller, handle: number, mode: number, offset: number, length: number): void;
  /** SEEK_DATA and SEEK_HOLE. @throws ENXIO */
  lseek(handle: number, offset: number, whence: number): number;
  copyFileRange(
    caller: Caller,
    sourceHandle: number,
    sourceOffset: number,
    targetHandle: number,
    targetOffset: number,
    length: number,
  ): number;

  /** Opens a directory for reading; returns a handle, to be released with `releasedir`. `flags`: O_NOATIME counts. */
  opendir(caller: Caller, inode: number, flags?: number): number;
  /**
   * Lists from after `cookie` (0: from the start, "." and ".." first). Cookies stay valid for the handle's
   * lifetime, whatever is created, removed or renamed meanwhile: an entry that existed all the time is
   * listed exactly once.
   */
  readdir(handle: number, cookie: number, sink: EntrySink): void;
  releasedir(handle: number): void;

  statfs(): FileSystemStatistics;

  /** The value. @throws ENODATA, EOPNOTSUPP */
  getxattr(caller: Caller, inode: number, name: Uint8Array): Uint8Array;
  /** `flags`: XATTR_CREATE, XATTR_REPLACE. `killSgid`: FUSE_SETXATTR_ACL_KILL_SGID. */
  setxattr(
    caller: Caller,
    inode: number,
    name: Uint8Array,
    value: Uint8Array,
    flags: number,
    killSgid: boolean,
  ): void;
  /** All names, each ended by a NUL, as listxattr(2) returns them. */
  listxattr(caller: Caller, inode: number): Uint8Array;
  removexattr(caller: Caller, inode: number, name: Uint8Array): void;
}

/**
 * All that a mount shows: the live file system and, by the names that begin with "@" in its root, past ones.
 *
 * Each such name that was looked up is a door with a number (1, 2, …, below 2^23; 0 is the live file system).
 * Two names of one state are two doors, so that a directory never has two parents in the kernel's cache. The
 * kernel's node id of an inode behind a door is door * 2^40 + inode, and st_ino is the same number: distinct
 * from the live file's, and the same at every look.
 */
export interface Volume {
  readonly live: FileSystem;
  /**
   * The door of a name at the root that begins with "@", or undefined when it names no state (then it may be an
   * ordinary entry of the live root, which the caller has asked first). "@" itself is the directory of the
   * snapshots.
   */
  door(name: Uint8Array): Door | undefined;
  /** A door by its number. @throws PosixError ESTALE when it is closed. */
  doorByNumber(number: number): Door;
  /** The names of the snapshots, oldest first: the entries of "/@" (and of "/" with --snapdir visible, behind "@"). */
  snapshotNames(): Uint8Array[];
  /** Called for every change of the snapshots, with the name: what the kernel knows of it is stale. */
  onSnapshotChange(listener: (name: string) => void): void;
}

export interface Door {
  readonly number: number;
  /** The state behind it. For "@" itself: a synthetic file system whose only directory lists the snapshots. */
  readonly fileSystem: FileSystem;
  /** Whether the name means the same for ever ("@lsn-5") or must be asked each time ("@latest"). */
  readonly immutable: boolean;
  /** References of the kernel: a door whose count falls to zero releases its lease. */
  retain(count: number): void;
  release(count: number): void;
}
