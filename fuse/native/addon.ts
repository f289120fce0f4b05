/**
 * The native part of the npm package fuse-native: libfuse 2 on threads of its own, each of which hands its request to
 * Node's main thread and sleeps until it is answered.
 *
 * Only the native part is used. What the package wraps around it in JavaScript hands the handle of no `fgetattr` on, cuts
 * extended attributes off where it should say ERANGE, unmounts through a shell, and leaves a caller hanging whose handler
 * throws. So the handlers here (dispatch.ts) are called by the native part itself, and the package is pinned to the
 * version whose conventions these are.
 *
 * What is called, as fuse-native.c of 2.2.6 has it: a handler gets the thread's state, the operation's number, and the
 * operation's arguments; 64-bit ones as two halves. The answer goes through `fuse_native_signal_NAME(state, result, …)`,
 * which may be called from within the handler or later, exactly once.
 */
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import { LsnfsError, systemErrorCode } from '../../src/errors.ts';

const PACKAGE = 'fuse-native';
/** The version whose native part is known. */
const VERSION = '2.2.6';
/** Sizes of the buffers that the native part copies the mount point and the options into, the closing NUL included. */
const TEXT_MAX = 1024;

/** The state of one thread of libfuse: opaque, but for `modifyMilliseconds`. */
export type Thread = Buffer;
/** The rest of the arguments is as the operation has them. */
export type Handler = (thread: Thread, operation: number, ...args: never[]) => void;
/** Answers. What follows the result depends on the operation. */
export type Signal = (thread: Thread, result: number, ...payload: unknown[]) => void;

/** Operations that libfuse has a callback for, and this binding a handler. Others are ENOSYS, or what libfuse makes of them. */
export const OPERATIONS = [
  'init',
  'statfs',
  'getattr',
  'fgetattr',
  'fsync',
  'fsyncdir',
  'readdir',
  'truncate',
  'ftruncate',
  'utimens',
  'readlink',
  'chown',
  'chmod',
  'mknod',
  'setxattr',
  'getxattr',
  'listxattr',
  'removexattr',
  'open',
  'read',
  'write',
  'release',
  'create',
  'unlink',
  'rename',
  'link',
  'symlink',
  'mkdir',
  'rmdir',
] as const;
export type Operation = (typeof OPERATIONS)[number];

/** The functions and numbers of the native part that are used. */
interface NativePart {
  readonly sizeof_fuse_thread_t: number;
  fuse_native_mount(
    mountpoint: string,
    options: string,
    session: Buffer,
    receiver: object,
    allocate: (bytes: number) => Buffer,
    handlers: Handler[],
    implemented: Uint32Array,
  ): void;
  fuse_native_unmount(mountpoint: string, session: Buffer): void;
  readonly [name: string]: unknown;
}

/** Operations that the native part has room for. */
const OPERATION_COUNT = 35;

function refused(message: string): LsnfsError {
  return new LsnfsError('MOUNT_REFUSED', message, { package: PACKAGE });
}

/** @throws LsnfsError MOUNT_REFUSED with what to install */
function loadNativePart(): NativePart {
  const advice = `install the Debian package libfuse2, and then lsnfs with its optional packages ("npm install -g --include=optional lsnfs"), or mount with --binding kernel`;
  const require = createRequire(import.meta.url);
  let manifest: string;
  try {
    manifest = require.resolve(`${PACKAGE}/package.json`);
  } catch (error) {
    if (systemErrorCode(error) !== 'MODULE_NOT_FOUND') throw error;
    throw refused(
      `the binding fuse-native needs the npm package ${PACKAGE}, which is not installed; ${advice}`,
    );
  }
  const { version } = require(manifest) as { version?: unknown };
  if (version !== VERSION) {
    throw refused(
      `the binding fuse-native works with version ${VERSION} of the npm package ${PACKAGE}, and version ${String(version)} is installed; ${advice}`,
    );
  }
  try {
    // What the package's own entry does first.
    const load = createRequire(manifest)('node-gyp-build') as (directory: string) => NativePart;
    return load(dirname(manifest));
  } catch (error) {
    const text = error instanceof Error ? error.message : String(error);
    const [line = ''] = text.split('\n');
    if (/libfuse\.so/.test(text)) {
      throw refused(
        `the binding fuse-native needs libfuse.so.2, which is not installed; install the Debian package libfuse2 ("apt-get install libfuse2"), or mount with --binding kernel`,
      );
    }
    if (/no native build was found/i.test(text)) {
      throw refused(
        `the npm package ${PACKAGE} has no prebuilt native part for ${process.arch} (it has one for x64); mount with --binding kernel`,
      );
    }
    throw refused(`the native part of the npm package ${PACKAGE} cannot be loaded (${line}); ${advice}`);
  }
}

