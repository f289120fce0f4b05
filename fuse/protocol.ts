/**
 * The FUSE kernel protocol as numbers: opcodes, flags and the layout of its structures (linux/fuse.h, 7.31 to 7.45).
 *
 * Everything is in the byte order of the host (little-endian on every machine that Node's prebuilt binaries run
 * mounts on) and naturally aligned, so fields are read and written through typed arrays. Offsets are derived from
 * the order and the sizes of the fields, never written down. A structure that grew over the versions is listed in
 * its newest form; who reads it checks how much of it the kernel sent.
 */

export const FUSE_KERNEL_VERSION = 7;
/** The newest minor version that this code knows; the smaller of the two sides' is what is spoken. */
export const FUSE_KERNEL_MINOR_VERSION = 45;
/** The oldest minor version that is served: older kernels lack what the caches rely on. */
export const FUSE_OLDEST_MINOR_VERSION = 31;

export const OPCODE = {
  LOOKUP: 1,
  FORGET: 2,
  GETATTR: 3,
  SETATTR: 4,
  READLINK: 5,
  SYMLINK: 6,
  MKNOD: 8,
  MKDIR: 9,
  UNLINK: 10,
  RMDIR: 11,
  RENAME: 12,
  LINK: 13,
  OPEN: 14,
  READ: 15,
  WRITE: 16,
  STATFS: 17,
  RELEASE: 18,
  FSYNC: 20,
  SETXATTR: 21,
  GETXATTR: 22,
  LISTXATTR: 23,
  REMOVEXATTR: 24,
  FLUSH: 25,
  INIT: 26,
  OPENDIR: 27,
  READDIR: 28,
  RELEASEDIR: 29,
  FSYNCDIR: 30,
  GETLK: 31,
  SETLK: 32,
  SETLKW: 33,
  ACCESS: 34,
  CREATE: 35,
  INTERRUPT: 36,
  BMAP: 37,
  DESTROY: 38,
  IOCTL: 39,
  POLL: 40,
  NOTIFY_REPLY: 41,
  BATCH_FORGET: 42,
  FALLOCATE: 43,
  READDIRPLUS: 44,
  RENAME2: 45,
  LSEEK: 46,
  COPY_FILE_RANGE: 47,
  SETUPMAPPING: 48,
  REMOVEMAPPING: 49,
  SYNCFS: 50,
  TMPFILE: 51,
  STATX: 52,
  COPY_FILE_RANGE_64: 53,
} as const;

/** One more than the largest opcode known. */
export const OPCODE_COUNT = 54;

/** Opcode → its name, for counters and messages. */
export const OPCODE_NAMES: readonly string[] = (() => {
  const names: string[] = new Array(OPCODE_COUNT).fill('');
  for (const [name, opcode] of Object.entries(OPCODE)) names[opcode] = name;
  return names;
})();

/** What a message from the server that answers no request is: in the error field of its header. */
export const NOTIFY = {
  POLL: 1,
  INVAL_INODE: 2,
  INVAL_ENTRY: 3,
  STORE: 4,
  RETRIEVE: 5,
  DELETE: 6,
  RESEND: 7,
  INC_EPOCH: 8,
} as const;

/** The first minor version whose kernel takes NOTIFY.INC_EPOCH. */
export const INC_EPOCH_MINOR_VERSION = 44;

/** INIT flags, the low 32 bits. */
export const INIT = {
  ASYNC_READ: 1 << 0,
  POSIX_LOCKS: 1 << 1,
  ATOMIC_O_TRUNC: 1 << 3,
  EXPORT_SUPPORT: 1 << 4,
  BIG_WRITES: 1 << 5,
  DONT_MASK: 1 << 6,
  FLOCK_LOCKS: 1 << 10,
  AUTO_INVAL_DATA: 1 << 12,
  DO_READDIRPLUS: 1 << 13,
  READDIRPLUS_AUTO: 1 << 14,
  ASYNC_DIO: 1 << 15,
  WRITEBACK_CACHE: 1 << 16,
  NO_OPEN_SUPPORT: 1 << 17,
  PARALLEL_DIROPS: 1 << 18,
  HANDLE_KILLPRIV: 1 << 19,
  POSIX_ACL: 1 << 20,
  ABORT_ERROR: 1 << 21,
  MAX_PAGES: 1 << 22,
  CACHE_SYMLINKS: 1 << 23,
  NO_OPENDIR_SUPPORT: 1 << 24,
  EXPLICIT_INVAL_DATA: 1 << 25,
  HANDLE_KILLPRIV_V2: 1 << 28,
  SETXATTR_EXT: 1 << 29,
  INIT_EXT: 1 << 30,
} as const;

