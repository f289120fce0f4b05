/**
 * A state, or a part of it, as a tar archive (tar-format.ts), in pieces.
 *
 * A directory's archive begins with "./", and every name in it with that, as `tar -C DIRECTORY -cf - .` makes it; any
 * other entry is alone in its archive, under its own name. Names come in the order of their bytes, a directory before
 * what is in it. What a tar archive cannot hold (sockets) is left out and reported. The file system must not change
 * meanwhile: a past state.
 *
 * Memory: the directories between the root and the present entry (a page of names each), the names of files with hard
 * links of which not all have been met, and the map of one sparse file.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import {
  type Attributes,
  type FileSystem,
  O_RDONLY,
  ROOT_CALLER,
  S_IFDIR,
  S_IFMT,
  SEEK_DATA,
  SEEK_HOLE,
} from '../vfs/file-system.ts';
import { isEntryName } from '../vfs/path.ts';
import { aclText } from './tar-acl.ts';
import { dataSize, encodeEntry, endOfArchive, paddingOf, type Segment, type TarType } from './tar-format.ts';
import { textOfBytes } from './text.ts';
import { type EntryType, entryTypeOf } from './view.ts';

/** Bytes of a file that are read at once. */
const PIECE = 3 << 17;
const NAMES_AT_ONCE = 1024;
const NOTHING = Buffer.alloc(0);
const SLASH = Buffer.from('/');
const ACCESS_ACL = 'system.posix_acl_access';
const DEFAULT_ACL = 'system.posix_acl_default';

/** What has been written so far. */
export interface ExportTally {
  entries: number;
  /** Paths that were left out since this was last looked at. */
  skipped: string[];
}

interface Item {
  readonly path: Buffer;
  readonly attributes: Attributes;
}

/** The archive in pieces, each fresh. `path`: what the first entry is called, "." for a directory. */
export function* exportTar(
  fileSystem: FileSystem,
  path: Buffer,
  attributes: Attributes,
  tally: ExportTally,
): Generator<Buffer, void> {
  let length = 0;
  /** First names of files with several, and how many names are still to come. */
  const links = new Map<number, { readonly path: Buffer; left: number }>();
  for (const item of walk(fileSystem, { path, attributes })) {
    try {
      for (const piece of entryOf(fileSystem, item, links, tally)) {
        length += piece.length;
        yield piece;
      }
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      const message = `cannot export ${textOfBytes(item.path)}: ${error.message}`;
      throw new LsnfsError(error.code, message, error.details, { cause: error });
    }
  }
  yield endOfArchive(length);
}

/** An entry, and below a directory all others. The depth is bounded by memory only. */
function* walk(fileSystem: FileSystem, first: Item): Generator<Item, void> {
  const open: { handle: number; cookie: number; path: Buffer; names: Item[]; ended: boolean }[] = [];
  const enter = ({ path, attributes }: Item): void => {
    if ((attributes.mode & S_IFMT) !== S_IFDIR) return;
    const handle = fileSystem.opendir(ROOT_CALLER, attributes.inode);
    open.push({ handle, cookie: 0, path, names: [], ended: false });
  };
  try {
    yield first;
    enter(first);
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const { path, names } = top;
      if (names.length === 0 && !top.ended) {
        const found: { name: Buffer; inode: number }[] = [];
        top.ended = true;
        fileSystem.readdir(top.handle, top.cookie, (name, inode, _mode, cookie) => {
          if (found.length === NAMES_AT_ONCE) {
            top!.ended = false;
            return false;
          }
          top!.cookie = cookie;
          if (isEntryName(name)) found.push({ name: Buffer.from(name), inode });
          return true;
        });
        for (const { name, inode } of found.reverse()) {
          const attributes = { ...fileSystem.getattr(ROOT_CALLER, inode) };
          names.push({ path: Buffer.concat([path, SLASH, name]), attributes });
        }
      }
      const item = names.pop();
      if (item !== undefined) {
        yield item;
        enter(item);
      } else if (top.ended) {
        fileSystem.releasedir(top.handle);
        open.pop();
      }
    }
  } finally {
    for (const { handle } of open) fileSystem.releasedir(handle);
  }
}

const TYPES: Readonly<Record<Exclude<EntryType, 'socket'>, TarType>> = {
  file: 'file',
  directory: 'directory',
  symlink: 'symlink',
  fifo: 'fifo',
  'character-device': 'character-device',
  'block-device': 'block-device',
};

