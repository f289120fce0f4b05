/**
 * A file system in memory, of Maps: enough of POSIX to mount it, to work on it with ordinary tools and to measure
 * the mount without a store below it. Permissions are the kernel's business (default_permissions).
 *
 * Content is kept in blocks of 4 KiB, and a block that was never written is a hole. `freeze` gives a read-only
 * copy, a past state. The LSN counts changes.
 */
import { PosixError } from '../../src/errors.ts';
import type {
  AttributeChanges,
  Attributes,
  Caller,
  EntrySink,
  FileSystem,
} from '../../src/vfs/file-system.ts';
import * as vfs from '../../src/vfs/file-system.ts';

const BLOCK = 4096;
/** Larger files are EFBIG: every loop over a range stays short, whatever is asked for. */
const LARGEST = 2 ** 31;

class Node implements Attributes {
  inode: number;
  mode: number;
  links = 1;
  uid: number;
  gid: number;
  device = 0;
  size = 0;
  blockSize = BLOCK;
  accessSeconds = 0;
  accessNanoseconds = 0;
  modifySeconds = 0;
  modifyNanoseconds = 0;
  changeSeconds = 0;
  changeNanoseconds = 0;
  birthSeconds = 0;
  birthNanoseconds = 0;
  references = 0;
  handles = 0;
  parent = vfs.ROOT_INODE;
  data = new Map<number, Uint8Array>();
  target: Uint8Array = new Uint8Array(0);
  /** Names as latin1, in order of creation. */
  entries = new Map<string, number>();
  xattrs = new Map<string, Uint8Array>();

  constructor(inode: number, mode: number, uid: number, gid: number) {
    this.inode = inode;
    this.mode = mode;
    this.uid = uid;
    this.gid = gid;
  }
  get blocks(): number {
    return this.data.size * (BLOCK / 512);
  }
  get isDirectory(): boolean {
    return (this.mode & vfs.S_IFMT) === vfs.S_IFDIR;
  }
}

interface Listing {
  readonly inode: number;
  /** Every name that was given out, by cookie - 1. */
  names: string[];
}

const latin1 = (name: Uint8Array): string =>
  Buffer.from(name.buffer, name.byteOffset, name.length).toString('latin1');
const fail = (errno: ConstructorParameters<typeof PosixError>[0]): never => {
  throw new PosixError(errno);
};

export class TreeFileSystem implements FileSystem {
  readonly readOnly: boolean;
  lsn: number;
  private nodes = new Map<number, Node>();
  private nextInode = 2;
  private nextHandle = 1;
  private readonly files = new Map<number, { node: Node; flags: number }>();
  private readonly listings = new Map<number, Listing>();

  constructor(readOnly = false, lsn = 1) {
    this.readOnly = readOnly;
    this.lsn = lsn;
    const root = new Node(vfs.ROOT_INODE, vfs.S_IFDIR | 0o755, 0, 0);
    root.links = 2;
    this.touch(root, true, true, true);
    this.nodes.set(root.inode, root);
  }

  /** A read-only copy of the present state. */
  freeze(): TreeFileSystem {
    const copy = new TreeFileSystem(true, this.lsn);
    copy.nodes = new Map();
    for (const [inode, node] of this.nodes) {
      const twin = Object.assign(new Node(inode, node.mode, node.uid, node.gid), node);
      twin.data = new Map([...node.data].map(([block, bytes]) => [block, bytes.slice()]));
      twin.entries = new Map(node.entries);
      twin.xattrs = new Map(node.xattrs);
      copy.nodes.set(inode, twin);
    }
    return copy;
  }

  /** What is open, for tests that look for leaks. */
  get openHandles(): number {
    return this.files.size + this.listings.size;
  }
  get inodeCount(): number {
    return this.nodes.size;
  }
  referencesOf(inode: number): number {
    return this.nodes.get(inode)?.references ?? 0;
  }