/** INIT flags, the high 32 bits (flags2). */
export const INIT2 = {
  SECURITY_CTX: 1 << 0,
  CREATE_SUPP_GROUP: 1 << 2,
  HAS_EXPIRE_ONLY: 1 << 3,
  DIRECT_IO_ALLOW_MMAP: 1 << 4,
  NO_EXPORT_SUPPORT: 1 << 6,
} as const;

export const FOPEN = {
  DIRECT_IO: 1 << 0,
  KEEP_CACHE: 1 << 1,
  NONSEEKABLE: 1 << 2,
  CACHE_DIR: 1 << 3,
  STREAM: 1 << 4,
  NOFLUSH: 1 << 5,
  PARALLEL_DIRECT_WRITES: 1 << 6,
} as const;

export const FATTR = {
  MODE: 1 << 0,
  UID: 1 << 1,
  GID: 1 << 2,
  SIZE: 1 << 3,
  ATIME: 1 << 4,
  MTIME: 1 << 5,
  FH: 1 << 6,
  ATIME_NOW: 1 << 7,
  MTIME_NOW: 1 << 8,
  LOCKOWNER: 1 << 9,
  CTIME: 1 << 10,
  KILL_SUIDGID: 1 << 11,
} as const;

export const FUSE_WRITE_CACHE = 1 << 0;
export const FUSE_WRITE_KILL_SUIDGID = 1 << 2;
export const FUSE_OPEN_KILL_SUIDGID = 1 << 0;
export const FUSE_SETXATTR_ACL_KILL_SGID = 1 << 0;

/** STATX_BASIC_STATS | STATX_BTIME: what a STATX reply fills in. */
export const STATX_MASK = 0xfff;

/** The kernel's own errno values for a server to say "never ask this again" and for its own refusals. */
export const EPROTO = 71;

const U16 = 2;
const U32 = 4;
const U64 = 8;

type Layout<F> = { readonly [K in keyof F]: number } & { readonly SIZE: number };

/** Turns fields in order, each with its size, into offsets; SIZE is where the structure ends. */
function struct<const F extends Record<string, number>>(fields: F): Layout<F> {
  const offsets: Record<string, number> = {};
  let offset = 0;
  for (const [name, size] of Object.entries(fields)) {
    offsets[name] = offset;
    offset += size;
  }
  offsets.SIZE = offset;
  return Object.freeze(offsets) as Layout<F>;
}

export const IN_HEADER = struct({
  length: U32,
  opcode: U32,
  unique: U64,
  node: U64,
  uid: U32,
  gid: U32,
  pid: U32,
  extensionLength: U16,
  padding: U16,
});

export const OUT_HEADER = struct({ length: U32, error: U32, unique: U64 });

export const ATTRIBUTES = struct({
  inode: U64,
  size: U64,
  blocks: U64,
  accessSeconds: U64,
  modifySeconds: U64,
  changeSeconds: U64,
  accessNanoseconds: U32,
  modifyNanoseconds: U32,
  changeNanoseconds: U32,
  mode: U32,
  links: U32,
  uid: U32,
  gid: U32,
  device: U32,
  blockSize: U32,
  flags: U32,
});

export const ENTRY_OUT = struct({
  node: U64,
  generation: U64,
  entryValid: U64,
  attributesValid: U64,
  entryValidNanoseconds: U32,
  attributesValidNanoseconds: U32,
  attributes: ATTRIBUTES.SIZE,
});

export const ATTRIBUTES_OUT = struct({
  valid: U64,
  validNanoseconds: U32,
  padding: U32,
  attributes: ATTRIBUTES.SIZE,
});

export const INIT_IN = struct({
  major: U32,
  minor: U32,
  maxReadahead: U32,
  flags: U32,
  flags2: U32,
  unused: 11 * U32,
});
/** What a kernel before 7.36 sends of INIT_IN. */
export const INIT_IN_OLD_SIZE = INIT_IN.flags2;

export const INIT_OUT = struct({
  major: U32,
  minor: U32,
  maxReadahead: U32,
  flags: U32,
  maxBackground: U16,
  congestionThreshold: U16,
  maxWrite: U32,
  timeGranularity: U32,
  maxPages: U16,
  mapAlignment: U16,
  flags2: U32,
  maxStackDepth: U32,
  requestTimeout: U16,
  unused: 11 * U16,
});

