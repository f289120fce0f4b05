/**
 * The directory "@": a symbolic link for each snapshot, to its root beside "@". Links and not directories, so that
 * `find` and `du` in it do not walk through all of history, and each state has one way in.
 */
import { PosixError } from '../errors.ts';
import type { History } from '../history/history.ts';
import type { VfsOptions } from './core.ts';
import {
  type Attributes,
  type Caller,
  type EntrySink,
  type FileSystem,
  type FileSystemStatistics,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
} from './file-system.ts';

/** A link's inode number is the LSN of its snapshot, which no other snapshot has; LSNs are above 1. */
const INODE_LIMIT = 2 ** 40;

interface Link {
  inode: number;
  name: Buffer;
  createdMicroseconds: number;
}

function refuse(): never {
  throw new PosixError('EROFS');
}

export class SnapshotList implements FileSystem {
  readonly readOnly = true;
  private readonly history: History;
  private readonly statistics: () => FileSystemStatistics;
  private readonly listings = new Map<number, Link[]>();
  private nextHandle = 1;

  constructor(history: History, options: VfsOptions) {
    this.history = history;
    this.statistics = options.statistics;
  }

  get lsn(): number {
    return this.history.range().newest;
  }

  private links(): Link[] {
    return this.history.snapshots().map((row) => ({
      inode: row.lsn % INODE_LIMIT,
      name: Buffer.from(row.name, 'utf8'),
      createdMicroseconds: row.createdMicroseconds,
    }));
  }

  private linkOf(inode: number): Link {
    const found = this.links().find((link) => link.inode === inode);
    if (found === undefined) throw new PosixError('ENOENT');
    return found;
  }

  private describe(link: Link | undefined): Attributes {
    const times = this.links().map(({ createdMicroseconds }) => createdMicroseconds);
    const time = link?.createdMicroseconds ?? Math.max(0, ...times);
    const seconds = Math.floor(time / 1e6);
    const nanoseconds = (time % 1e6) * 1000;
    return {
      inode: link?.inode ?? ROOT_INODE,
      mode: link === undefined ? S_IFDIR | 0o555 : S_IFLNK | 0o777,
      links: link === undefined ? 2 : 1,
      uid: 0,
      gid: 0,
      device: 0,
      size: link === undefined ? 0 : this.target(link).length,
      blocks: 0,
      blockSize: 4096,
      accessSeconds: seconds,
      accessNanoseconds: nanoseconds,
      modifySeconds: seconds,
      modifyNanoseconds: nanoseconds,
      changeSeconds: seconds,
      changeNanoseconds: nanoseconds,
      birthSeconds: seconds,
      birthNanoseconds: nanoseconds,
    };
  }

  private target(link: Link): Buffer {
    return Buffer.concat([Buffer.from('../@'), link.name]);
  }

  lookup(_caller: Caller, _parent: number, name: Uint8Array): Attributes | undefined {
    const found = this.links().find((link) => link.name.equals(name));
    return found === undefined ? undefined : this.describe(found);
  }
  remember(): void {}
  forget(): void {}
  getattr(_caller: Caller, inode: number): Attributes {
    return this.describe(inode === ROOT_INODE ? undefined : this.linkOf(inode));
  }
  access(_caller: Caller, _inode: number, mask: number): void {
    if ((mask & 2) !== 0) refuse();
  }
  readlink(_caller: Caller, inode: number): Uint8Array {
    if (inode === ROOT_INODE) throw new PosixError('EINVAL');
    return this.target(this.linkOf(inode));
  }

  opendir(_caller: Caller, inode: number): number {
    if (inode !== ROOT_INODE) throw new PosixError('ENOTDIR');
    const handle = this.nextHandle++;
    this.listings.set(handle, this.links());
    return handle;
  }

  readdir(handle: number, cookie: number, sink: EntrySink): void {
    if (cookie === 0) this.listings.set(handle, this.links());
    const listing = this.listings.get(handle);
    if (listing === undefined) throw new PosixError('EBADF');
    const dots = [Buffer.from('.'), Buffer.from('..')];
    for (let at = cookie; at < 2; at++) {
      if (!sink(dots[at]!, ROOT_INODE, S_IFDIR, at + 1)) return;
    }
    for (let at = Math.max(0, cookie - 2); at < listing.length; at++) {
      const link = listing[at]!;
      if (!sink(link.name, link.inode, S_IFLNK, at + 3)) return;
    }
  }

  releasedir(handle: number): void {
    this.listings.delete(handle);
  }

  statfs(): FileSystemStatistics {
    return this.statistics();
  }
  getxattr(): Uint8Array {
    throw new PosixError('ENODATA');
  }
  listxattr(): Uint8Array {
    return new Uint8Array(0);
  }
  open(): number {
    throw new PosixError('ELOOP');
  }
  read(): number {
    throw new PosixError('EBADF');
  }
  release(): void {}
  fsync(): number {
    return 0;
  }
  lseek(): number {
    throw new PosixError('EBADF');
  }

  setattr(): Attributes {
    return refuse();
  }
  mknod(): Attributes {
    return refuse();
  }
  mkdir(): Attributes {
    return refuse();
  }
  symlink(): Attributes {
    return refuse();
  }
  link(): Attributes {
    return refuse();
  }
  unlink(): void {
    refuse();
  }
  rmdir(): void {
    refuse();
  }
  rename(): void {
    refuse();
  }
  create(): { attributes: Attributes; handle: number } {
    return refuse();
  }
  tmpfile(): { attributes: Attributes; handle: number } {
    return refuse();
  }
  write(): number {
    return refuse();
  }
  fallocate(): void {
    refuse();
  }
  copyFileRange(): number {
    return refuse();
  }
  setxattr(): void {
    refuse();
  }
  removexattr(): void {
    refuse();
  }
}
