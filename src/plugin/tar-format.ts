/**
 * The tar format as it is written: ustar headers with pax records, as GNU tar has them.
 *
 * Written: one header an entry, and before it a pax header ("x") for what the header cannot say: paths of more than
 * 100 bytes, times with fractions, large numbers, xattrs and ACLs (SCHILY.*), and files with holes in the form
 * GNU.sparse 1.0. Paths and names are bytes throughout: they may be no UTF-8, and the tar libraries of npm
 * keep them as text and know no holes, which is why this is written here. tar-reader.ts reads.
 */
export const BLOCK = 512;
/** Entries before the end of an archive take a multiple of this, as tar writes them. */
export const RECORD_SIZE = 20 * BLOCK;
// Fields of a header: where they begin and how long they are.
export const NAME = [0, 100] as const;
export const MODE = [100, 8] as const;
export const UID = [108, 8] as const;
export const GID = [116, 8] as const;
export const SIZE = [124, 12] as const;
export const MTIME = [136, 12] as const;
export const CHECKSUM = [148, 8] as const;
export const TYPE = 156;
export const LINK = [157, 100] as const;
export const MAGIC = [257, 8] as const;
export const MAJOR = [329, 8] as const;
export const MINOR = [337, 8] as const;
export type Field = readonly [number, number];

const USTAR = Buffer.from('ustar\x0000', 'latin1');
export const XATTR_KEY = 'SCHILY.xattr.';
export const ACL_KEYS = ['SCHILY.acl.access', 'SCHILY.acl.default'] as const;

export type TarType =
  | 'file'
  | 'hardlink'
  | 'symlink'
  | 'character-device'
  | 'block-device'
  | 'directory'
  | 'fifo';
/** In the order of their type flags, "0" to "6". */
export const TYPES: readonly TarType[] = [
  'file',
  'hardlink',
  'symlink',
  'character-device',
  'block-device',
  'directory',
  'fifo',
];

export interface TarTime {
  readonly seconds: number;
  /** 0..999,999,999, added to the seconds also before 1970. */
  readonly nanoseconds: number;
}

/** A region of a file that has data, in bytes. */
export interface Segment {
  readonly offset: number;
  readonly length: number;
}

export interface TarEntry {
  readonly type: TarType;
  readonly path: Buffer;
  /** Of a symbolic link what it says, of a hard link the path of the other entry. */
  readonly link: Buffer;
  /** Permission bits with setuid, setgid and sticky. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  /** Of the file, with its holes. */
  readonly size: number;
  /** Regions with data, in order, of a file with holes; the archive holds these only. */
  readonly segments: readonly Segment[] | undefined;
  readonly modify: TarTime;
  readonly access: TarTime | undefined;
  readonly major: number;
  readonly minor: number;
  readonly xattrs: readonly { readonly name: Buffer; readonly value: Buffer }[];
  /** In text; where the xattr system.posix_acl_* is there too, that one counts. */
  readonly accessAcl: string | undefined;
  readonly defaultAcl: string | undefined;
}

/** Zeros that fill up the last block of `length` bytes. */
export function paddingOf(length: number): Buffer {
  return Buffer.alloc((BLOCK - (length % BLOCK)) % BLOCK);
}

/** The end of an archive of `length` bytes so far. */
export function endOfArchive(length: number): Buffer {
  const rest = (length + 2 * BLOCK) % RECORD_SIZE;
  return Buffer.alloc(2 * BLOCK + (rest === 0 ? 0 : RECORD_SIZE - rest));
}

function paxRecord(key: Buffer | string, value: Buffer | string): Buffer {
  const body = Buffer.concat([
    Buffer.from(' '),
    Buffer.from(key as string),
    Buffer.from('='),
    Buffer.from(value as string),
    Buffer.from('\n'),
  ]);
  // The length counts its own digits.
  let length = body.length + 1;
  while (String(length).length + body.length !== length) length = String(length).length + body.length;
  return Buffer.concat([Buffer.from(String(length)), body]);
}

function timeText({ seconds, nanoseconds }: TarTime): string {
  const isSplit = seconds < 0 && nanoseconds > 0;
  const whole = isSplit ? seconds + 1 : seconds;
  const fraction = isSplit ? 1e9 - nanoseconds : nanoseconds;
  const sign = whole < 0 || isSplit ? '-' : '';
  const digits = `${sign}${Math.abs(whole)}`;
  return fraction === 0 ? digits : `${digits}.${String(fraction).padStart(9, '0').replace(/0+$/, '')}`;
}

function putOctal(header: Buffer, [start, length]: Field, value: number): void {
  header.write(value.toString(8).padStart(length - 1, '0'), start, 'latin1');
}

function fits([, length]: Field, value: number): boolean {
  return value >= 0 && value < 8 ** (length - 1);
}

