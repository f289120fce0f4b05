/**
 * Files that are open while they are restored.
 *
 * A kernel that caches writes keeps size and times of a regular file itself, for as long as it knows the file, and
 * takes none of the server's: no invalidation changes that. A file that nobody has open is forgotten with its name. To
 * one that is open the restored size and time are given as a program would give them: the main thread opens the file by
 * its number, truncates it to the size that it has, and sets the time of modification that it has. The server knows
 * which files those are, and what asks for what is so already changes nothing there. What the kernel has for times of change
 * afterwards, it may write back later: `Refreshes` knows these times and passes over them.
 */
import { spawn } from 'node:child_process';
import { type FileHandle, open } from 'node:fs/promises';
import { systemErrorCode } from '../src/errors.ts';
import type { AttributeChanges, Attributes } from '../src/vfs/file-system.ts';

/** A regular file that is open, as it is now that it was restored. */
export interface RestoredFile {
  readonly inode: number;
  readonly size: number;
  readonly modifySeconds: number;
  readonly modifyNanoseconds: number;
}

/** Times as the kernel has them, in nanoseconds since 1970. */
export interface KernelTimes {
  readonly modify: bigint;
  readonly change: bigint;
}

type Moment = AttributeChanges['modify'];

function nanoseconds(time: Moment): bigint | undefined {
  if (time === undefined || time === 'now') return undefined;
  return BigInt(time.seconds) * 1_000_000_000n + BigInt(time.nanoseconds);
}

/** What the server knows of the refreshes that are under way, or were done. */
export class Refreshes {
  private readonly underWay = new Set<number>();
  private readonly done = new Map<number, KernelTimes>();

  begin(inode: number): void {
    this.underWay.add(inode);
    this.done.delete(inode);
  }

  end(inode: number, times: KernelTimes | undefined): void {
    this.underWay.delete(inode);
    if (times !== undefined) this.done.set(inode, times);
  }

  /** Whether a change of attributes is a refresh, or an echo of one: then nothing is to be changed. */
  isRefresh(inode: number, changes: AttributeChanges, now: () => Attributes): boolean {
    if (this.underWay.size === 0 && this.done.size === 0) return false;
    const { size, modify, change, access: _access, ...others } = changes;
    if (Object.keys(others).length > 0) return false;
    if (this.underWay.has(inode)) {
      const attributes = now();
      const isSameTime =
        modify === undefined ||
        modify === 'now' ||
        isNear(nanoseconds(modify)!, modifyTime(attributes)) ||
        (size !== undefined && modify !== undefined);
      return (size === undefined || size === attributes.size) && isSameTime;
    }
    const known = this.done.get(inode);
    if (known === undefined || size !== undefined || change === undefined) return false;
    if (
      nanoseconds(change) === known.change &&
      (modify === undefined || nanoseconds(modify) === known.modify)
    ) {
      return true;
    }
    this.done.delete(inode);
    return false;
  }

  /** The kernel has forgotten the file, and with it its times. */
  forget(inode: number): void {
    if (this.done.size > 0) this.done.delete(inode);
  }
}

/** Whether two times are the same but for the precision of Node's numbers. */
function isNear(a: bigint, b: bigint): boolean {
  return a - b < 1000n && b - a < 1000n;
}

function modifyTime({ modifySeconds, modifyNanoseconds }: RestoredFile | Attributes): bigint {
  return BigInt(modifySeconds) * 1_000_000_000n + BigInt(modifyNanoseconds);
}

/** Gives the kernel the size and the time of a file that is open; `path` leads to it. Returns the times that it has then. */
export async function refreshFile(path: string, restored: RestoredFile): Promise<KernelTimes | undefined> {
  let file: FileHandle;
  try {
    file = await open(path, 'r+');
  } catch (error) {
    // Gone or closed meanwhile: then the kernel asks again when it needs to know.
    if (systemErrorCode(error) === undefined) throw error;
    return undefined;
  }
  try {
    const before = await file.stat();
    if (before.size !== restored.size) await file.truncate(restored.size);
    await setModifyTime(file, restored);
    const { mtimeNs, ctimeNs } = await file.stat({ bigint: true });
    return { modify: mtimeNs, change: ctimeNs };
  } finally {
    await file.close();
  }
}

/** To the nanosecond, which Node's own numbers are too coarse for. */
async function setModifyTime(file: FileHandle, restored: RestoredFile): Promise<void> {
  const { mtimeNs } = await file.stat({ bigint: true });
  if (mtimeNs === modifyTime(restored)) return;
  const time = `@${restored.modifySeconds}.${String(restored.modifyNanoseconds).padStart(9, '0')}`;
  const status = await new Promise<number | null>((resolve) => {
    const child = spawn('touch', ['-c', '-m', '-d', time, '--', '/proc/self/fd/3'], {
      stdio: ['ignore', 'ignore', 'ignore', file.fd],
    });
    child.on('error', () => resolve(null));
    child.on('close', resolve);
  });
  if (status === 0) return;
  const seconds = restored.modifySeconds + restored.modifyNanoseconds / 1e9;
  await file.utimes(seconds, seconds);
}
