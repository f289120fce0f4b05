/**
 * Listing directories: OPENDIR, READDIR, READDIRPLUS, RELEASEDIR.
 *
 * An entry of READDIRPLUS carries its attributes, and the kernel counts a reference to it, except for "." and "..".
 * The sink that collects entries is one object for the whole session; its state is that of the listing at hand.
 */
import { PosixError } from '../src/errors.ts';
import { type FileSystem, ROOT_INODE, S_IFDIR } from '../src/vfs/file-system.ts';
import type { Context } from './context.ts';
import { ENTRY_OUT, FOPEN, OPEN_IN, OPEN_OUT, READ_IN, RELEASE_IN } from './protocol.ts';
import { direntSize } from './reply.ts';

const DOT = 0x2e;
/** Cookies of the snapshots' names at the root: above all cookies of the file system. */
const SNAPSHOT_COOKIE = 2 ** 52;
/** What libfuse gives an entry of which it does not know the inode number. */
const UNKNOWN_INODE = 0xffffffff;

export function opendir(c: Context): number {
  const { request } = c;
  const { door, inode } = request;
  const handle = c.fileSystem.opendir(c.caller, inode, request.u32(OPEN_IN.flags));
  if (door === 0 && inode === ROOT_INODE && c.options.snapdirVisible === true) {
    const names = c.volume.snapshotNames();
    c.listedSnapshots.set(
      handle,
      names.map((name) => Uint8Array.of(0x40, ...name)),
    );
  }
  // The kernel drops a cached listing by itself when it changes the directory; what changes behind its back is
  // invalidated. A listing of the past never changes.
  c.reply.openOut(0, handle, c.isCacheable(door) ? FOPEN.KEEP_CACHE | FOPEN.CACHE_DIR : 0);
  return OPEN_OUT.SIZE;
}

export function releasedir(c: Context): number {
  const handle = c.request.u64(RELEASE_IN.handle);
  if (c.request.door === 0) c.listedSnapshots.delete(handle);
  c.fileSystem.releasedir(handle);
  return 0;
}

/** Collects entries into the reply; see the module comment. */
export class DirectoryWriter {
  private readonly c: Context;
  private fileSystem: FileSystem;
  private door = 0;
  private plus = false;
  private limit = 0;
  private used = 0;
  private full = false;

  constructor(context: Context) {
    this.c = context;
    this.fileSystem = context.live;
  }

  list(plus: boolean): number {
    const { c } = this;
    const { request } = c;
    const handle = request.u64(READ_IN.handle);
    const cookie = request.offset64(READ_IN.offset);
    this.fileSystem = c.fileSystem;
    this.door = request.door;
    this.plus = plus;
    this.limit = Math.min(request.u32(READ_IN.size), c.reply.bodyCapacity);
    this.used = 0;
    this.full = false;
    if (cookie < SNAPSHOT_COOKIE) {
      try {
        this.fileSystem.readdir(handle, cookie, this.add);
      } catch (error) {
        // Entries that are in the reply were counted as references of the kernel: they must reach it. The error
        // comes again with the next request.
        if (this.used === 0) throw error;
        return this.used;
      }
    }
    const snapshots = this.door === 0 ? c.listedSnapshots.get(handle) : undefined;
    if (snapshots !== undefined && !this.full) {
      this.addSnapshots(snapshots, cookie < SNAPSHOT_COOKIE ? 0 : cookie - SNAPSHOT_COOKIE);
    }
    return this.used;
  }

  private readonly add = (name: Uint8Array, inode: number, mode: number, cookie: number): boolean => {
    const { c, used } = this;
    const { reply } = c;
    const size = direntSize(name.length) + (this.plus ? ENTRY_OUT.SIZE : 0);
    if (used + size > this.limit) {
      this.full = true;
      return false;
    }
    let at = used;
    if (this.plus) {
      if (name[0] === DOT && (name.length === 1 || (name.length === 2 && name[1] === DOT))) {
        reply.zero(at, ENTRY_OUT.SIZE);
      } else this.addAttributes(at, inode);
      at += ENTRY_OUT.SIZE;
    }
    reply.dirent(at, name, this.door, inode, mode, cookie);
    this.used = used + size;
    return true;
  };

  private addAttributes(at: number, inode: number): void {
    const { c } = this;
    try {
      c.writeEntry(at, this.door, this.fileSystem.getattr(c.caller, inode));
    } catch (error) {
      // An entry whose inode cannot be read is listed all the same; looking it up gives the error.
      if (!(error instanceof PosixError)) c.options.log(`attributes of inode ${inode}: ${String(error)}`);
      c.reply.zero(at, ENTRY_OUT.SIZE);
    }
  }

  private addSnapshots(names: Uint8Array[], from: number): void {
    const { reply } = this.c;
    for (let i = from; i < names.length; i++) {
      const name = names[i]!;
      const size = direntSize(name.length) + (this.plus ? ENTRY_OUT.SIZE : 0);
      if (this.used + size > this.limit) return;
      // Without attributes: to list a state must not open it.
      if (this.plus) reply.zero(this.used, ENTRY_OUT.SIZE);
      const at = this.plus ? this.used + ENTRY_OUT.SIZE : this.used;
      reply.dirent(at, name, 0, UNKNOWN_INODE, S_IFDIR, SNAPSHOT_COOKIE + i + 1);
      this.used += size;
    }
  }
}
