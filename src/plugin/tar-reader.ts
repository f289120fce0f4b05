/**
 * Reads tar archives: what tar-format.ts writes, GNU's own long names, base-256 numbers and sparse forms (0.0, 0.1, old
 * GNU), global pax headers, and version 7.
 *
 * What is read is never trusted: every length has a limit, and whatever cannot be is INVALID_INPUT with the byte of
 * the archive where it stands.
 */
import { LsnfsError } from '../errors.ts';
import {
  ACL_KEYS,
  BLOCK,
  CHECKSUM,
  type Field,
  GID,
  LINK,
  MAGIC,
  MAJOR,
  MINOR,
  MODE,
  MTIME,
  NAME,
  RECORD_SIZE,
  type Segment,
  SIZE,
  type TarEntry,
  type TarTime,
  type TarType,
  TYPE,
  TYPES,
  UID,
  XATTR_KEY,
} from './tar-format.ts';

/** Bytes of content that are given at once: a multiple of every page size. */
export const CONTENT_CHUNK = 1 << 20;
/** Pax records, or a GNU long name, of one entry. */
const EXTENSION_LIMIT = 64 << 20;
/** Regions with data of one sparse file. */
const SEGMENTS_MAX = 1 << 22;
/** What follows the end of an archive is read so far, so that its writer is not cut off amid the last record. */
const TRAILER_LIMIT = 1 << 20;

const PREFIX = [345, 155] as const;
/** Old GNU: four regions in the header and 21 in each block that follows, and whether one does. */
const GNU_SPARSE = { first: 386, count: 4, more: 482, realSize: 483, countNext: 21, moreNext: 504 } as const;

/** Reads up to `length` bytes into `target` at `start`; 0 at the end. */
export type ByteSource = (target: Uint8Array, start: number, length: number) => number;

const COMPRESSED: readonly [string, string][] = [
  ['1f8b', 'gzip'],
  ['28b52ffd', 'zstd'],
  ['fd377a585a00', 'xz'],
  ['425a68', 'bzip2'],
];

/** What extension headers said about the next entry. */
interface Extensions {
  records: Map<string, Buffer>;
  path: Buffer | undefined;
  link: Buffer | undefined;
  /** GNU.sparse 0.0 repeats its keys: offset, length, offset, … */
  regions: number[];
  isPax: boolean;
}

function noExtensions(): Extensions {
  return { records: new Map(), path: undefined, link: undefined, regions: [], isPax: false };
}

/** Reads an archive from its start to its end, once: an entry, its content, the next entry. */
export class TarReader {
  private readonly source: ByteSource;
  private readonly buffer = Buffer.allocUnsafe(CONTENT_CHUNK + RECORD_SIZE);
  private start = 0;
  private end = 0;
  private consumed = 0;
  /** Of the present entry. */
  private contentLeft = 0;
  private padding = 0;
  private entryOffset = 0;
  private readonly globals = new Map<string, Buffer>();

  constructor(source: ByteSource) {
    this.source = source;
  }

  /** Bytes of the archive that were used so far. */
  get offset(): number {
    return this.consumed;
  }

  /** Where the present entry begins. */
  get entryStart(): number {
    return this.entryOffset;
  }

  private damaged(what: string, offset = this.consumed): never {
    throw new LsnfsError('INVALID_INPUT', `the archive is damaged at byte ${offset}: ${what}`, { offset });
  }

  /** Has `length` bytes ready; fewer at the end of the archive. Returns how many. */
  private fill(length: number): number {
    if (this.end - this.start >= length) return length;
    this.buffer.copy(this.buffer, 0, this.start, this.end);
    this.end -= this.start;
    this.start = 0;
    while (this.end < length) {
      const count = this.source(this.buffer, this.end, this.buffer.length - this.end);
      if (count === 0) break;
      this.end += count;
    }
    return Math.min(length, this.end);
  }

