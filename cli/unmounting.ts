/**
 * Unmounting and waiting for the end: when the command returns, everything is on disk, the store is closed and the
 * daemon is gone.
 */
import { readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { abortConnection, unmount } from '../fuse/mount.ts';
import { type LsnfsMount, listMounts, readMounts } from '../fuse/mountinfo.ts';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { type ControlClient, connectToStore } from '../src/plugin/control-client.ts';
import { WAIT_UNTIL_CLOSED } from '../src/plugin/control-server.ts';
import { isAlive, type Owner, readOwner } from '../src/store/lock.ts';
import { describeUses, usersOfMount } from './mount-users.ts';
import { withProgress } from './progress.ts';
import { resolveTarget } from './target.ts';

/** After the store is closed the daemon has nothing to do but end. */
const END_PATIENCE_MS = 60_000;
/** How long --force waits for a daemon: to save what programs wrote, and to end. */
const FORCE_PATIENCE_MS = 10_000;

export interface Unmounted {
  readonly store: string;
  readonly mountpoint: string;
}

/** Takes the mount out of sight at once; the daemon ends when no program uses it any more. */
export async function unmountLazily(directory: string): Promise<Unmounted> {
  const { store, mountpoint } = mountedTarget(directory);
  await unmount(mountpoint, { lazy: true });
  return { store, mountpoint };
}

export async function unmountAndWait(directory: string): Promise<Unmounted> {
  const { store, mountpoint } = mountedTarget(directory);
  const daemon = await connectToStore(store);
  const owner = daemon === undefined ? undefined : readOwner(store);
  if (owner !== undefined && isSuspended(owner)) {
    say(
      `the daemon (process ${owner.pid}) is suspended, and this waits until it goes on ("kill -CONT ${owner.pid}"); --force does not wait`,
    );
  }
  // Asked before the unmount, so that the answer cannot be missed; looked at after it.
  const closed = daemon === undefined ? undefined : closing(daemon);
  try {
    await unmountOrSayWhoKeepsIt(mountpoint);
    const failure =
      closed === undefined ? undefined : await withProgress('waiting until everything is on disk', closed);
    if (failure !== undefined) throw notClosed(store, mountpoint, failure);
  } finally {
    daemon?.close();
  }
  await ended(owner, END_PATIENCE_MS);
  return { store, mountpoint };
}

/**
 * Unmounts although programs use it, or although the daemon hangs. What programs have written is saved first if the
 * daemon answers in time; then they are cut off, and get errors. A daemon that does not end is killed, as a crash
 * would.
 */
export async function unmountForcibly(directory: string): Promise<Unmounted> {
  const { store, mountpoint, connection } = mountedTarget(directory);
  const owner = readOwner(store);
  const answers = owner !== undefined && isAlive(owner) && !isSuspended(owner);
  const daemon = answers ? await connectToStore(store) : undefined;
  let isSaved = false;
  let isKilled = false;
  try {
    const closed = daemon === undefined ? undefined : closing(daemon);
    isSaved = daemon !== undefined && (await saveInTime(daemon));
    // Where a user cannot abort the connection, the end of the daemon cuts programs off.
    if (!abortConnection(connection) && process.geteuid?.() !== 0) isKilled = kill(owner);
    await unmount(mountpoint, { lazy: true, abort: true });
    await Promise.race([closed, sleep(FORCE_PATIENCE_MS, undefined, { ref: false })]);
  } finally {
    daemon?.close();
  }
  if (!(await ended(owner, daemon === undefined ? 0 : FORCE_PATIENCE_MS))) isKilled = kill(owner) || isKilled;
  if (isKilled && !isSaved) {
    say(`the daemon (process ${owner?.pid}) did not answer and was killed: what nobody synced may be lost`);
  }
  await ended(owner, END_PATIENCE_MS);
  return { store, mountpoint };
}

/** Resolves when the store is closed, with what went wrong if something did. */
function closing(daemon: ControlClient): Promise<unknown> {
  return daemon.request(WAIT_UNTIL_CLOSED).then(
    () => undefined,
    (error: unknown) => error,
  );
}

/** Has everything that programs wrote saved. Returns whether that was done in time. */
async function saveInTime(daemon: ControlClient): Promise<boolean> {
  const saved = daemon.request('commit').then(
    () => true,
    (error: unknown) => {
      say(`what programs wrote cannot be saved: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    },
  );
  const late = sleep(FORCE_PATIENCE_MS, false, { ref: false });
  return withProgress('waiting until what programs wrote is on disk', Promise.race([saved, late]));
}

function notClosed(store: string, mountpoint: string, failure: unknown): LsnfsError {
  const why = failure instanceof Error ? failure.message : String(failure);
  return new LsnfsError(
    'IO',
    `${mountpoint} is unmounted, but the store was not closed cleanly: ${why}; see ${store}/lsnfs.log`,
  );
}

function say(text: string): void {
  process.stderr.write(`lsnfs: ${text}\n`);
}

/** Waits for the end of the process. Returns whether it has ended. */
async function ended(owner: Owner | undefined, patienceMs: number): Promise<boolean> {
  if (owner === undefined) return true;
  for (let waited = 0; isAlive(owner); waited += 10) {
    if (waited >= patienceMs) return false;
    await sleep(10);
  }
  return true;
}

/** Returns whether there was a process to kill. */
function kill(owner: Owner | undefined): boolean {
  if (owner === undefined || !isAlive(owner)) return false;
  try {
    process.kill(owner.pid, 'SIGKILL');
    return true;
  } catch (error) {
    if (systemErrorCode(error) === 'ESRCH') return false;
    throw new LsnfsError(
      'EACCES',
      `the daemon (process ${owner.pid}) hangs, and only its owner and root may end it`,
    );
  }
}

/** Whether the process was stopped by a signal (SIGSTOP, a debugger). */
function isSuspended(owner: Owner): boolean {
  try {
    return isAlive(owner) && /\) [Tt] /.test(readFileSync(`/proc/${owner.pid}/stat`, 'latin1'));
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    // It has ended meanwhile.
    return false;
  }
}

function mountedTarget(directory: string): LsnfsMount {
  const { storePath, mountpoint } = resolveTarget(directory);
  const mount = listMounts().findLast((entry) => entry.mountpoint === mountpoint);
  if (mount !== undefined) return mount;
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
    throw new LsnfsError(
      'EBUSY',
      `cannot unmount ${mountpoint}: ${whoKeeps(mountpoint)}; end that and try again, or unmount with --lazy or --force`,
    );
  }
}

function whoKeeps(mountpoint: string): string {
  const users = usersOfMount(mountpoint);
  if (users.length > 0) return `it is used by ${describeUses(users)}`;
  const inside = readMounts().find((mount) => mount.mountpoint.startsWith(`${mountpoint}/`));
  if (inside !== undefined) return `something is mounted in it, at ${inside.mountpoint}`;
  return process.geteuid?.() === 0
    ? 'a program uses it'
    : 'a program of another user uses it (root sees which)';
}
