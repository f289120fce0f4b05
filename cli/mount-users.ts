/**
 * Who keeps a mount busy: the processes that have their working directory, their root, their program, a file or a
 * mapping in it. The links under /proc are read as text: the mount itself is not touched, since it may hang.
 */
import { readdirSync, readFileSync, readlinkSync } from 'node:fs';
import { systemErrorCode } from '../src/errors.ts';

export interface MountUser {
  readonly pid: number;
  readonly command: string;
  /** What of the mount it uses: the first path that was found, as the kernel tells it. */
  readonly path: string;
  /** The path with what it is to the process: "its working directory /mnt/d". */
  readonly what?: string;
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

/** Links of a process, and what each is to it. */
const LINKS: readonly (readonly [string, string])[] = [
  ['cwd', 'its working directory'],
  ['root', 'its root'],
  ['exe', 'its program'],
];

/** Who uses a mount, or a directory in it. */
export function usersOfMount(mountpoint: string): MountUser[] {
  const isInside = (path: string) => path === mountpoint || path.startsWith(`${mountpoint}/`);
  const users: MountUser[] = [];
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    if (Number(pid) === process.pid) continue;
    const use = useOf(pid, isInside);
    if (use === undefined) continue;
    const command = orElse('?', () => readFileSync(`/proc/${pid}/comm`, 'utf8').trim());
    users.push({ pid: Number(pid), command, ...use });
  }
  return users;
}

type Use = Required<Pick<MountUser, 'path' | 'what'>>;

/** What the process has inside, or undefined. */
function useOf(pid: string, isInside: (path: string) => boolean): Use | undefined {
  const linkIn = (link: string) => {
    const path = orElse('', () => readlinkSync(`/proc/${pid}/${link}`));
    return isInside(path) ? path : undefined;
  };
  for (const [link, what] of LINKS) {
    const path = linkIn(link);
    if (path !== undefined) return { path, what: `${what} ${path}` };
  }
  for (const file of orElse<string[]>([], () => readdirSync(`/proc/${pid}/fd`))) {
    const path = linkIn(`fd/${file}`);
    if (path !== undefined) return { path, what: `${path} open` };
  }
  const mapped = mappedPaths(orElse('', () => readFileSync(`/proc/${pid}/maps`, 'utf8'))).find(isInside);
  return mapped === undefined ? undefined : { path: mapped, what: `${mapped} mapped` };
}

/** The paths in the text of /proc/PID/maps: the sixth field, which may have blanks. */
function mappedPaths(text: string): string[] {
  return [...text.matchAll(/^(?:\S+\s+){5}(\/.*)$/gm)].map((match) => match[1]!);
}

/** How many are named at most. */
const SHOWN = 3;

/** "bash (123), vim (456) and 3 more" */
export function describeUsers(users: readonly MountUser[]): string {
  return listOf(users, ({ pid, command }) => `${command} (${pid})`);
}

/** "bash (123, its working directory /mnt/d), vim (456, /mnt/f open) and 3 more" */
export function describeUses(users: readonly MountUser[]): string {
  return listOf(
    users,
    ({ pid, command, what }) => `${command} (${pid}${what === undefined ? '' : `, ${what}`})`,
  );
}

function listOf(users: readonly MountUser[], describe: (user: MountUser) => string): string {
  const rest = users.length - SHOWN;
  return `${users.slice(0, SHOWN).map(describe).join(', ')}${rest > 0 ? ` and ${rest} more` : ''}`;
}