  /** The next `length` bytes, up to CONTENT_CHUNK; valid until the next call. */
  private take(length: number): Buffer {
    const count = this.fill(length);
    if (count < length) {
      const offset = this.consumed + count;
      throw new LsnfsError(
        'INVALID_INPUT',
        `the archive is cut off: it ends at byte ${offset}, amid an entry`,
        {
          offset,
        },
      );
    }
    const bytes = this.buffer.subarray(this.start, this.start + length);
    this.start += length;
    this.consumed += length;
    return bytes;
  }

  /** The next piece of the entry's data, valid until the next call; undefined at its end. */
  content(limit = CONTENT_CHUNK): Buffer | undefined {
    if (this.contentLeft === 0) return undefined;
    const bytes = this.take(Math.min(this.contentLeft, limit, CONTENT_CHUNK));
    this.contentLeft -= bytes.length;
    return bytes;
  }

  private skipContent(): void {
    while (this.content() !== undefined);
    this.take(this.padding);
    this.padding = 0;
  }

  private beginContent(length: number): void {
    this.contentLeft = length;
    this.padding = (BLOCK - (length % BLOCK)) % BLOCK;
  }

  /** The next entry, or undefined at the end. @throws LsnfsError INVALID_INPUT that says where */
  next(): TarEntry | undefined {
    let extensions = noExtensions();
    this.skipContent();
    this.entryOffset = this.consumed;
    for (;;) {
      const at = this.consumed;
      const block = this.headerBlock();
      if (block === undefined) {
        if (at !== this.entryOffset) this.damaged('it ends after an extension of an entry');
        return undefined;
      }
      const flag = String.fromCharCode(block[TYPE]!);
      if ('xXgLK'.includes(flag)) {
        this.readExtension(flag, this.number(block, SIZE, at), extensions, at);
      } else if (flag === 'V') {
        this.beginContent(this.number(block, SIZE, at));
        this.skipContent();
        extensions = noExtensions();
        this.entryOffset = this.consumed;
      } else return this.entry(block, flag, extensions, at);
    }
  }

  /** A header with a right checksum, copied, or undefined at the end of the archive. */
  private headerBlock(): Buffer | undefined {
    const at = this.consumed;
    const ready = this.fill(BLOCK);
    if (ready === 0) {
      throw new LsnfsError(
        'INVALID_INPUT',
        at === 0
          ? 'the archive is empty'
          : `the archive is cut off: it ends at byte ${at} without an end mark`,
        { offset: at },
      );
    }
    if (at === 0) this.refuseCompressed(this.buffer.subarray(this.start, this.start + ready));
    const block = Buffer.from(this.take(BLOCK));
    if (block.every((byte) => byte === 0)) {
      this.readTrailer();
      return undefined;
    }
    const stated = this.number(block, CHECKSUM, at);
    let sum = 0;
    let signed = 0;
    block.fill(' ', CHECKSUM[0], CHECKSUM[0] + CHECKSUM[1]);
    for (const byte of block) {
      sum += byte;
      signed += byte > 127 ? byte - 256 : byte;
    }
    if (stated !== sum && stated !== signed) this.damaged('this is no header of a tar archive', at);
    return block;
  }

  private refuseCompressed(bytes: Buffer): void {
    for (const [magic, name] of COMPRESSED) {
      if (!bytes.toString('hex', 0, 8).startsWith(magic)) continue;
      throw new LsnfsError(
        'INVALID_INPUT',
        `the archive is compressed: give it through "${name} -dc" first`,
        { compression: name },
      );
    }
  }

  /** One block of zeros has been read; a second is due, and whatever fills the last record. */
  private readTrailer(): void {
    if (this.fill(BLOCK) < BLOCK) return;
    if (this.take(BLOCK).some((byte) => byte !== 0)) this.damaged('an entry follows half of an end mark');
    const from = this.consumed;
    while (this.consumed - from < TRAILER_LIMIT) {
      const count = this.fill(BLOCK);
      if (count === 0) return;
      this.take(count);
    }
  }