/** A header; numbers that do not fit are 0, names are cut off: a pax header before it says them. */
function header(flag: string, name: Buffer, link: Buffer, size: number, entry?: TarEntry): Buffer {
  const bytes = Buffer.alloc(BLOCK);
  name.copy(bytes, NAME[0], 0, NAME[1]);
  link.copy(bytes, LINK[0], 0, LINK[1]);
  const numbers: [Field, number][] = [
    [MODE, entry?.mode ?? 0o644],
    [UID, entry?.uid ?? 0],
    [GID, entry?.gid ?? 0],
    [SIZE, size],
    [MTIME, entry?.modify.seconds ?? 0],
    [MAJOR, entry?.major ?? 0],
    [MINOR, entry?.minor ?? 0],
  ];
  for (const [field, value] of numbers) putOctal(bytes, field, fits(field, value) ? value : 0);
  bytes.write(flag, TYPE, 'latin1');
  USTAR.copy(bytes, MAGIC[0]);
  bytes.fill(' ', CHECKSUM[0], CHECKSUM[0] + CHECKSUM[1]);
  let sum = 0;
  for (const byte of bytes) sum += byte;
  bytes.write(`${sum.toString(8).padStart(6, '0')}\0 `, CHECKSUM[0], 'latin1');
  return bytes;
}

/** The bytes of the data that the archive holds of a file, without the map of its holes. */
export function dataSize(entry: Pick<TarEntry, 'size' | 'segments'>): number {
  return entry.segments?.reduce((sum, { length }) => sum + length, 0) ?? entry.size;
}

/** A hole at the end is told, as GNU tar does, by a region without data behind it. */
function sparseMap(segments: readonly Segment[], size: number): Buffer {
  const last = segments.at(-1);
  const regions = last !== undefined && last.offset + last.length === size ? [] : [size, 0];
  const numbers = segments.flatMap(({ offset, length }) => [offset, length]).concat(regions);
  const lines = [numbers.length / 2, ...numbers];
  const map = Buffer.from(`${lines.join('\n')}\n`, 'latin1');
  return Buffer.concat([map, paddingOf(map.length)]);
}

/** As GNU tar does: a key ends at its first "=". */
function xattrKey(name: Buffer): Buffer {
  const text = name.toString('latin1').replaceAll('%', '%25').replaceAll('=', '%3D');
  return Buffer.from(XATTR_KEY + text, 'latin1');
}

/** All that comes before the data of an entry. */
export function encodeEntry(entry: TarEntry): Buffer {
  const { path, link, uid, gid, modify, access, segments } = entry;
  const isFile = entry.type === 'file';
  const map = segments === undefined ? Buffer.alloc(0) : sparseMap(segments, entry.size);
  const size = isFile ? map.length + dataSize(entry) : 0;
  const records: Buffer[] = [];
  const names = [
    [segments === undefined ? 'path' : 'GNU.sparse.name', path, segments !== undefined],
    ['linkpath', link, false],
  ] as const;
  for (const [key, value, always] of names) {
    if (!always && value.length <= NAME[1]) continue;
    records.push(paxRecord(key, value));
  }
  if (segments !== undefined) {
    records.push(paxRecord('GNU.sparse.major', '1'), paxRecord('GNU.sparse.minor', '0'));
    records.push(paxRecord('GNU.sparse.realsize', String(entry.size)));
  }
  if (!fits(SIZE, size)) records.push(paxRecord('size', String(size)));
  if (!fits(UID, uid)) records.push(paxRecord('uid', String(uid)));
  if (!fits(GID, gid)) records.push(paxRecord('gid', String(gid)));
  if (modify.nanoseconds !== 0 || !fits(MTIME, modify.seconds))
    records.push(paxRecord('mtime', timeText(modify)));
  if (access !== undefined) records.push(paxRecord('atime', timeText(access)));
  if (entry.accessAcl !== undefined) records.push(paxRecord(ACL_KEYS[0], entry.accessAcl));
  if (entry.defaultAcl !== undefined) records.push(paxRecord(ACL_KEYS[1], entry.defaultAcl));
  for (const { name, value } of entry.xattrs) records.push(paxRecord(xattrKey(name), value));
  const flag = String(TYPES.indexOf(entry.type));
  const name = segments === undefined ? path : placeholder('GNUSparseFile.0/', path);
  const main = header(flag, name, link, size, entry);
  if (records.length === 0) return Buffer.concat([main, map]);
  const pax = Buffer.concat(records);
  const paxHeader = header('x', placeholder('PaxHeaders/', path), Buffer.alloc(0), pax.length);
  return Buffer.concat([paxHeader, pax, paddingOf(pax.length), main, map]);
}

/** The name that a program without knowledge of pax would use. */
function placeholder(directory: string, path: Buffer): Buffer {
  const end = path.at(-1) === 0x2f ? path.length - 1 : path.length;
  const base = path.subarray(path.lastIndexOf('/', end - 1) + 1, end);
  return Buffer.concat([Buffer.from(directory), base]);
}
