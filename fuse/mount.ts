/**
 * Mounting and unmounting: as root through mount(8) and umount(8), as any other user through fusermount3.
 *
 * As root the descriptor of /dev/fuse is inherited by mount(8) as 3 and named in the options; as another user it is
 * sent by fusermount3 after mounting (fusermount.ts), and takes the place of a descriptor that was reserved for it, so
 * that the store can be opened before anything is mounted. What is mounted shows as type "fuse.lsnfs" with the store's
 * path as its source. Everything that would go wrong later is refused here, with a sentence that says what to do. A
 * mount whose server died (ENOTCONN) is cleaned up first.
 *
 * No path that may lie below a FUSE mount is touched synchronously: its server might be this very process.
 */
import { spawnSync } from 'node:child_process';
import { closeSync, openSync, writeFileSync } from 'node:fs';
import { readdir, realpath, stat } from 'node:fs/promises';
import { basename, dirname, join, sep } from 'node:path';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { type DescriptorSocket, openDescriptorSocket } from './descriptor-passing.ts';
import { fusermount, fusermountUnmount } from './fusermount.ts';
import { listMounts, MOUNT_SUBTYPE, MOUNT_TYPE, mountAt } from './mountinfo.ts';
import { runProgram } from './run-program.ts';

/** The device that requests come from. */
export const FUSE_DEVICE = '/dev/fuse';
/** How long a mount point that is a FUSE mount already may take to answer. */
const ANSWER_WITHIN_MS = 20_000;

export interface MountOptions {
  /** The store's directory: the source that the mount shows. */
  readonly store: string;
  readonly mountpoint: string;
  readonly readOnly?: boolean;
  /** Lets users other than the one who mounts in. Default: no. */
  readonly allowOther?: boolean;
  /** Mounts over a directory that is not empty. Default: no. */
  readonly nonEmpty?: boolean;
  /** Further options of mount(8), such as "noexec"; "suid" and "dev" take back what is the default. */
  readonly options?: readonly string[];
}

function refused(message: string, mountpoint: string): LsnfsError {
  return new LsnfsError('MOUNT_REFUSED', message, { mountpoint });
}

function withTimeout<T>(promise: Promise<T>, milliseconds: number): Promise<T | 'late'> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => resolve('late'), milliseconds);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

/** The real path of a mount point, without entering it: it may be a mount that hangs. */
export async function realMountpoint(mountpoint: string): Promise<string> {
  const name = basename(mountpoint);
  if (name === '' || name === '.' || name === '..') return realpath(mountpoint);
  const path = join(await realpath(dirname(mountpoint) || '.'), name);
  // A symbolic link to a directory is followed, but not into a mount.
  if (mountAt(path) !== undefined) return path;
  return realpath(path);
}

/** Whether a server answers at a FUSE mount: a corpse says ENOTCONN (or ECONNABORTED, freshly aborted). */
async function isCorpse(mountpoint: string): Promise<boolean> {
  try {
    if ((await withTimeout(stat(mountpoint), ANSWER_WITHIN_MS)) === 'late') {
      throw refused(
        `${mountpoint} is a mount whose server does not answer; end it with "umount -l ${mountpoint}"`,
        mountpoint,
      );
    }
    return false;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOTCONN' || code === 'ECONNABORTED') return true;
    // Somebody else's, who lets nobody in.
    if (code === 'EACCES') return false;
    throw error;
  }
}

/**
 * Cleans up the mount of a server that died, if there is one. Returns whether there was.
 * `log` is told of it.
 */
export async function removeCorpse(mountpoint: string, log: (message: string) => void): Promise<boolean> {
  const mounted = mountAt(mountpoint);
  if (mounted === undefined || !mounted.type.startsWith('fuse') || !(await isCorpse(mountpoint)))
    return false;
  const { code, errorText } = await runProgram(...unmountCommand(mountpoint, { lazy: true }));
  if (code !== 0) {
    throw refused(
      `${mountpoint} is the mount of a server that died, and cannot be unmounted: ${errorText}`,
      mountpoint,
    );
  }
  log(`${mountpoint} was still mounted for a server that died (${mounted.source}); it was unmounted`);
  return true;
}

/**
 * Checks that the mount can be made; cleans up a corpse at the mount point.
 * Returns the real path of the mount point.
 * @throws LsnfsError MOUNT_REFUSED
 */