  private node(inode: number): Node {
    return this.nodes.get(inode) ?? fail('ESTALE');
  }
  private directory(inode: number): Node {
    const node = this.node(inode);
    return node.isDirectory ? node : fail('ENOTDIR');
  }
  private file(handle: number): { node: Node; flags: number } {
    return this.files.get(handle) ?? fail('EBADF');
  }
  private change(): void {
    if (this.readOnly) fail('EROFS');
    this.lsn += 8;
  }
  private touch(node: Node, access: boolean, modify: boolean, birth = false): void {
    const now = Date.now();
    const seconds = Math.floor(now / 1000);
    const nanoseconds = (now % 1000) * 1_000_000 + Number(process.hrtime.bigint() % 1_000_000n);
    if (access) [node.accessSeconds, node.accessNanoseconds] = [seconds, nanoseconds];
    if (modify) [node.modifySeconds, node.modifyNanoseconds] = [seconds, nanoseconds];
    if (birth) [node.birthSeconds, node.birthNanoseconds] = [seconds, nanoseconds];
    [node.changeSeconds, node.changeNanoseconds] = [seconds, nanoseconds];
  }
  private dropIfUnused(node: Node): void {
    if (node.links === 0 && node.handles === 0 && node.references === 0) this.nodes.delete(node.inode);
  }

  lookup(_caller: Caller, parent: number, name: Uint8Array): Attributes | undefined {
    const directory = this.directory(parent);
    const key = latin1(name);
    if (key === '.') return directory;
    if (key === '..') return this.node(directory.parent);
    const inode = directory.entries.get(key);
    return inode === undefined ? undefined : this.node(inode);
  }
  remember(inode: number, count: number): void {
    this.node(inode).references += count;
  }
  forget(inode: number, count: number): void {
    const node = this.nodes.get(inode);
    if (node === undefined) return;
    node.references = Math.max(0, node.references - count);
    this.dropIfUnused(node);
  }

  getattr(_caller: Caller, inode: number): Attributes {
    return this.node(inode);
  }
  setattr(caller: Caller, inode: number, changes: AttributeChanges): Attributes {
    this.change();
    const node = this.node(inode);
    if (changes.size !== undefined) {
      if (node.isDirectory) fail('EISDIR');
      this.resize(node, changes.size);
    }
    if (changes.mode !== undefined) node.mode = (node.mode & vfs.S_IFMT) | (changes.mode & 0o7777);
    node.uid = changes.uid ?? node.uid;
    node.gid = changes.gid ?? node.gid;
    if (changes.killPrivileges === true && caller.uid !== 0) node.mode &= ~(vfs.S_ISUID | vfs.S_ISGID);
    this.touch(node, changes.access === 'now', changes.modify === 'now' || changes.size !== undefined);
    if (typeof changes.access === 'object') {
      [node.accessSeconds, node.accessNanoseconds] = [changes.access.seconds, changes.access.nanoseconds];
    }
    if (typeof changes.modify === 'object') {
      [node.modifySeconds, node.modifyNanoseconds] = [changes.modify.seconds, changes.modify.nanoseconds];
    }
    if (changes.change !== undefined) {
      [node.changeSeconds, node.changeNanoseconds] = [changes.change.seconds, changes.change.nanoseconds];
    }
    return node;
  }
  private resize(node: Node, size: number): void {
    if (size > LARGEST) fail('EFBIG');
    if (size < node.size) {
      const last = Math.floor(size / BLOCK);
      for (const block of [...node.data.keys()]) if (block > last) node.data.delete(block);
      if (size % BLOCK === 0) node.data.delete(last);
      else node.data.get(last)?.fill(0, size % BLOCK);
    }
    node.size = size;
  }
  access(): void {}
  readlink(_caller: Caller, inode: number): Uint8Array {
    return this.node(inode).target;
  }