/** What may be in the way. What fusermount says is lost: Node lets no program of others have its standard error. */
function mountAdvice(): string {
  if (process.geteuid?.() === 0)
    return 'what it said is in the log; mounting needs /dev/fuse and the capability SYS_ADMIN';
  return 'for other users than root it needs fusermount (Debian package fuse3), a directory that is theirs, a /dev/fuse that they may open, and, with --allow-other, the line user_allow_other in /etc/fuse.conf';
}

/** A mount that libfuse serves. */
export interface NativeMount {
  /** Lets the process end: the native part keeps it alive until this is called. To be called once. */
  release(): void;
}

export class Addon {
  private readonly native: NativePart;

  /** @throws LsnfsError MOUNT_REFUSED with a sentence that says what to install */
  constructor() {
    this.native = loadNativePart();
  }

  /** Where to answer an operation. */
  signal(operation: Operation): Signal {
    return this.native[`fuse_native_signal_${operation}`] as Signal;
  }

  /**
   * Mounts. Handlers are called from then on, `init` first. `options` are those of libfuse 2 and mount(8), each escaped.
   * @throws LsnfsError MOUNT_REFUSED; libfuse itself says on standard error why
   */
  mount(
    mountpoint: string,
    options: readonly string[],
    handlers: Readonly<Record<Operation, Handler>>,
  ): NativeMount {
    const list = `-o${options.join(',')}`;
    if (Buffer.byteLength(list) >= TEXT_MAX || Buffer.byteLength(mountpoint) >= TEXT_MAX) {
      throw refused(
        `the paths of the store and of the mount point are too long for the binding fuse-native, which has room for ${TEXT_MAX - 1} bytes`,
      );
    }
    const { native } = this;
    const implemented = new Uint32Array(OPERATION_COUNT);
    const table: Handler[] = new Array(OPERATION_COUNT).fill(() => {
      throw new Error('libfuse calls an operation that was not announced');
    });
    for (const operation of OPERATIONS) {
      const number = native[`op_${operation}`] as number;
      implemented[number] = 1;
      table[number] = handlers[operation];
    }
    const session = Buffer.alloc(native.sizeof_fuse_thread_t);
    // The native part keeps addresses of these buffers, for as long as libfuse has threads: they stay.
    const states: Buffer[] = [session];
    const allocate = (bytes: number): Buffer => {
      const state = Buffer.alloc(bytes);
      states.push(state);
      return state;
    };
    try {
      native.fuse_native_mount(mountpoint, list, session, states, allocate, table, implemented);
    } catch (error) {
      const why = error instanceof Error ? error.message : String(error);
      throw refused(`libfuse could not mount at ${mountpoint} (${why}); ${mountAdvice()}`);
    }
    return { release: () => native.fuse_native_unmount(mountpoint, session) };
  }
}

/** Offsets in the state of a thread (fuse_thread_locals_t) where pointers and size_t have 8 bytes. */
const STATE_ACCESS_TIME = 104;
const STATE_MODIFY_TIME = 112;

/**
 * The time of modification that a `utimens` asks for, in milliseconds since 1970. The native part hands the time of access on
 * twice and keeps the other in the thread's state: it is taken from there, where the time of access beside it proves the
 * place. `accessLow` and `accessHigh` are the halves of that.
 */
export function modifyMilliseconds(thread: Thread, accessLow: number, accessHigh: number): number {
  const isThere =
    thread.length >= STATE_MODIFY_TIME + 8 &&
    thread.readUInt32LE(STATE_ACCESS_TIME) === accessLow &&
    thread.readUInt32LE(STATE_ACCESS_TIME + 4) === accessHigh;
  if (!isThere) throw new Error('the state of a thread of fuse-native is not as that of version 2.2.6');
  return Number(thread.readBigInt64LE(STATE_MODIFY_TIME));
}
