/** The calls of the conformance suite, made in process on a FileSystem. */

import { PosixError } from '../../src/errors.ts';
import type { Attributes, Caller, FileSystem } from '../../src/vfs/file-system.ts';
import { resolveInode } from '../../src/vfs/path.ts';
import type {
  DirectoryEntry,
  Feature,
  Identity,
  PathName,
  Posix,
  Stat,
  TimeChange,
} from '../vfs/conformance/posix.ts';
import { PathOperations } from './path-operations.ts';

const ROOT: Caller = { uid: 0, gid: 0, pid: 1, umask: 0 };

function caller(as: Identity | undefined): Caller {
  return as === undefined ? ROOT : { pid: 1, umask: 0, ...as };
}

function bytes(path: PathName): Buffer {
  return Buffer.from(path);
}

function nanoseconds(seconds: number, rest: number): bigint {
  return BigInt(seconds) * 1_000_000_000n + BigInt(rest);
}

function stat(a: Attributes): Stat {
  return {
    ino: String(a.inode),
    mode: a.mode,
    nlink: a.links,
    uid: a.uid,
    gid: a.gid,
    rdev: a.device,
    size: a.size,
    blocks: a.blocks,
    atimeNs: nanoseconds(a.accessSeconds, a.accessNanoseconds),
    mtimeNs: nanoseconds(a.modifySeconds, a.modifyNanoseconds),
    ctimeNs: nanoseconds(a.changeSeconds, a.changeNanoseconds),
  };
}

function timeChange(time: TimeChange): 'now' | { seconds: number; nanoseconds: number } | undefined {
  if (time === 'now') return 'now';
  if (time === 'omit') return undefined;
  const rest = ((time % 1_000_000_000n) + 1_000_000_000n) % 1_000_000_000n;
  return { seconds: Number((time - rest) / 1_000_000_000n), nanoseconds: Number(rest) };
}

interface Descriptor {
  readonly inode: number;
  readonly handle: number;
  /** Position of a directory's listing; undefined for files. */
  cookie: number | undefined;
}

export class InProcessPosix implements Posix {
  readonly features: ReadonlySet<Feature>;
  private readonly fs: FileSystem;
  private readonly paths: PathOperations;
  private readonly descriptors = new Map<number, Descriptor>();
  private readonly advance: () => void;
  private nextDescriptor = 3;

  /** `advance` moves the file system's clock. */
  constructor(fs: FileSystem, features: ReadonlySet<Feature>, advance: () => void) {
    this.fs = fs;
    this.paths = new PathOperations(fs);
    this.features = features;
    this.advance = advance;
  }

  /** Descriptors that a case left open. */
  get openDescriptors(): number {
    return this.descriptors.size;
  }

  tick(): void {
    this.advance();
  }
  stat(path: PathName, as?: Identity): Stat {
    return stat(this.paths.stat(caller(as), bytes(path)));
  }
  lstat(path: PathName, as?: Identity): Stat {
    return stat(this.paths.lstat(caller(as), bytes(path)));
  }
  fstat(fd: number): Stat {
    return stat(this.fs.getattr(ROOT, this.descriptor(fd).inode));
  }
  access(path: PathName, mask: number, as?: Identity): void {
    this.fs.access(caller(as), this.paths.stat(caller(as), bytes(path)).inode, mask);
  }
  mkdir(path: PathName, mode = 0o755, as?: Identity): void {
    this.paths.mkdir(caller(as), bytes(path), mode);
  }
  rmdir(path: PathName, as?: Identity): void {
    this.paths.rmdir(caller(as), bytes(path));
  }
  mknod(path: PathName, mode: number, device = 0, as?: Identity): void {
    this.paths.mknod(caller(as), bytes(path), mode, device);
  }
  symlink(target: PathName, path: PathName, as?: Identity): void {
    this.paths.symlink(caller(as), bytes(target), bytes(path));
  }
  readlink(path: PathName, as?: Identity): Buffer {
    return Buffer.from(this.paths.readlink(caller(as), bytes(path)));
  }
  link(path: PathName, newPath: PathName, as?: Identity): void {
    this.paths.link(caller(as), bytes(path), bytes(newPath));
  }
  unlink(path: PathName, as?: Identity): void {
    this.paths.unlink(caller(as), bytes(path));
  }
  rename(path: PathName, newPath: PathName, flags = 0, as?: Identity): void {
    this.paths.rename(caller(as), bytes(path), bytes(newPath), flags);
  }