export async function prepareMountpoint(
  options: MountOptions,
  log: (message: string) => void,
): Promise<string> {
  const { mountpoint: given } = options;
  let mountpoint: string;
  try {
    mountpoint = await realMountpoint(given);
  } catch (error) {
    throw explainedMountpointError(error, given);
  }
  await removeCorpse(mountpoint, log);
  const present = mountAt(mountpoint);
  if (present?.type === MOUNT_TYPE) {
    throw refused(
      `${mountpoint} is a mount of lsnfs already (${present.source}); unmount it first with "lsnfs unmount ${mountpoint}"`,
      mountpoint,
    );
  }
  const store = await realpath(options.store).catch(() => options.store);
  if (mountpoint === store || mountpoint.startsWith(withSlash(store))) {
    throw refused(
      `${mountpoint} lies in the store's own directory ${store}; mount at a directory outside`,
      mountpoint,
    );
  }
  if (store.startsWith(withSlash(mountpoint))) {
    throw refused(
      `the store ${store} lies below ${mountpoint}, where the mount would hide it; mount elsewhere`,
      mountpoint,
    );
  }
  const other = listMounts().find((mount) => mount.store === store);
  if (other !== undefined && !(await isCorpse(other.mountpoint))) {
    throw refused(
      `the store ${store} is mounted at ${other.mountpoint} already; unmount it there first`,
      mountpoint,
    );
  }
  await checkDirectory(mountpoint, options.nonEmpty === true);
  return mountpoint;
}

function withSlash(directory: string): string {
  return directory.endsWith(sep) ? directory : directory + sep;
}

function explainedMountpointError(error: unknown, mountpoint: string): unknown {
  switch (systemErrorCode(error)) {
    case 'ENOENT':
      return refused(
        `the mount point ${mountpoint} does not exist; create it with "mkdir -p ${mountpoint}"`,
        mountpoint,
      );
    case 'ENOTDIR':
      return refused(`the mount point ${mountpoint} is not a directory; name one`, mountpoint);
    case 'EACCES':
      return refused(`the mount point ${mountpoint} cannot be reached: permission denied`, mountpoint);
    default:
      return error;
  }
}

async function checkDirectory(mountpoint: string, nonEmpty: boolean): Promise<void> {
  let entries: string[];
  try {
    entries = await readdir(mountpoint);
  } catch (error) {
    throw explainedMountpointError(error, mountpoint);
  }
  if (!nonEmpty && entries.length > 0) {
    throw refused(
      `the mount point ${mountpoint} is not empty, and a mount would hide what is in it; choose an empty directory or say --nonempty`,
      mountpoint,
    );
  }
}

/** The descriptor that requests come from, and how it is mounted. */
export interface Device {
  readonly descriptor: number;
  /**
   * Mounts at the (prepared) mount point. `attach` is called at the moment from which on the descriptor may be read.
   * @throws LsnfsError MOUNT_REFUSED
   */
  mount(mountpoint: string, options: MountOptions, attach: () => void): Promise<void>;
  /** Lets go of what only mounting needs. The descriptor stays. */
  endMounting(): void;
}

/** Opens the device, or prepares for its being sent. @throws LsnfsError MOUNT_REFUSED */
export async function openDevice(mountpoint: string): Promise<Device> {
  if (isRoot()) {
    const descriptor = openFuseDevice(mountpoint);
    return {
      descriptor,
      mount: (at, options, attach) => {
        // Before it is mounted: mount(8) itself might wait for an answer.
        attach();
        return mountDescriptor(descriptor, at, options);
      },
      endMounting: () => {},
    };
  }
  const socket = await openDescriptorSocket();
  const descriptor = openSync('/dev/null', 'r+');
  return {
    descriptor,
    mount: async (at, options, attach) => {
      await mountAsUser(socket, descriptor, at, options);
      attach();
    },
    endMounting: () => socket.close(),
  };
}

/** Whether mount(8) and umount(8) are ours to call. */
function isRoot(): boolean {
  return process.geteuid?.() === 0;
}

/** Opens /dev/fuse. @throws LsnfsError MOUNT_REFUSED */
function openFuseDevice(mountpoint: string): number {
  try {
    return openSync(FUSE_DEVICE, 'r+');
  } catch (error) {
    switch (systemErrorCode(error)) {
      case 'ENOENT':
      case 'ENODEV':
      case 'ENXIO':
        throw refused(
          `the kernel has no FUSE (${FUSE_DEVICE} is missing); load it with "modprobe fuse", or give the container "--device ${FUSE_DEVICE}"`,
          mountpoint,
        );
      case 'EACCES':
      case 'EPERM':
        throw refused(
          `${FUSE_DEVICE} may not be opened; give the container "--device ${FUSE_DEVICE} --cap-add SYS_ADMIN"`,
          mountpoint,
        );
      default:
        throw error;
    }
  }
}