/** What the archive has of one entry: its headers and its content. */
function* entryOf(
  fileSystem: FileSystem,
  { path, attributes: a }: Item,
  links: Map<number, { readonly path: Buffer; left: number }>,
  tally: ExportTally,
): Generator<Buffer, void> {
  const entryType = entryTypeOf(a.mode);
  if (entryType === 'socket') {
    tally.skipped.push(textOfBytes(path));
    return;
  }
  let type = TYPES[entryType];
  let link: Buffer = NOTHING;
  if (type === 'symlink') link = Buffer.from(fileSystem.readlink(ROOT_CALLER, a.inode));
  if (type !== 'directory' && a.links > 1) {
    const earlier = links.get(a.inode);
    if (earlier === undefined) links.set(a.inode, { path, left: a.links - 1 });
    else {
      type = 'hardlink';
      link = earlier.path;
      if (--earlier.left === 0) links.delete(a.inode);
    }
  }
  const isFile = type === 'file';
  const handle = isFile ? fileSystem.open(ROOT_CALLER, a.inode, O_RDONLY) : undefined;
  try {
    const segments = handle === undefined ? undefined : holesOf(fileSystem, handle, a.size);
    const xattrs = type === 'hardlink' ? [] : xattrsOf(fileSystem, a.inode);
    const aclOf = (name: string): string | undefined => {
      const xattr = xattrs.find((candidate) => candidate.name.equals(Buffer.from(name)));
      return xattr === undefined ? undefined : aclText(xattr.value);
    };
    const isDevice = type.endsWith('device');
    tally.entries++;
    yield encodeEntry({
      type,
      path: type === 'directory' ? Buffer.concat([path, SLASH]) : path,
      link,
      mode: a.mode & 0o7777,
      uid: a.uid,
      gid: a.gid,
      size: isFile ? a.size : 0,
      segments,
      modify: { seconds: a.modifySeconds, nanoseconds: a.modifyNanoseconds },
      access: { seconds: a.accessSeconds, nanoseconds: a.accessNanoseconds },
      // new_encode_dev of the kernel: twelve bits of major between the two parts of minor.
      major: isDevice ? (a.device >>> 8) & 0xfff : 0,
      minor: isDevice ? (a.device & 0xff) | ((a.device >>> 12) & 0xfff00) : 0,
      xattrs,
      accessAcl: aclOf(ACCESS_ACL),
      defaultAcl: aclOf(DEFAULT_ACL),
    });
    if (handle === undefined) return;
    for (const segment of segments ?? [{ offset: 0, length: a.size }])
      yield* contentOf(fileSystem, handle, segment);
    yield paddingOf(dataSize({ size: a.size, segments }));
  } finally {
    if (handle !== undefined) fileSystem.release(handle);
  }
}

function* contentOf(
  fileSystem: FileSystem,
  handle: number,
  { offset, length }: Segment,
): Generator<Buffer, void> {
  for (let done = 0; done < length; ) {
    const piece = Buffer.allocUnsafe(Math.min(PIECE, length - done));
    const count = fileSystem.read(handle, offset + done, piece, 0, piece.length);
    if (count === 0) throw new LsnfsError('EIO', `the file ends at byte ${offset + done}, before its size`);
    done += count;
    yield piece.subarray(0, count);
  }
}

/** The regions with data; undefined for a file without holes. */
function holesOf(fileSystem: FileSystem, handle: number, size: number): Segment[] | undefined {
  if (size === 0 || fileSystem.lseek(handle, 0, SEEK_HOLE) === size) return undefined;
  const segments: Segment[] = [];
  for (let at = 0; at < size; ) {
    let offset: number;
    try {
      offset = fileSystem.lseek(handle, at, SEEK_DATA);
    } catch (error) {
      if (error instanceof PosixError && error.code === 'ENXIO') break;
      throw error;
    }
    at = fileSystem.lseek(handle, offset, SEEK_HOLE);
    segments.push({ offset, length: at - offset });
  }
  return segments;
}

function xattrsOf(fileSystem: FileSystem, inode: number): { name: Buffer; value: Buffer }[] {
  const names = Buffer.from(fileSystem.listxattr(ROOT_CALLER, inode));
  const xattrs: { name: Buffer; value: Buffer }[] = [];
  for (let start = 0; start < names.length; ) {
    const end = names.indexOf(0, start);
    const name = names.subarray(start, end);
    xattrs.push({ name, value: Buffer.from(fileSystem.getxattr(ROOT_CALLER, inode, name)) });
    start = end + 1;
  }
  return xattrs;
}