  private add(caller: Caller, parent: number, name: Uint8Array, mode: number): Node {
    const directory = this.directory(parent);
    const key = latin1(name);
    if (directory.entries.has(key)) fail('EEXIST');
    if (directory.links === 0) fail('ENOENT');
    this.change();
    const inherits = (directory.mode & vfs.S_ISGID) !== 0;
    const node = new Node(this.nextInode++, mode, caller.uid, inherits ? directory.gid : caller.gid);
    if (node.isDirectory) {
      node.links = 2;
      node.parent = parent;
      directory.links++;
      if (inherits) node.mode |= vfs.S_ISGID;
    }
    this.touch(node, true, true, true);
    this.nodes.set(node.inode, node);
    directory.entries.set(key, node.inode);
    this.touch(directory, false, true);
    return node;
  }
  mknod(caller: Caller, parent: number, name: Uint8Array, mode: number, device: number): Attributes {
    const node = this.add(caller, parent, name, (mode & vfs.S_IFMT) === 0 ? mode | vfs.S_IFREG : mode);
    node.device = device;
    return node;
  }
  mkdir(caller: Caller, parent: number, name: Uint8Array, mode: number): Attributes {
    return this.add(caller, parent, name, vfs.S_IFDIR | (mode & 0o7777));
  }
  symlink(caller: Caller, parent: number, name: Uint8Array, target: Uint8Array): Attributes {
    const node = this.add(caller, parent, name, vfs.S_IFLNK | 0o777);
    node.target = Uint8Array.from(target);
    node.size = target.length;
    return node;
  }
  link(_caller: Caller, inode: number, newParent: number, newName: Uint8Array): Attributes {
    const node = this.node(inode);
    const directory = this.directory(newParent);
    if (node.isDirectory) fail('EPERM');
    if (directory.entries.has(latin1(newName))) fail('EEXIST');
    this.change();
    directory.entries.set(latin1(newName), inode);
    node.links++;
    this.touch(node, false, false);
    this.touch(directory, false, true);
    return node;
  }
  unlink(_caller: Caller, parent: number, name: Uint8Array): void {
    const directory = this.directory(parent);
    const node = this.node(directory.entries.get(latin1(name)) ?? fail('ENOENT'));
    if (node.isDirectory) fail('EISDIR');
    this.change();
    directory.entries.delete(latin1(name));
    node.links--;
    this.touch(node, false, false);
    this.touch(directory, false, true);
    this.dropIfUnused(node);
  }
  rmdir(_caller: Caller, parent: number, name: Uint8Array): void {
    const directory = this.directory(parent);
    const node = this.directory(directory.entries.get(latin1(name)) ?? fail('ENOENT'));
    if (node.entries.size > 0) fail('ENOTEMPTY');
    this.change();
    directory.entries.delete(latin1(name));
    directory.links--;
    node.links = 0;
    this.touch(directory, false, true);
    this.dropIfUnused(node);
  }
  rename(
    _caller: Caller,
    parent: number,
    name: Uint8Array,
    newParent: number,
    newName: Uint8Array,
    flags: number,
  ): void {
    const [from, to] = [this.directory(parent), this.directory(newParent)];
    const [key, newKey] = [latin1(name), latin1(newName)];
    const node = this.node(from.entries.get(key) ?? fail('ENOENT'));
    const targetInode = to.entries.get(newKey);
    const target = targetInode === undefined ? undefined : this.node(targetInode);
    if ((flags & ~(vfs.RENAME_EXCHANGE | vfs.RENAME_NOREPLACE)) !== 0) fail('EINVAL');
    const exchange = (flags & vfs.RENAME_EXCHANGE) !== 0;
    if (exchange && target === undefined) fail('ENOENT');
    if ((flags & vfs.RENAME_NOREPLACE) !== 0 && target !== undefined) fail('EEXIST');
    for (let at = to; node.isDirectory && at.inode !== vfs.ROOT_INODE; at = this.node(at.parent)) {
      if (at === node) fail('EINVAL');
    }
    if (target === node) return;
    if (target !== undefined && !exchange) {
      if (target.isDirectory && !node.isDirectory) fail('EISDIR');
      if (!target.isDirectory && node.isDirectory) fail('ENOTDIR');
      if (target.entries.size > 0) fail('ENOTEMPTY');
    }
    this.change();
    const move = (what: Node, source: Node, destination: Node): void => {
      if (!what.isDirectory) return;
      source.links--;
      destination.links++;
      what.parent = destination.inode;
    };
    from.entries.delete(key);
    if (target !== undefined && exchange) {
      from.entries.set(key, target.inode);
      move(target, to, from);
    } else if (target !== undefined) {
      if (target.isDirectory) to.links--;
      target.links -= target.isDirectory ? 2 : 1;
      this.touch(target, false, false);
      this.dropIfUnused(target);
    }
    to.entries.set(newKey, node.inode);
    move(node, from, to);
    for (const each of [node, from, to]) this.touch(each, false, each !== node);
  }