  /** A number of a header: octal, or base 256 when its first bit is set. */
  private number(block: Buffer, [start, length]: Field, at: number): number {
    const first = block[start]!;
    if (first >= 0x80) {
      // Two's complement, of which the first bit only says that it is one.
      let value = first >= 0xc0 ? first - 256 : first & 0x7f;
      for (let i = start + 1; i < start + length; i++) value = value * 256 + block[i]!;
      if (!Number.isSafeInteger(value)) this.damaged('a number is too large', at);
      return value;
    }
    const text = block.toString('latin1', start, start + length).replace(/^[ \0]+/, '');
    const digits = /^[0-7]*/.exec(text)![0];
    if (/[^ \0]/.test(text.slice(digits.length, digits.length + 1))) this.damaged('a number is none', at);
    return digits === '' ? 0 : Number.parseInt(digits, 8);
  }

  private readExtension(flag: string, size: number, extensions: Extensions, at: number): void {
    if (size < 0 || size > EXTENSION_LIMIT) this.damaged(`an extension of ${size} bytes`, at);
    this.beginContent(size);
    const pieces: Buffer[] = [];
    for (let piece = this.content(); piece !== undefined; piece = this.content())
      pieces.push(Buffer.from(piece));
    this.skipContent();
    const bytes = Buffer.concat(pieces);
    if (flag === 'L') extensions.path = untilNul(bytes);
    else if (flag === 'K') extensions.link = untilNul(bytes);
    else {
      if (flag !== 'g') extensions.isPax = true;
      this.readRecords(bytes, flag === 'g' ? this.globals : extensions.records, extensions, at);
    }
  }

  private readRecords(bytes: Buffer, records: Map<string, Buffer>, extensions: Extensions, at: number): void {
    for (let start = 0; start < bytes.length; ) {
      const space = bytes.indexOf(0x20, start);
      const digits = space < 0 || space - start > 10 ? '' : bytes.toString('latin1', start, space);
      const end = start + Number(digits);
      const equals = bytes.indexOf(0x3d, space);
      const isSound =
        /^\d+$/.test(digits) &&
        equals > space &&
        equals < end &&
        end <= bytes.length &&
        bytes[end - 1] === 0x0a;
      if (!isSound) this.damaged('a pax record is none', at);
      const key = bytes.toString('latin1', space + 1, equals);
      const value = bytes.subarray(equals + 1, end - 1);
      if (key === 'GNU.sparse.offset' || key === 'GNU.sparse.numbytes')
        extensions.regions.push(this.decimal(value, key, at));
      else records.set(key, value);
      start = end;
    }
  }

  private decimal(value: Buffer, key: string, at: number): number {
    const text = value.toString('latin1');
    const number = Number(text);
    if (!/^\d+$/.test(text) || !Number.isSafeInteger(number)) this.damaged(`${key} is no number`, at);
    return number;
  }

  private time(value: Buffer, key: string, at: number): TarTime {
    const match = /^(-?)(\d{1,16})(?:\.(\d*))?$/.exec(value.toString('latin1'));
    if (match === null || !Number.isSafeInteger(Number(match[2])))
      return this.damaged(`${key} is no time`, at);
    const seconds = Number(match[2]);
    const nanoseconds = Number((match[3] ?? '').slice(0, 9).padEnd(9, '0'));
    if (match[1] === '') return { seconds, nanoseconds };
    return nanoseconds === 0
      ? { seconds: 0 - seconds, nanoseconds }
      : { seconds: -seconds - 1, nanoseconds: 1e9 - nanoseconds };
  }

