/**
 * The calls that the conformance cases make. One implementation works in process on a FileSystem, another makes
 * real system calls on a directory: a mount, or the native file system that the cases themselves are held to.
 *
 * Paths are relative to a working directory that is empty when a case begins. Errors carry `code`, an errno name.
 */

/** Who makes the call. Default: uid 0 without supplementary groups and with umask 0. */
export interface Identity {
  readonly uid: number;
  readonly gid: number;
  readonly groups?: readonly number[];
  readonly umask?: number;
}

export type PathName = string | Buffer;
export type Answer<T> = T | Promise<T>;

export interface Stat {
  readonly ino: string;
  readonly mode: number;
  readonly nlink: number;
  readonly uid: number;
  readonly gid: number;
  readonly rdev: number;
  readonly size: number;
  readonly blocks: number;
  readonly atimeNs: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}

export interface DirectoryEntry {
  readonly name: Buffer;
  readonly ino: string;
  /** Upper four bits of the mode (DT_*). */
  readonly type: number;
  /** Position behind the entry. */
  readonly cookie: string;
}

export type TimeChange = bigint | 'now' | 'omit';

/** What an implementation or its environment may lack; a case that needs it is skipped for that reason alone. */
export type Feature =
  | 'identities'
  | 'acl'
  | 'trusted'
  | 'largeXattr'
  | 'renameFlags'
  | 'tmpfile'
  | 'fallocate'
  | 'seekHole'
  | 'copyFileRange'
  | 'devices'
  | 'anyNames'
  | 'linkMax'
  | 'atime'
  /** Errors of writing are the answer to the write: not so behind a write-back cache. */
  | 'writeErrors'
  | 'reservedNames'
  /** What is made belongs to who makes it. */
  | 'creators'
  /** Times have nanoseconds, and may be before 1970. */
  | 'nanoseconds'
  /** utimensat(2) may change one time alone. */
  | 'singleTimes'
  /** A directory that was removed can still be looked into. */
  | 'nameless';

/** What every implementation has but the binding fuse-native. */
export const COMMON_FEATURES: readonly Feature[] = ['creators', 'nanoseconds', 'singleTimes', 'nameless'];

export interface Posix {
  readonly features: ReadonlySet<Feature>;
  /** Makes time pass, by more than the resolution of the file system's clock. */
  tick(): Answer<void>;

  stat(path: PathName, as?: Identity): Answer<Stat>;
  lstat(path: PathName, as?: Identity): Answer<Stat>;
  fstat(fd: number): Answer<Stat>;
  access(path: PathName, mask: number, as?: Identity): Answer<void>;
  mkdir(path: PathName, mode?: number, as?: Identity): Answer<void>;
  rmdir(path: PathName, as?: Identity): Answer<void>;
  mknod(path: PathName, mode: number, device?: number, as?: Identity): Answer<void>;
  symlink(target: PathName, path: PathName, as?: Identity): Answer<void>;
  readlink(path: PathName, as?: Identity): Answer<Buffer>;
  link(path: PathName, newPath: PathName, as?: Identity): Answer<void>;
  unlink(path: PathName, as?: Identity): Answer<void>;
  rename(path: PathName, newPath: PathName, flags?: number, as?: Identity): Answer<void>;

  open(path: PathName, flags: number, mode?: number, as?: Identity): Answer<number>;
  close(fd: number): Answer<void>;
  /** linkat(2) of an open file, as for O_TMPFILE. */
  linkFd(fd: number, newPath: PathName, as?: Identity): Answer<void>;
  pread(fd: number, offset: number, length: number): Answer<Buffer>;
  pwrite(fd: number, offset: number, data: Buffer, as?: Identity): Answer<number>;
  /** write(2) at the end, of a descriptor that was opened with O_APPEND. */
  append(fd: number, data: Buffer): Answer<number>;
  fsync(fd: number): Answer<void>;
  truncate(path: PathName, size: number, as?: Identity): Answer<void>;
  ftruncate(fd: number, size: number, as?: Identity): Answer<void>;
  fallocate(fd: number, mode: number, offset: number, length: number): Answer<void>;
  lseek(fd: number, offset: number, whence: number): Answer<number>;
  copyFileRange(
    from: number,
    fromOffset: number,
    to: number,
    toOffset: number,
    length: number,
  ): Answer<number>;

  chmod(path: PathName, mode: number, as?: Identity): Answer<void>;
  chown(path: PathName, uid: number, gid: number, as?: Identity): Answer<void>;
  lchown(path: PathName, uid: number, gid: number, as?: Identity): Answer<void>;
  utimens(
    path: PathName,
    access: TimeChange,
    modify: TimeChange,
    follow?: boolean,
    as?: Identity,
  ): Answer<void>;

  /** Opens a directory for `getdents`; close with `close`. */
  opendir(path: PathName, as?: Identity): Answer<number>;
  /** Some entries, "." and ".." among them; none at the end. `bytes`: room for struct linux_dirent64. */
  getdents(fd: number, bytes: number): Answer<DirectoryEntry[]>;
  /** Goes on behind the entry with this cookie; "0" is the beginning. */
  seekdir(fd: number, cookie: string): Answer<void>;

  /** Xattr calls do not follow a symbolic link at the end. */
  getxattr(path: PathName, name: string, as?: Identity): Answer<Buffer>;
  setxattr(path: PathName, name: string, value: Buffer, flags?: number, as?: Identity): Answer<void>;
  listxattr(path: PathName, as?: Identity): Answer<string[]>;
  removexattr(path: PathName, name: string, as?: Identity): Answer<void>;

  statfs(path: PathName): Answer<{ blockSize: number; blocks: number; blocksFree: number; nameMax: number }>;
}