  private openNode(node: Node, flags: number): number {
    const handle = this.nextHandle++;
    node.handles++;
    this.files.set(handle, { node, flags });
    return handle;
  }
  open(_caller: Caller, inode: number, flags: number): number {
    const node = this.node(inode);
    if (node.isDirectory) fail('EISDIR');
    if (this.readOnly && (flags & vfs.O_ACCMODE) !== vfs.O_RDONLY) fail('EROFS');
    if ((flags & vfs.O_TRUNC) !== 0) this.setattr(vfs.ROOT_CALLER, inode, { size: 0 });
    return this.openNode(node, flags);
  }
  create(caller: Caller, parent: number, name: Uint8Array, mode: number, flags: number) {
    const existing = this.lookup(caller, parent, name);
    if (existing !== undefined) {
      if ((flags & vfs.O_EXCL) !== 0) fail('EEXIST');
      return { attributes: existing, handle: this.open(caller, existing.inode, flags) };
    }
    const node = this.add(caller, parent, name, vfs.S_IFREG | (mode & 0o7777));
    return { attributes: node as Attributes, handle: this.openNode(node, flags) };
  }
  tmpfile(caller: Caller, parent: number, mode: number, flags: number) {
    this.directory(parent);
    this.change();
    const node = new Node(this.nextInode++, vfs.S_IFREG | (mode & 0o7777), caller.uid, caller.gid);
    node.links = 0;
    this.touch(node, true, true, true);
    this.nodes.set(node.inode, node);
    return { attributes: node as Attributes, handle: this.openNode(node, flags) };
  }
  read(handle: number, offset: number, target: Uint8Array, targetStart: number, length: number): number {
    const { node } = this.file(handle);
    const count = Math.max(0, Math.min(length, node.size - offset));
    for (let done = 0; done < count; ) {
      const at = offset + done;
      const within = at % BLOCK;
      const piece = Math.min(count - done, BLOCK - within);
      const block = node.data.get(Math.floor(at / BLOCK));
      const start = targetStart + done;
      if (block === undefined) target.fill(0, start, start + piece);
      else target.set(block.subarray(within, within + piece), start);
      done += piece;
    }
    return count;
  }
  write(
    caller: Caller,
    handle: number,
    offset: number,
    source: Uint8Array,
    sourceStart: number,
    length: number,
    killPrivileges: boolean,
  ): number {
    const { node } = this.file(handle);
    if (offset + length > LARGEST) fail('EFBIG');
    this.change();
    this.writeNode(node, offset, source, sourceStart, length);
    if (killPrivileges && caller.uid !== 0) node.mode &= ~(vfs.S_ISUID | vfs.S_ISGID);
    return length;
  }
  private writeNode(
    node: Node,
    offset: number,
    source: Uint8Array,
    sourceStart: number,
    length: number,
  ): void {
    for (let done = 0; done < length; ) {
      const at = offset + done;
      const within = at % BLOCK;
      const piece = Math.min(length - done, BLOCK - within);
      const index = Math.floor(at / BLOCK);
      let block = node.data.get(index);
      if (block === undefined) {
        block = new Uint8Array(BLOCK);
        node.data.set(index, block);
      }
      block.set(source.subarray(sourceStart + done, sourceStart + done + piece), within);
      done += piece;
    }
    node.size = Math.max(node.size, offset + length);
    this.touch(node, false, true);
  }
  release(handle: number): void {
    const { node } = this.file(handle);
    this.files.delete(handle);
    node.handles--;
    this.dropIfUnused(node);
  }
  fsync(inode: number): number {
    this.node(inode);
    return this.lsn;
  }
  fallocate(_caller: Caller, handle: number, mode: number, offset: number, length: number): void {
    const { node } = this.file(handle);
    if (length <= 0) fail('EINVAL');
    if (offset + length > LARGEST) fail('EFBIG');
    this.change();
    const end = offset + length;
    if ((mode & (vfs.FALLOC_FL_PUNCH_HOLE | vfs.FALLOC_FL_ZERO_RANGE)) !== 0) {
      for (let at = offset; at < end; ) {
        const within = at % BLOCK;
        const piece = Math.min(end - at, BLOCK - within);
        const index = Math.floor(at / BLOCK);
        if (piece === BLOCK) node.data.delete(index);
        else node.data.get(index)?.fill(0, within, within + piece);
        at += piece;
      }
    } else if ((mode & ~vfs.FALLOC_FL_KEEP_SIZE) !== 0) fail('EOPNOTSUPP');
    if ((mode & vfs.FALLOC_FL_KEEP_SIZE) === 0) node.size = Math.max(node.size, end);
    this.touch(node, false, true);
  }
  lseek(handle: number, offset: number, whence: number): number {
    const { node } = this.file(handle);
    if (offset < 0 || offset >= node.size) fail('ENXIO');
    const wanted = whence === vfs.SEEK_DATA;
    for (let at = offset; at < node.size; at = (Math.floor(at / BLOCK) + 1) * BLOCK) {
      if (node.data.has(Math.floor(at / BLOCK)) === wanted) return at;
    }
    return wanted ? fail('ENXIO') : node.size;
  }
  copyFileRange(
    _caller: Caller,
    sourceHandle: number,
    sourceOffset: number,
    targetHandle: number,
    targetOffset: number,
    length: number,
  ): number {
    const source = this.file(sourceHandle).node;
    const count = Math.max(0, Math.min(length, source.size - sourceOffset, 1 << 20));
    if (targetOffset + count > LARGEST) fail('EFBIG');
    const bytes = new Uint8Array(count);
    this.read(sourceHandle, sourceOffset, bytes, 0, count);
    this.change();
    this.writeNode(this.file(targetHandle).node, targetOffset, bytes, 0, count);
    return count;
  }

