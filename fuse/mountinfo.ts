/**
 * What is mounted, from /proc/self/mountinfo: one line a mount, fields separated by spaces, with blanks and
 * backslashes inside a field written as three octal digits.
 */
import { readFileSync } from 'node:fs';

/** The file system type that lsnfs mounts show. */
export const MOUNT_TYPE = 'fuse.lsnfs';
export const MOUNT_SUBTYPE = 'lsnfs';

export interface MountEntry {
  readonly mountpoint: string;
  readonly type: string;
  readonly source: string;
  /** Options of the mount and of its file system. */
  readonly options: readonly string[];
  /** Minor number of st_dev: the name of the connection in /sys/fs/fuse/connections. */
  readonly deviceMinor: number;
}

export interface LsnfsMount {
  readonly mountpoint: string;
  readonly store: string;
  readonly readOnly: boolean;
  readonly connection: number;
  readonly options: readonly string[];
}

/** Undoes the octal escapes. The bytes are UTF-8 as a whole, so they are put together first. */
export function unescapeField(field: string): string {
  if (!field.includes('\\')) return field;
  const bytes: number[] = [];
  const encoded = Buffer.from(field, 'utf8');
  for (let i = 0; i < encoded.length; i++) {
    const octal = encoded.toString('latin1', i + 1, i + 4);
    if (encoded[i] === 0x5c && /^[0-3][0-7]{2}$/.test(octal)) {
      bytes.push(Number.parseInt(octal, 8));
      i += 3;
    } else bytes.push(encoded[i]!);
  }
  return Buffer.from(bytes).toString('utf8');
}

/** Parses the text of a mountinfo file. Lines that are not understood are left out. */
export function parseMountinfo(text: string): MountEntry[] {
  const entries: MountEntry[] = [];
  for (const line of text.split('\n')) {
    const fields = line.split(' ');
    // id parent major:minor root mountpoint options optional… - type source super-options
    const separator = fields.indexOf('-', 6);
    const device = /^[0-9]+:([0-9]+)$/.exec(fields[2] ?? '');
    if (separator < 0 || device === null) continue;
    const [type = '', source = '', superOptions = ''] = fields.slice(separator + 1);
    entries.push({
      mountpoint: unescapeField(fields[4]!),
      type,
      source: unescapeField(source),
      options: [...new Set([...fields[5]!.split(','), ...superOptions.split(',')])].filter((o) => o !== ''),
      deviceMinor: Number(device[1]),
    });
  }
  return entries;
}

export function readMounts(): MountEntry[] {
  return parseMountinfo(readFileSync('/proc/self/mountinfo', 'utf8'));
}

/** The mount on top at this (real) path, or undefined. */
export function mountAt(mountpoint: string): MountEntry | undefined {
  return readMounts().findLast((entry) => entry.mountpoint === mountpoint);
}

/** All mounts of lsnfs that this process sees. */
export function listMounts(): LsnfsMount[] {
  return readMounts()
    .filter((entry) => entry.type === MOUNT_TYPE)
    .map((entry) => ({
      mountpoint: entry.mountpoint,
      store: entry.source,
      readOnly: entry.options.includes('ro'),
      connection: entry.deviceMinor,
      options: entry.options,
    }));
}
