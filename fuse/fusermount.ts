/**
 * Mounting and unmounting as another user than root, through fusermount3, which has the right to do it.
 *
 * It opens /dev/fuse, mounts, and sends the descriptor over the socket that _FUSE_COMMFD names. The mount is there
 * before we have the descriptor; programs that reach it meanwhile wait. It adds nosuid and nodev itself.
 */
import { LsnfsError } from '../src/errors.ts';
import type { DescriptorSocket } from './descriptor-passing.ts';
import { runProgram } from './run-program.ts';

const PROGRAM = 'fusermount3';
/** Its configuration, which root keeps. */
const CONFIGURATION = '/etc/fuse.conf';

/** An option's value, with what separates options escaped. */
function escaped(value: string): string {
  return value.replace(/[\\,]/g, '\\$&');
}

/**
 * Mounts at `mountpoint`; the descriptor is in the socket then.
 * @throws LsnfsError MOUNT_REFUSED
 */
export async function fusermount(
  socket: DescriptorSocket,
  source: string,
  mountpoint: string,
  options: readonly string[],
): Promise<void> {
  const list = [`fsname=${escaped(source)}`, ...options].join(',');
  const { code, errorText } = await runProgram(PROGRAM, ['-o', list, '--', mountpoint], {
    descriptor: socket.senderEnd,
    environment: { _FUSE_COMMFD: '3' },
  });
  if (code === 0) return;
  throw new LsnfsError('MOUNT_REFUSED', explained(errorText, code, mountpoint), { mountpoint });
}

function explained(errorText: string, code: number | null, mountpoint: string): string {
  const text = errorText.replaceAll(/^fusermount3: /gm, '').replaceAll('\n', '; ');
  if (/allow_other.*user_allow_other/.test(text)) {
    return `mounting at ${mountpoint} with allow_other is not allowed to other users than root: root must put the line user_allow_other into ${CONFIGURATION}`;
  }
  if (/no write access to mountpoint|not owned by user|bad mount point .*Permission denied/i.test(text)) {
    return `mounting at ${mountpoint} is not allowed: the directory must be yours, or one that you may write to (${text})`;
  }
  if (/too many FUSE filesystems/i.test(text)) {
    return `mounting at ${mountpoint} failed: ${text} (mount_max in ${CONFIGURATION})`;
  }
  if (/failed to open \/dev\/fuse: Permission denied/i.test(text)) {
    return `mounting at ${mountpoint} failed: /dev/fuse may not be opened by this user; root must allow it with "chmod 666 /dev/fuse", which is how udev leaves it`;
  }
  if (/device not found|failed to open \/dev\/fuse/i.test(text)) {
    return `the kernel has no FUSE: ${text}; load it with "modprobe fuse", or give the container "--device /dev/fuse"`;
  }
  if (/Operation not permitted/i.test(text)) {
    return `mounting at ${mountpoint} failed: ${text}; ${PROGRAM} must be setuid root ("chmod u+s"), and a container needs the capability SYS_ADMIN`;
  }
  return `mounting at ${mountpoint} failed: ${text || `${PROGRAM} ended with ${code}`}`;
}

/** The program and its arguments that unmount. */
export function fusermountUnmount(mountpoint: string, lazy: boolean): [string, string[]] {
  return [PROGRAM, ['-u', ...(lazy ? ['-z'] : []), '--', mountpoint]];
}
