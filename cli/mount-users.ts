/** Who keeps a mount busy: the processes that have their working directory, their root or a file in it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { systemErrorCode } from '../src/errors.ts';

export interface MountUser {
  readonly pid: number;
  readonly command: string;
  /** What of the mount it uses: one path, as the kernel tells it. */
  readonly path: string;
}

/** What `read` gives, or `otherwise` where the process is gone or somebody else's. */
function orElse<Value>(otherwise: Value, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return otherwise;
  }
}

/** Who uses a mount, or a directory in it. The links under /proc are read as text: the mount itself is not touched. */
export function usersOfMount(mountpoint: string): MountUser[] {
  const inside = (link: string): string | undefined => {
    const target = orElse('', () => readlinkSync(link));
    return target === mountpoint || target.startsWith(`${mountpoint}/`) ? target : undefined;
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .flatMap((pid) => {
      const files = orElse<string[]>([], () => readdirSync(`/proc/${pid}/fd`));
      const links = ['cwd', 'root', ...files.map((file) => `fd/${file}`)];
      let path: string | undefined;
      for (const link of links) path ??= inside(`/proc/${pid}/${link}`);
      if (path === undefined) return [];
      const command = orElse('?', () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
      return [{ pid: Number(pid), command, path }];
    });
}

/** "bash (123), vim (456) and 3 more" */
export function describeUsers(users: readonly MountUser[]): string {
  const shown = users.slice(0, 3).map(({ pid, command }) => `${command} (${pid})`);
  const rest = users.length - shown.length;
  return `${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