  private entry(block: Buffer, flag: string, extensions: Extensions, at: number): TarEntry {
    const { records } = extensions;
    const said = (key: string): Buffer | undefined => {
      const value = records.get(key) ?? this.globals.get(key);
      // An empty value takes back what a global header says.
      return value === undefined || value.length === 0 ? undefined : value;
    };
    const numberOf = (key: string, field: Field): number => {
      const value = said(key);
      return value === undefined ? this.number(block, field, at) : this.decimal(value, key, at);
    };
    const path = said('GNU.sparse.name') ?? said('path') ?? extensions.path ?? this.headerPath(block);
    const type = this.typeOf(flag, path, at);
    let stored = numberOf('size', SIZE);
    if (stored < 0) this.damaged('a size below 0', at);
    // Entries that are no files have no content, whatever their size says; a hard link may, in pax archives.
    if (type !== 'file' && flag !== 'D' && !(type === 'hardlink' && extensions.isPax)) stored = 0;
    this.beginContent(stored);
    const sparse = type === 'file' ? this.sparse(block, flag, extensions, said, at) : undefined;
    const modified = said('mtime');
    const accessed = said('atime');
    const entry: TarEntry = {
      type,
      path,
      link: said('linkpath') ?? extensions.link ?? untilNul(fieldOf(block, LINK)),
      mode: this.number(block, MODE, at) & 0o7777,
      uid: this.identity(numberOf('uid', UID), at),
      gid: this.identity(numberOf('gid', GID), at),
      size: type === 'file' ? (sparse?.size ?? stored) : 0,
      segments: sparse?.segments,
      modify:
        modified === undefined
          ? { seconds: this.number(block, MTIME, at), nanoseconds: 0 }
          : this.time(modified, 'mtime', at),
      access: accessed === undefined ? undefined : this.time(accessed, 'atime', at),
      major: this.number(block, MAJOR, at),
      minor: this.number(block, MINOR, at),
      xattrs: this.xattrs(records),
      accessAcl: said(ACL_KEYS[0])?.toString('utf8'),
      defaultAcl: said(ACL_KEYS[1])?.toString('utf8'),
    };
    if (entry.path.includes(0) || entry.link.includes(0)) this.damaged('a path with a NUL', at);
    return entry;
  }

  private identity(id: number, at: number): number {
    if (id < 0 || id >= 2 ** 32 - 1) this.damaged(`${id} is no number of a user or group`, at);
    return id;
  }

  private headerPath(block: Buffer): Buffer {
    const name = untilNul(fieldOf(block, NAME));
    const isUstar = block.toString('latin1', MAGIC[0], MAGIC[0] + 6) === 'ustar\0';
    const prefix = isUstar ? untilNul(fieldOf(block, PREFIX)) : Buffer.alloc(0);
    return prefix.length === 0 ? name : Buffer.concat([prefix, Buffer.from('/'), name]);
  }

  private typeOf(flag: string, path: Buffer, at: number): TarType {
    if (flag === '\0' || flag === '7' || flag === 'S' || flag === '0')
      return path.at(-1) === 0x2f && flag !== 'S' ? 'directory' : 'file';
    if (flag === 'D') return 'directory';
    const type = /^[1-6]$/.test(flag) ? TYPES[Number(flag)] : undefined;
    if (type === undefined) return this.damaged(`an entry of the unknown type ${JSON.stringify(flag)}`, at);
    return type;
  }

  private xattrs(records: Map<string, Buffer>): { name: Buffer; value: Buffer }[] {
    const xattrs: { name: Buffer; value: Buffer }[] = [];
    for (const [key, value] of records) {
      if (!key.startsWith(XATTR_KEY)) continue;
      const name = key.slice(XATTR_KEY.length).replaceAll('%3D', '=').replaceAll('%25', '%');
      xattrs.push({ name: Buffer.from(name, 'latin1'), value: Buffer.from(value) });
    }
    return xattrs;
  }

