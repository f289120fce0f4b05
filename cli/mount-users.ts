/** Who keeps a mount busy: the processes that have their working directory, their root or a file in it. */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { systemErrorCode } from '../src/errors.ts';

export interface MountUser {
  readonly pid: number;
  readonly command: string;
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
  const isInside = (link: string) => {
    const target = orElse('', () => readlinkSync(link));
    return target === mountpoint || target.startsWith(`${mountpoint}/`);
  };
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name) && Number(name) !== process.pid)
    .filter((pid) => {
      const files = orElse<string[]>([], () => readdirSync(`/proc/${pid}/fd`));
      return (
        isInside(`/proc/${pid}/cwd`) ||
        isInside(`/proc/${pid}/root`) ||
        files.some((file) => isInside(`/proc/${pid}/fd/${file}`))
      );
    })
    .map((pid) => ({
      pid: Number(pid),
      command: orElse('?', () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim()),
    }));
}

/** "bash (123), vim (456) and 3 more" */
export function describeUsers(users: readonly MountUser[]): string {
  const shown = users.slice(0, 3).map(({ pid, command }) => `${command} (${pid})`);
  const rest = users.length - shown.length;
  return `${shown.join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