/** What every mount says of itself, whoever makes it. */
function commonOptions(options: MountOptions): string[] {
  const list = ['default_permissions', `subtype=${MOUNT_SUBTYPE}`, 'nosuid', 'nodev'];
  if (options.allowOther === true) list.push('allow_other');
  list.push(options.readOnly === true ? 'ro' : 'rw', ...(options.options ?? []));
  return list;
}

async function mountDescriptor(descriptor: number, mountpoint: string, options: MountOptions): Promise<void> {
  const list = [
    'fd=3',
    'rootmode=40000',
    `user_id=${process.geteuid!()}`,
    `group_id=${process.getegid!()}`,
    ...commonOptions(options),
  ];
  const args = ['-i', '-t', 'fuse', '-o', list.join(','), '--', options.store, mountpoint];
  const { code, errorText } = await runProgram('mount', args, { descriptor });
  if (code === 0) return;
  const hint = /permission denied|not permitted|must be superuser/i.test(errorText)
    ? '; mounting needs the capability SYS_ADMIN (in a container: "--cap-add SYS_ADMIN")'
    : '';
  throw refused(
    `mounting at ${mountpoint} failed: ${errorText || `mount(8) ended with ${code}`}${hint}`,
    mountpoint,
  );
}

async function mountAsUser(
  socket: DescriptorSocket,
  descriptor: number,
  mountpoint: string,
  options: MountOptions,
): Promise<void> {
  await fusermount(socket, options.store, mountpoint, commonOptions(options));
  try {
    socket.receiveAs(descriptor);
  } catch (error) {
    unmountNow(mountpoint);
    throw error;
  }
}

export interface UnmountOptions {
  /** Takes the mount away at once and ends it when nobody uses it any more. */
  readonly lazy?: boolean;
  /** Aborts the connection, too (MNT_FORCE, umount(2)), as `abortConnection` does where fusectl is mounted. Root only. */
  readonly abort?: boolean;
}

function unmountCommand(
  mountpoint: string,
  { lazy = false, abort = false }: UnmountOptions,
): [string, string[]] {
  if (!isRoot()) return fusermountUnmount(mountpoint, lazy);
  return ['umount', [...(lazy ? ['-l'] : []), ...(abort ? ['-f'] : []), '--', mountpoint]];
}

/** Takes a mount out of sight on the way out of the process, whatever comes of it. */
export function unmountNow(mountpoint: string): void {
  const [program, args] = unmountCommand(mountpoint, { lazy: true });
  spawnSync(program, args, { stdio: 'ignore', timeout: 5000 });
}

/** Unmounts. @throws LsnfsError EBUSY, NOT_MOUNTED, MOUNT_REFUSED */
export async function unmount(mountpoint: string, options: UnmountOptions = {}): Promise<void> {
  const [program, args] = unmountCommand(mountpoint, options);
  const { code, errorText } = await runProgram(program, args);
  if (code === 0) return;
  if (/busy/i.test(errorText)) {
    throw new LsnfsError(
      'EBUSY',
      `${mountpoint} is in use: a program has a file open or its working directory there ("fuser -vm ${mountpoint}" shows which); end it, or unmount with --lazy`,
      { mountpoint },
    );
  }
  if (/not mounted|no mount point|not found in \/etc\/mtab/i.test(errorText)) {
    throw new LsnfsError('NOT_MOUNTED', `${mountpoint} is not mounted`, { mountpoint });
  }
  throw refused(
    `unmounting ${mountpoint} failed: ${errorText || `${program} ended with ${code}`}`,
    mountpoint,
  );
}

/**
 * Aborts the connection: whoever waits for an answer gets an error, and so does the read of the server.
 * Never waits, so that it may be called by the process that serves, even at its exit.
 */
export function abortConnection(connection: number): boolean {
  try {
    writeFileSync(`/sys/fs/fuse/connections/${connection}/abort`, '1');
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    // The connection is gone, or fusectl is not mounted: then unmounting has to do.
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EROFS') return false;
    throw error;
  }
}

/**
 * Raises how far the kernel reads ahead on the mount; INIT can only lower it. Without the right to do so, or on a
 * kernel that has no such setting, nothing changes.
 */
export function setReadahead(connection: number, kibibytes: number): boolean {
  try {
    writeFileSync(`/sys/class/bdi/0:${connection}/read_ahead_kb`, String(kibibytes));
    return true;
  } catch (error) {
    const code = systemErrorCode(error);
    if (code === 'ENOENT' || code === 'EACCES' || code === 'EROFS' || code === 'EPERM') return false;
    throw error;
  }
}

/** Whether /dev/fuse can be opened by this process. */
export function hasFuse(): boolean {
  try {
    closeSync(openSync(FUSE_DEVICE, 'r+'));
    return true;
  } catch {
    // Whatever the reason, it is not there for us.
    return false;
  }
}