  opendir(_caller: Caller, inode: number): number {
    const node = this.directory(inode);
    const handle = this.nextHandle++;
    node.handles++;
    this.listings.set(handle, { inode, names: [] });
    return handle;
  }
  readdir(handle: number, cookie: number, sink: EntrySink): void {
    const listing = this.listings.get(handle) ?? fail('EBADF');
    const node = this.node(listing.inode);
    if (cookie === 0 || listing.names.length === 0) listing.names = ['.', '..', ...node.entries.keys()];
    for (let i = cookie; i < listing.names.length; i++) {
      const name = listing.names[i]!;
      const inode = i === 0 ? node.inode : i === 1 ? node.parent : node.entries.get(name);
      if (inode === undefined) continue;
      if (!sink(Buffer.from(name, 'latin1'), inode, this.node(inode).mode, i + 1)) return;
    }
  }
  releasedir(handle: number): void {
    const listing = this.listings.get(handle) ?? fail('EBADF');
    this.listings.delete(handle);
    const node = this.node(listing.inode);
    node.handles--;
    this.dropIfUnused(node);
  }
  statfs() {
    return {
      blockSize: BLOCK,
      blocks: 1_000_000,
      blocksFree: 900_000,
      blocksAvailable: 900_000,
      files: 1_000_000,
      filesFree: 1_000_000 - this.nodes.size,
      nameMax: 255,
    };
  }

  getxattr(_caller: Caller, inode: number, name: Uint8Array): Uint8Array {
    return this.node(inode).xattrs.get(latin1(name)) ?? fail('ENODATA');
  }
  setxattr(_caller: Caller, inode: number, name: Uint8Array, value: Uint8Array, flags: number): void {
    const { xattrs } = this.node(inode);
    if (latin1(name).startsWith('system.')) fail('EOPNOTSUPP');
    const has = xattrs.has(latin1(name));
    if ((flags & vfs.XATTR_CREATE) !== 0 && has) fail('EEXIST');
    if ((flags & vfs.XATTR_REPLACE) !== 0 && !has) fail('ENODATA');
    this.change();
    xattrs.set(latin1(name), Uint8Array.from(value));
  }
  listxattr(_caller: Caller, inode: number): Uint8Array {
    return Buffer.from([...this.node(inode).xattrs.keys()].map((name) => `${name}\0`).join(''), 'latin1');
  }
  removexattr(_caller: Caller, inode: number, name: Uint8Array): void {
    const { xattrs } = this.node(inode);
    if (!xattrs.has(latin1(name))) fail('ENODATA');
    this.change();
    xattrs.delete(latin1(name));
  }
}
