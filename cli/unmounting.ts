/**
 * Unmounting and waiting for the end: when the command returns, everything is on disk, the store is closed and the
 * daemon is gone.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { unmount } from '../fuse/mount.ts';
import { LsnfsError } from '../src/errors.ts';
import { connectToStore } from '../src/plugin/control-client.ts';
import { WAIT_UNTIL_CLOSED } from '../src/plugin/control-server.ts';
import { isAlive, readOwner } from '../src/store/lock.ts';
import { describeUsers, usersOfMount } from './mount-users.ts';
import { withProgress } from './progress.ts';
import { resolveTarget } from './target.ts';

/** After the store is closed the daemon has nothing to do but end. */
const END_PATIENCE_MS = 60_000;

export interface Unmounted {
  readonly store: string;
  readonly mountpoint: string;
}

/** Takes the mount out of sight at once; the daemon ends when no program uses it any more. */
export async function unmountLazily(directory: string): Promise<Unmounted> {
  const { storePath, mountpoint } = mountedTarget(directory);
  await unmount(mountpoint, { lazy: true });
  return { store: storePath, mountpoint };
}

export async function unmountAndWait(directory: string): Promise<Unmounted> {
  const { storePath, mountpoint } = mountedTarget(directory);
  const daemon = await connectToStore(storePath);
  const owner = daemon === undefined ? undefined : readOwner(storePath);
  // Asked before the unmount, so that the answer cannot be missed; looked at after it.
  const closed = daemon?.request(WAIT_UNTIL_CLOSED).then(
    () => undefined,
    (error: unknown) => error,
  );
  try {
    await unmountOrSayWhoKeepsIt(mountpoint);
    const failure =
      closed === undefined ? undefined : await withProgress('waiting until everything is on disk', closed);
    if (failure !== undefined) {
      const why = failure instanceof Error ? failure.message : String(failure);
      throw new LsnfsError(
        'IO',
        `${mountpoint} is unmounted, but the store was not closed cleanly: ${why}; see ${storePath}/lsnfs.log`,
      );
    }
  } finally {
    daemon?.close();
  }
  for (let waited = 0; owner !== undefined && isAlive(owner) && waited < END_PATIENCE_MS; waited += 10)
    await sleep(10);
  return { store: storePath, mountpoint };
}

function mountedTarget(directory: string): { storePath: string; mountpoint: string } {
  const { storePath, mountpoint } = resolveTarget(directory);
  if (mountpoint !== null) return { storePath, mountpoint };
  throw new LsnfsError(
    'NOT_MOUNTED',
    `nothing of lsnfs is mounted on ${storePath}; 'lsnfs mount' lists the mounts`,
  );
}

async function unmountOrSayWhoKeepsIt(mountpoint: string): Promise<void> {
  try {
    await unmount(mountpoint);
  } catch (error) {
    if (!(error instanceof LsnfsError) || error.code !== 'EBUSY') throw error;
    const users = usersOfMount(mountpoint);
    const who = users.length === 0 ? 'a program uses it' : `it is used by ${describeUsers(users)}`;
    throw new LsnfsError(
      'EBUSY',
      `cannot unmount ${mountpoint}: ${who}; end that and try again, or unmount with --lazy`,
    );
  }
}