export const FORGET_IN = struct({ lookups: U64 });
export const BATCH_FORGET_IN = struct({ count: U32, padding: U32 });
export const FORGET_ONE = struct({ node: U64, lookups: U64 });
export const GETATTR_IN = struct({ flags: U32, padding: U32, handle: U64 });

export const SETATTR_IN = struct({
  valid: U32,
  padding: U32,
  handle: U64,
  size: U64,
  lockOwner: U64,
  accessSeconds: U64,
  modifySeconds: U64,
  changeSeconds: U64,
  accessNanoseconds: U32,
  modifyNanoseconds: U32,
  changeNanoseconds: U32,
  mode: U32,
  unused4: U32,
  uid: U32,
  gid: U32,
  unused5: U32,
});

export const STATX_IN = struct({ flags: U32, reserved: U32, handle: U64, statxFlags: U32, mask: U32 });

const STATX_TIME = struct({ seconds: U64, nanoseconds: U32, reserved: U32 });

export const STATX_OUT = struct({
  valid: U64,
  validNanoseconds: U32,
  flags: U32,
  spare: 2 * U64,
  mask: U32,
  blockSize: U32,
  attributes: U64,
  links: U32,
  uid: U32,
  gid: U32,
  mode: U16,
  spare0: U16,
  inode: U64,
  size: U64,
  blocks: U64,
  attributesMask: U64,
  access: STATX_TIME.SIZE,
  birth: STATX_TIME.SIZE,
  change: STATX_TIME.SIZE,
  modify: STATX_TIME.SIZE,
  deviceMajor: U32,
  deviceMinor: U32,
  ownDeviceMajor: U32,
  ownDeviceMinor: U32,
  spare2: 14 * U64,
});

export const MKNOD_IN = struct({ mode: U32, device: U32, umask: U32, padding: U32 });
export const MKDIR_IN = struct({ mode: U32, umask: U32 });
export const RENAME_IN = struct({ newParent: U64 });
export const RENAME2_IN = struct({ newParent: U64, flags: U32, padding: U32 });
export const LINK_IN = struct({ node: U64 });
export const OPEN_IN = struct({ flags: U32, openFlags: U32 });
export const CREATE_IN = struct({ flags: U32, mode: U32, umask: U32, openFlags: U32 });
export const OPEN_OUT = struct({ handle: U64, openFlags: U32, padding: U32 });
export const RELEASE_IN = struct({ handle: U64, flags: U32, releaseFlags: U32, lockOwner: U64 });
export const FLUSH_IN = struct({ handle: U64, unused: U32, padding: U32, lockOwner: U64 });

export const READ_IN = struct({
  handle: U64,
  offset: U64,
  size: U32,
  readFlags: U32,
  lockOwner: U64,
  flags: U32,
  padding: U32,
});

export const WRITE_IN = struct({
  handle: U64,
  offset: U64,
  size: U32,
  writeFlags: U32,
  lockOwner: U64,
  flags: U32,
  padding: U32,
});

export const WRITE_OUT = struct({ size: U32, padding: U32 });
export const FSYNC_IN = struct({ handle: U64, fsyncFlags: U32, padding: U32 });
/** With SETXATTR_EXT; without it the structure ends after `flags`. */
export const SETXATTR_IN = struct({ size: U32, flags: U32, setxattrFlags: U32, padding: U32 });
export const SETXATTR_IN_OLD_SIZE = SETXATTR_IN.setxattrFlags;
export const GETXATTR_IN = struct({ size: U32, padding: U32 });
export const GETXATTR_OUT = struct({ size: U32, padding: U32 });
export const ACCESS_IN = struct({ mask: U32, padding: U32 });
export const FALLOCATE_IN = struct({ handle: U64, offset: U64, length: U64, mode: U32, padding: U32 });
export const LSEEK_IN = struct({ handle: U64, offset: U64, whence: U32, padding: U32 });
export const LSEEK_OUT = struct({ offset: U64 });

export const COPY_FILE_RANGE_IN = struct({
  handleIn: U64,
  offsetIn: U64,
  nodeOut: U64,
  handleOut: U64,
  offsetOut: U64,
  length: U64,
  flags: U64,
});
export const COPY_FILE_RANGE_OUT = struct({ bytesCopied: U64 });

export const STATFS_OUT = struct({
  blocks: U64,
  blocksFree: U64,
  blocksAvailable: U64,
  files: U64,
  filesFree: U64,
  blockSize: U32,
  nameLength: U32,
  fragmentSize: U32,
  padding: U32,
  spare: 6 * U32,
});

/** fuse_dirent; the name follows, padded with NULs to a multiple of 8. */
export const DIRENT = struct({ inode: U64, offset: U64, nameLength: U32, type: U32 });

