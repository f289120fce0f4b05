/**
 * Every error that lsnfs throws on purpose.
 *
 * An error is named for what its receiver can do next, carries a stable `code` for programs, the facts
 * (page, offset, expected, found, …) in `details`, and the errno that it becomes when a program reaches it
 * through a mount. What is not one of these is a bug: the mount turns it into EIO and logs its stack.
 */

/** errno values of Linux (asm-generic/errno-base.h and errno.h). Replies to the kernel carry them negated. */
export const ERRNO = {
  EPERM: 1,
  ENOENT: 2,
  EINTR: 4,
  EIO: 5,
  ENXIO: 6,
  E2BIG: 7,
  EBADF: 9,
  EAGAIN: 11,
  ENOMEM: 12,
  EACCES: 13,
  EBUSY: 16,
  EEXIST: 17,
  EXDEV: 18,
  ENODEV: 19,
  ENOTDIR: 20,
  EISDIR: 21,
  EINVAL: 22,
  ENFILE: 23,
  EMFILE: 24,
  ENOTTY: 25,
  ETXTBSY: 26,
  EFBIG: 27,
  ENOSPC: 28,
  ESPIPE: 29,
  EROFS: 30,
  EMLINK: 31,
  ERANGE: 34,
  ENAMETOOLONG: 36,
  ENOSYS: 38,
  ENOTEMPTY: 39,
  ELOOP: 40,
  ENODATA: 61,
  EOVERFLOW: 75,
  EOPNOTSUPP: 95,
  ENOTCONN: 107,
  ESTALE: 116,
} as const;

export type Errno = keyof typeof ERRNO;

/** Stable codes of errors that are not plain POSIX answers, and the errno each becomes. */
const CODES = {
  CORRUPT_PAGE: 'EIO',
  CORRUPT_LOG: 'EIO',
  CORRUPT_CONTROL: 'EIO',
  CORRUPT_RECORD: 'EIO',
  IO: 'EIO',
  STORE_FAILED: 'EROFS',
  READ_ONLY: 'EROFS',
  NO_SPACE: 'ENOSPC',
  NO_DESCRIPTORS: 'ENFILE',
  NO_STORE: 'ENOENT',
  STORE_EXISTS: 'EEXIST',
  STORE_INCOMPLETE: 'EINVAL',
  STORE_IN_USE: 'EBUSY',
  STORE_CLOSED: 'EBADF',
  NEWER_FORMAT: 'EINVAL',
  UNSAFE_STORE: 'EACCES',
  INVALID_INPUT: 'EINVAL',
  NAME_RESERVED: 'EINVAL',
  NAME_TAKEN: 'EEXIST',
  NO_SUCH_SNAPSHOT: 'ENOENT',
  SNAPSHOT_HELD: 'EBUSY',
  NO_SUCH_STATE: 'ENOENT',
  MOUNT_REFUSED: 'EINVAL',
  NOT_MOUNTED: 'ENOENT',
  TRANSACTION_POISONED: 'EIO',
} as const satisfies Record<string, Errno>;

export type ErrorCode = keyof typeof CODES | Errno;

export type ErrorDetails = Readonly<Record<string, string | number | boolean | null | undefined>>;

/** The base of all deliberate errors. `message` is one sentence for people. */
export class LsnfsError extends Error {
  readonly code: ErrorCode;
  readonly errno: Errno;
  readonly details: ErrorDetails;

  constructor(code: ErrorCode, message: string, details: ErrorDetails = {}, options?: ErrorOptions) {
    super(message, options);
    this.name = 'LsnfsError';
    this.code = code;
    this.errno = code in CODES ? CODES[code as keyof typeof CODES] : (code as Errno);
    this.details = details;
  }
}

/** A page from disk is not what its parent says it is. Never wrong data: the caller gets this instead. */
export class CorruptPageError extends LsnfsError {
  constructor(message: string, details: ErrorDetails) {
    super('CORRUPT_PAGE', message, details);
    this.name = 'CorruptPageError';
  }
}

/**
 * The plain answer of a POSIX call (ENOENT, EEXIST, …): expected, frequent, without a stack.
 * `what` names the object for people, when the thrower knows it.
 */
export class PosixError extends LsnfsError {
  constructor(errno: Errno, what = '') {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(errno, what === '' ? errno : `${errno}: ${what}`);
    Error.stackTraceLimit = limit;
    this.name = 'PosixError';
  }
}

/** A bug, not bad input: never thrown for what came from disk, the kernel or a caller. */
export class AssertionError extends Error {
  override readonly name = 'AssertionError';
}

/** Throws an AssertionError unless `condition` holds. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message);
}

/** The errno number that a thrown value becomes for a program; EIO for anything unexpected. */
export function errnoOf(error: unknown): number {
  return error instanceof LsnfsError ? ERRNO[error.errno] : ERRNO.EIO;
}

/** The `code` of a Node system error ("ENOENT", "ENOSPC", …), or undefined. */
export function systemErrorCode(error: unknown): string | undefined {
  if (error instanceof Error && 'code' in error && typeof error.code === 'string') return error.code;
  return undefined;
}