  private descriptor(fd: number): Descriptor {
    const found = this.descriptors.get(fd);
    if (found === undefined) throw new PosixError('EBADF');
    return found;
  }
  private add(inode: number, handle: number, cookie?: number): number {
    const fd = this.nextDescriptor++;
    this.descriptors.set(fd, { inode, handle, cookie });
    return fd;
  }
  open(path: PathName, flags: number, mode = 0o644, as?: Identity): number {
    const { inode, handle } = this.paths.open(caller(as), bytes(path), flags, mode);
    return this.add(inode, handle);
  }
  close(fd: number): void {
    const { handle, cookie } = this.descriptor(fd);
    this.descriptors.delete(fd);
    if (cookie === undefined) this.fs.release(handle);
    else this.fs.releasedir(handle);
  }
  linkFd(fd: number, newPath: PathName, as?: Identity): void {
    this.paths.linkInode(caller(as), this.descriptor(fd).inode, bytes(newPath));
  }
  pread(fd: number, offset: number, length: number): Buffer {
    const target = Buffer.alloc(length + 2, 0xee);
    const count = this.fs.read(this.descriptor(fd).handle, offset, target, 1, length);
    if (target[0] !== 0xee || target[count + 1] !== 0xee) throw new Error('read wrote outside its range');
    return target.subarray(1, 1 + count);
  }
  pwrite(fd: number, offset: number, data: Buffer, as?: Identity): number {
    const framed = Buffer.concat([Buffer.from('<'), data, Buffer.from('>')]);
    const written = this.fs.write(
      caller(as),
      this.descriptor(fd).handle,
      offset,
      framed,
      1,
      data.length,
      false,
    );
    // What was passed in is the caller's again.
    framed.fill(0xcc);
    return written;
  }
  append(fd: number, data: Buffer): number {
    return this.pwrite(fd, 0, data);
  }
  fsync(fd: number): void {
    if (this.fs.fsync(this.descriptor(fd).inode) > this.fs.lsn)
      throw new Error('fsync named an LSN of the future');
  }
  truncate(path: PathName, size: number, as?: Identity): void {
    this.paths.setattr(caller(as), bytes(path), { size });
  }
  ftruncate(fd: number, size: number, as?: Identity): void {
    const { inode, handle } = this.descriptor(fd);
    this.fs.setattr(caller(as), inode, { size }, handle);
  }
  fallocate(fd: number, mode: number, offset: number, length: number): void {
    this.fs.fallocate(ROOT, this.descriptor(fd).handle, mode, offset, length);
  }
  lseek(fd: number, offset: number, whence: number): number {
    return this.fs.lseek(this.descriptor(fd).handle, offset, whence);
  }
  copyFileRange(from: number, fromOffset: number, to: number, toOffset: number, length: number): number {
    const target = this.descriptor(to).handle;
    return this.fs.copyFileRange(ROOT, this.descriptor(from).handle, fromOffset, target, toOffset, length);
  }

  chmod(path: PathName, mode: number, as?: Identity): void {
    this.paths.setattr(caller(as), bytes(path), { mode });
  }
  chown(path: PathName, uid: number, gid: number, as?: Identity, follow = true): void {
    const changes = { ...(uid < 0 ? {} : { uid }), ...(gid < 0 ? {} : { gid }) };
    this.paths.setattr(caller(as), bytes(path), changes, follow);
  }
  lchown(path: PathName, uid: number, gid: number, as?: Identity): void {
    this.chown(path, uid, gid, as, false);
  }
  utimens(path: PathName, access: TimeChange, modify: TimeChange, follow = true, as?: Identity): void {
    const accessChange = timeChange(access);
    const modifyChange = timeChange(modify);
    const changes = {
      ...(accessChange === undefined ? {} : { access: accessChange }),
      ...(modifyChange === undefined ? {} : { modify: modifyChange }),
    };
    this.paths.setattr(caller(as), bytes(path), changes, follow);
  }

  opendir(path: PathName, as?: Identity): number {
    const { inode } = resolveInode(this.fs, caller(as), bytes(path));
    return this.add(inode, this.fs.opendir(caller(as), inode), 0);
  }
  getdents(fd: number, room: number): DirectoryEntry[] {
    const descriptor = this.descriptor(fd);
    const entries: DirectoryEntry[] = [];
    let left = room;
    this.fs.readdir(descriptor.handle, descriptor.cookie ?? 0, (name, inode, mode, cookie) => {
      left -= Math.ceil((19 + name.length + 1) / 8) * 8;
      if (left < 0) return false;
      entries.push({
        name: Buffer.from(name),
        ino: String(inode),
        type: mode >>> 12,
        cookie: String(cookie),
      });
      descriptor.cookie = cookie;
      return true;
    });
    if (entries.length === 0 && left < 0) throw new PosixError('EINVAL');
    return entries;
  }
  seekdir(fd: number, cookie: string): void {
    this.descriptor(fd).cookie = Number(cookie);
  }

  getxattr(path: PathName, name: string, as?: Identity): Buffer {
    const { inode } = this.paths.lstat(caller(as), bytes(path));
    return Buffer.from(this.fs.getxattr(caller(as), inode, Buffer.from(name)));
  }
  setxattr(path: PathName, name: string, value: Buffer, flags = 0, as?: Identity): void {
    const { inode } = this.paths.lstat(caller(as), bytes(path));
    this.fs.setxattr(caller(as), inode, Buffer.from(name), value, flags, false);
  }
  listxattr(path: PathName, as?: Identity): string[] {
    const { inode } = this.paths.lstat(caller(as), bytes(path));
    const listed = Buffer.from(this.fs.listxattr(caller(as), inode)).toString('latin1');
    return listed.split('\0').filter((name) => name !== '');
  }
  removexattr(path: PathName, name: string, as?: Identity): void {
    const { inode } = this.paths.lstat(caller(as), bytes(path));
    this.fs.removexattr(caller(as), inode, Buffer.from(name));
  }
  statfs(path: PathName): { blockSize: number; blocks: number; blocksFree: number; nameMax: number } {
    resolveInode(this.fs, ROOT, bytes(path));
    return this.fs.statfs();
  }
}