export const NOTIFY_INVAL_INODE_OUT = struct({ node: U64, offset: U64, length: U64 });
export const NOTIFY_INVAL_ENTRY_OUT = struct({ parent: U64, nameLength: U32, flags: U32 });
export const NOTIFY_DELETE_OUT = struct({ parent: U64, child: U64, nameLength: U32, padding: U32 });
export const NOTIFY_RETRIEVE_OUT = struct({
  notifyUnique: U64,
  node: U64,
  offset: U64,
  size: U32,
  padding: U32,
});

/** The smallest body of each opcode (after the header): shorter ones are refused before anything is read. */
export const SMALLEST_BODY: readonly number[] = (() => {
  const sizes: number[] = new Array(OPCODE_COUNT).fill(0);
  sizes[OPCODE.FORGET] = FORGET_IN.SIZE;
  sizes[OPCODE.GETATTR] = GETATTR_IN.SIZE;
  sizes[OPCODE.SETATTR] = SETATTR_IN.SIZE;
  sizes[OPCODE.MKNOD] = MKNOD_IN.SIZE;
  sizes[OPCODE.MKDIR] = MKDIR_IN.SIZE;
  sizes[OPCODE.RENAME] = RENAME_IN.SIZE;
  sizes[OPCODE.LINK] = LINK_IN.SIZE;
  sizes[OPCODE.OPEN] = OPEN_IN.SIZE;
  sizes[OPCODE.READ] = READ_IN.SIZE;
  sizes[OPCODE.WRITE] = WRITE_IN.SIZE;
  sizes[OPCODE.RELEASE] = RELEASE_IN.SIZE;
  sizes[OPCODE.FSYNC] = FSYNC_IN.SIZE;
  sizes[OPCODE.SETXATTR] = SETXATTR_IN_OLD_SIZE;
  sizes[OPCODE.GETXATTR] = GETXATTR_IN.SIZE;
  sizes[OPCODE.LISTXATTR] = GETXATTR_IN.SIZE;
  sizes[OPCODE.FLUSH] = FLUSH_IN.SIZE;
  sizes[OPCODE.INIT] = INIT_IN_OLD_SIZE;
  sizes[OPCODE.OPENDIR] = OPEN_IN.SIZE;
  sizes[OPCODE.READDIR] = READ_IN.SIZE;
  sizes[OPCODE.RELEASEDIR] = RELEASE_IN.SIZE;
  sizes[OPCODE.FSYNCDIR] = FSYNC_IN.SIZE;
  sizes[OPCODE.ACCESS] = ACCESS_IN.SIZE;
  sizes[OPCODE.CREATE] = CREATE_IN.SIZE;
  sizes[OPCODE.BATCH_FORGET] = BATCH_FORGET_IN.SIZE;
  sizes[OPCODE.FALLOCATE] = FALLOCATE_IN.SIZE;
  sizes[OPCODE.READDIRPLUS] = READ_IN.SIZE;
  sizes[OPCODE.RENAME2] = RENAME2_IN.SIZE;
  sizes[OPCODE.LSEEK] = LSEEK_IN.SIZE;
  sizes[OPCODE.COPY_FILE_RANGE] = COPY_FILE_RANGE_IN.SIZE;
  sizes[OPCODE.COPY_FILE_RANGE_64] = COPY_FILE_RANGE_IN.SIZE;
  sizes[OPCODE.TMPFILE] = CREATE_IN.SIZE;
  sizes[OPCODE.STATX] = STATX_IN.SIZE;
  return sizes;
})();

/** The largest WRITE and READ: 256 pages of 4 KiB, what the kernel allows without its limit being raised. */
export const MAX_WRITE = 1 << 20;
export const MAX_PAGES = MAX_WRITE / 4096;

/** Node id of the live root. */
export const FUSE_ROOT_ID = 1;
/** The door of a file that is in no file system: the wake-up retrieves nothing of it. Doors of states are below 2^23. */
export const WAKE_DOOR = 0xffffff;
export const WAKE_INODE = 1;
const TWO_32 = 2 ** 32;

/**
 * A node id is door * 2^40 + inode, carried as two 32-bit halves: `nodeHigh` of the door and the inode, and the
 * inode modulo 2^32.
 */
export function nodeHigh(door: number, inode: number): number {
  return ((door << 8) | Math.floor(inode / TWO_32)) >>> 0;
}
export function doorOfNode(high: number): number {
  return high >>> 8;
}
export function inodeOfNode(low: number, high: number): number {
  return (high & 0xff) * TWO_32 + low;
}