  /** The regions of a sparse file, from wherever its form has them. */
  private sparse(
    block: Buffer,
    flag: string,
    extensions: Extensions,
    said: (key: string) => Buffer | undefined,
    at: number,
  ): { size: number; segments: Segment[] } | undefined {
    let numbers: number[];
    let size: number;
    const realSize = said('GNU.sparse.realsize') ?? said('GNU.sparse.size');
    const map = said('GNU.sparse.map');
    if (flag === 'S') {
      numbers = this.oldGnuRegions(block, at);
      size = this.number(block, [GNU_SPARSE.realSize, 12], at);
    } else if (realSize === undefined) return undefined;
    else {
      size = this.decimal(realSize, 'GNU.sparse.realsize', at);
      if (said('GNU.sparse.major')?.toString('latin1') === '1') numbers = this.mapInContent(at);
      else if (map !== undefined) {
        const texts = map.toString('latin1').split(',');
        numbers = texts.map((text) => this.decimal(Buffer.from(text), 'GNU.sparse.map', at));
      } else numbers = extensions.regions;
    }
    const segments: Segment[] = [];
    let last = 0;
    let sum = 0;
    for (let i = 0; i < numbers.length; i += 2) {
      const offset = numbers[i]!;
      const length = numbers[i + 1] ?? -1;
      const isSound = offset >= last && length >= 0 && offset + length <= size;
      if (!isSound) this.damaged('the map of a sparse file is impossible', at);
      if (length > 0) segments.push({ offset, length });
      last = offset + length;
      sum += length;
    }
    if (sum !== this.contentLeft) this.damaged('the map of a sparse file does not fit its data', at);
    return { size, segments };
  }

  private oldGnuRegions(first: Buffer, at: number): number[] {
    const numbers: number[] = [];
    const add = (block: Buffer, start: number, count: number): void => {
      for (let i = 0; i < count; i++) {
        const offset = start + i * 24;
        if (block[offset] === 0) return;
        numbers.push(this.number(block, [offset, 12], at), this.number(block, [offset + 12, 12], at));
      }
    };
    add(first, GNU_SPARSE.first, GNU_SPARSE.count);
    for (let more = first[GNU_SPARSE.more] !== 0; more; ) {
      // These blocks stand before the content and are not counted in its size.
      const block = this.take(BLOCK);
      add(block, 0, GNU_SPARSE.countNext);
      more = block[GNU_SPARSE.moreNext] !== 0;
      if (numbers.length > 2 * SEGMENTS_MAX) this.damaged('a sparse file with too many regions', at);
    }
    return numbers;
  }

  /** GNU.sparse 1.0: decimal lines at the start of the content: how many regions, then offset and length of each. */
  private mapInContent(at: number): number[] {
    const numbers: number[] = [];
    let expected = 1;
    let value = 0;
    let digits = 0;
    while (numbers.length < expected) {
      const block = this.content(BLOCK);
      if (block === undefined || block.length < BLOCK) {
        // A map fills whole blocks, so less is none.
        return this.damaged('the map of a sparse file is cut off', at);
      }
      for (const byte of block) {
        if (byte === 0x0a && digits > 0) {
          numbers.push(value);
          if (numbers.length === 1) expected = 1 + 2 * value;
          if (expected > 2 * SEGMENTS_MAX) this.damaged('a sparse file with too many regions', at);
          value = 0;
          digits = 0;
          if (numbers.length === expected) break;
        } else if (byte >= 0x30 && byte <= 0x39 && digits < 16) {
          value = value * 10 + byte - 0x30;
          digits++;
        } else this.damaged('the map of a sparse file is none', at);
      }
    }
    return numbers.slice(1);
  }
}

function fieldOf(block: Buffer, [start, length]: Field): Buffer {
  return block.subarray(start, start + length);
}

function untilNul(bytes: Buffer): Buffer {
  const end = bytes.indexOf(0);
  return Buffer.from(end < 0 ? bytes : bytes.subarray(0, end));
}
