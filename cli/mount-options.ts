/**
 * Options in the manner of mount(8): a list with commas, of which later ones win. What mount(8), fstab(5) and systemd
 * keep for themselves is passed over; what is not known is refused with the names of what is.
 */
import { spawnSync } from 'node:child_process';
import { InvalidArgumentError } from 'commander';
import { LsnfsError } from '../src/errors.ts';
import { parseDuration } from './arguments.ts';
import { UsageError } from './failure.ts';

/** Who speaks with the kernel: lsnfs itself (fuse/server.ts), or libfuse 2 (fuse/native/server.ts). */
export const BINDINGS = ['kernel', 'fuse-native'] as const;
export type Binding = (typeof BINDINGS)[number];

export interface MountOptionValues {
  readOnly?: boolean;
  allowOther?: boolean;
  nonEmpty?: boolean;
  plugins?: boolean;
  snapdir?: 'hidden' | 'visible';
  commitIntervalMs?: number;
  binding?: Binding;
  /** Whom all files are shown to belong to. */
  uid?: number;
  gid?: number;
  atime?: 'relatime' | 'noatime';
  /** What the kernel is told, in this order. */
  readonly flags: string[];
}

type Take = (values: MountOptionValues, value: string) => void;

/** Options without a value. */
const FLAGS: Readonly<Record<string, Take>> = {
  ro: (values) => {
    values.readOnly = true;
  },
  rw: (values) => {
    values.readOnly = false;
  },
  allow_other: (values) => {
    values.allowOther = true;
  },
  // Every mount has it.
  default_permissions: () => {},
  nonempty: (values) => {
    values.nonEmpty = true;
  },
  plugins: (values) => {
    values.plugins = true;
  },
  noatime: (values) => {
    values.atime = 'noatime';
  },
  relatime: (values) => {
    values.atime = 'relatime';
  },
  exec: (values) => void values.flags.push('exec'),
  noexec: (values) => void values.flags.push('noexec'),
  nosuid: (values) => void values.flags.push('nosuid'),
  nodev: (values) => void values.flags.push('nodev'),
  suid: (values) => privileged(values, 'suid'),
  dev: (values) => privileged(values, 'dev'),
  async: (values) => void values.flags.push('async'),
  sync: (values) => void values.flags.push('sync'),
};

/** Options with a value. */
const VALUES: Readonly<Record<string, Take>> = {
  uid: (values, value) => {
    values.uid = parseUser(value);
  },
  gid: (values, value) => {
    values.gid = parseGroup(value);
  },
  snapdir: (values, value) => {
    if (value !== 'hidden' && value !== 'visible')
      throw new UsageError(`the option snapdir is hidden or visible, not '${value}'`);
    values.snapdir = value;
  },
  binding: (values, value) => {
    const binding = BINDINGS.find((name) => name === value);
    if (binding === undefined)
      throw new UsageError(`the option binding is ${BINDINGS.join(' or ')}, not '${value}'`);
    values.binding = binding;
  },
  commit_interval: (values, value) => {
    values.commitIntervalMs = parseDuration(value);
  },
};

/** What is not meant for a file system: mount(8), fstab(5), systemd.mount(5). */
const IGNORED = new Set([
  'defaults',
  'auto',
  'noauto',
  'user',
  'nouser',
  'users',
  'owner',
  'group',
  'nofail',
  '_netdev',
  'diratime',
  'nodiratime',
]);

function isIgnored(name: string): boolean {
  return IGNORED.has(name) || /^x-/i.test(name) || name === 'comment';
}

/** Set-user-ID programs and devices of a store count only where root says so. */
function privileged(values: MountOptionValues, flag: string): void {
  if (process.geteuid?.() !== 0)
    throw new LsnfsError('MOUNT_REFUSED', `the option ${flag} is for root only; leave it out`);
  values.flags.push(flag);
}

/** "a,b=c,x-d="e,f"" into its parts: a comma between double quotes separates nothing. */
function split(list: string): string[] {
  return (list.match(/(?:"[^"]*"|[^,"]|")+/g) ?? []).map((part) => part.trim()).filter((part) => part !== '');
}

/**
 * Parses lists of options; the later one wins. `sloppy` passes over what is not known, as mount -s asks for.
 * @throws UsageError, LsnfsError MOUNT_REFUSED
 */
export function parseMountOptions(lists: readonly string[], sloppy = false): MountOptionValues {
  const values: MountOptionValues = { flags: [] };
  for (const part of lists.flatMap(split)) {
    const equals = part.indexOf('=');
    const name = equals < 0 ? part : part.slice(0, equals);
    const known = Object.hasOwn(equals < 0 ? FLAGS : VALUES, name);
    if (known) take(values, name, equals < 0 ? '' : part.slice(equals + 1));
    else if (!isIgnored(name) && !sloppy) throw unknown(part, name);
  }
  return values;
}

function take(values: MountOptionValues, name: string, value: string): void {
  try {
    (FLAGS[name] ?? VALUES[name]!)(values, value);
  } catch (error) {
    if (error instanceof InvalidArgumentError) throw new UsageError(`the option ${name}: ${error.message}`);
    throw error;
  }
}

function unknown(part: string, name: string): UsageError {
  if (name === 'remount')
    return new UsageError('a mount cannot be changed; unmount, and mount again with other options');
  const known = [...Object.keys(FLAGS), ...Object.keys(VALUES).map((key) => `${key}=`)].sort();
  return new UsageError(`mount knows no option '${part}'; it knows ${known.join(', ')}`);
}

/** The highest number that is somebody: the one above means "nobody in particular" to the kernel. */
const HIGHEST_ID = 0xffff_fffe;

/** A user by number or name. */
export function parseUser(text: string): number {
  return parseId(text, 'passwd', 'user');
}

/** A group by number or name. */
export function parseGroup(text: string): number {
  return parseId(text, 'group', 'group');
}

function parseId(text: string, database: string, kind: string): number {
  if (/^\d{1,10}$/.test(text) && Number(text) <= HIGHEST_ID) return Number(text);
  // getent(1) asks whatever knows users here, and prints "name:password:number:…".
  const found = /^[A-Za-z_][\w.@-]*\$?$/.test(text)
    ? spawnSync('getent', [database, text], { encoding: 'utf8', timeout: 10_000 }).stdout
    : '';
  const id = /^[^:]*:[^:]*:(\d+):/.exec(found ?? '')?.[1];
  if (id === undefined)
    throw new InvalidArgumentError(`There is no ${kind} '${text}'; give a name or a number.`);
  return Number(id);
}
