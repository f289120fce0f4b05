/**
 * INIT: what the kernel and this server agree on. docs/MOUNT.md says why for each.
 */
import {
  FUSE_KERNEL_MINOR_VERSION,
  FUSE_KERNEL_VERSION,
  FUSE_OLDEST_MINOR_VERSION,
  INIT,
  INIT_IN,
  INIT_IN_OLD_SIZE,
  INIT_OUT,
  INIT2,
  MAX_PAGES,
  MAX_WRITE,
} from './protocol.ts';
import type { Reply } from './reply.ts';
import type { Request } from './request.ts';

export interface Negotiated {
  readonly minor: number;
  readonly flags: number;
  readonly flags2: number;
  readonly writebackCache: boolean;
  readonly extendedSetxattr: boolean;
  /** The umask is the server's to apply (POSIX_ACL with DONT_MASK). */
  readonly serverMask: boolean;
  readonly expireOnly: boolean;
}

/** What is asked for, where the kernel has it. */
const WANTED =
  INIT.ASYNC_READ |
  INIT.ATOMIC_O_TRUNC |
  INIT.BIG_WRITES |
  INIT.EXPORT_SUPPORT |
  INIT.DO_READDIRPLUS |
  INIT.READDIRPLUS_AUTO |
  INIT.WRITEBACK_CACHE |
  INIT.PARALLEL_DIROPS |
  INIT.ABORT_ERROR |
  INIT.MAX_PAGES |
  INIT.CACHE_SYMLINKS |
  INIT.EXPLICIT_INVAL_DATA |
  INIT.HANDLE_KILLPRIV_V2 |
  INIT.SETXATTR_EXT |
  INIT.INIT_EXT;
const WANTED_WITH_ACLS = INIT.POSIX_ACL | INIT.DONT_MASK;
const WANTED2 = INIT2.HAS_EXPIRE_ONLY;

/** One thread serves: what waits in its queue may be long, and is never more than memory for the requests. */
const MAX_BACKGROUND = 256;
const CONGESTION_THRESHOLD = 192;
/** More than a kernel gives; it takes the smaller of the two. */
const MAX_READAHEAD = MAX_WRITE;
/** Sizes of INIT's reply in older protocols: up to `mapAlignment`, and with flags2. */
const TIME_GRANULARITY_NANOSECONDS = 1;

/**
 * Reads INIT and writes its reply. `major` differing from ours is answered with ours alone: an older kernel gives
 * up, a newer one asks again.
 */
export function negotiate(
  request: Request,
  reply: Reply,
  acls: boolean,
): { result: Negotiated } | { again: true } | { refused: string } {
  const major = request.u32(INIT_IN.major);
  const minor = request.u32(INIT_IN.minor);
  reply.zero(0, INIT_OUT.SIZE);
  reply.u32(INIT_OUT.major, FUSE_KERNEL_VERSION);
  reply.u32(INIT_OUT.minor, FUSE_KERNEL_MINOR_VERSION);
  if (major > FUSE_KERNEL_VERSION) return { again: true };
  if (major < FUSE_KERNEL_VERSION || minor < FUSE_OLDEST_MINOR_VERSION) {
    return {
      refused: `the kernel speaks FUSE ${major}.${minor}; lsnfs needs ${FUSE_KERNEL_VERSION}.${FUSE_OLDEST_MINOR_VERSION} or later (Linux 5.4)`,
    };
  }
  const offered = request.u32(INIT_IN.flags);
  const extended = (offered & INIT.INIT_EXT) !== 0 && request.bodySize > INIT_IN_OLD_SIZE;
  const offered2 = extended ? request.u32(INIT_IN.flags2) : 0;
  const flags = offered & (WANTED | (acls && hasAll(offered, WANTED_WITH_ACLS) ? WANTED_WITH_ACLS : 0));
  const flags2 = offered2 & WANTED2;
  const spoken = Math.min(minor, FUSE_KERNEL_MINOR_VERSION);
  reply.u32(INIT_OUT.minor, spoken);
  reply.u32(INIT_OUT.maxReadahead, Math.min(request.u32(INIT_IN.maxReadahead), MAX_READAHEAD));
  reply.u32(INIT_OUT.flags, flags);
  reply.u16(INIT_OUT.maxBackground, MAX_BACKGROUND);
  reply.u16(INIT_OUT.congestionThreshold, CONGESTION_THRESHOLD);
  reply.u32(INIT_OUT.maxWrite, MAX_WRITE);
  reply.u32(INIT_OUT.timeGranularity, TIME_GRANULARITY_NANOSECONDS);
  reply.u16(INIT_OUT.maxPages, MAX_PAGES);
  reply.u32(INIT_OUT.flags2, flags2);
  return {
    result: {
      minor: spoken,
      flags,
      flags2,
      writebackCache: (flags & INIT.WRITEBACK_CACHE) !== 0,
      extendedSetxattr: (flags & INIT.SETXATTR_EXT) !== 0,
      serverMask: (flags & INIT.POSIX_ACL) !== 0,
      expireOnly: (flags2 & INIT2.HAS_EXPIRE_ONLY) !== 0,
    },
  };
}

function hasAll(flags: number, wanted: number): boolean {
  return (flags & wanted) === wanted;
}
