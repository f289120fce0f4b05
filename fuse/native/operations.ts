/**
 * The operations of libfuse's path interface on a volume. Each is synchronous and throws errors with an errno, but for
 * `fsync`, which is done when its promise is.
 *
 * libfuse 2 says more than this to its callbacks; what the native part of fuse-native leaves out decides much here:
 *
 * - nobody knows who asks. The kernel checks permissions (default_permissions) and takes setuid and setgid away; what is
 *   made belongs to the user who mounted, and where others may enter it is never setuid or setgid;
 * - `create` does not say how the file is opened, so that its handle may read and write: the kernel lets a descriptor do
 *   what it was opened for. It positions appending writes, too;
 * - a listing has no handle: it is made anew, and whole.
 */
import { PosixError } from '../../src/errors.ts';
import {
  type AttributeChanges,
  type Attributes,
  type Caller,
  type FileSystemStatistics,
  O_ACCMODE,
  O_APPEND,
  O_RDONLY,
  O_RDWR,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFMT,
  S_ISGID,
  S_ISUID,
  type Volume,
} from '../../src/vfs/file-system.ts';
import type { ShownOwner } from '../messages.ts';
import { STAT_WORDS, writeEntry } from './attributes.ts';
import { OpenFiles } from './handles.ts';
import { HiddenFiles, isHiddenName } from './hidden.ts';
import { doorNumber, type Entry, isMangled, Paths, requireText } from './paths.ts';

/** What chown says for "as it is". */
const UNCHANGED = 0xffff_ffff;
/** What libfuse's listing has for an inode number that is not known. */
const UNKNOWN_INODE = 0xffff_ffff;
const ACL_PREFIX = 'system.posix_acl_';

export interface OperationsOptions {
  readonly volume: Volume;
  /** Resolves when everything up to the LSN is on stable storage. */
  readonly durable: (lsn: number) => Promise<void>;
  /** Who mounted: whom what is made belongs to. */
  readonly owner: { readonly uid: number; readonly gid: number };
  /** Others than the one who mounted may enter. */
  readonly allowOther: boolean;
  /** Whom all files are shown to belong to. */
  readonly shownOwner: ShownOwner;
  /** Whether a listing of the live root shows the snapshots' names. */
  readonly snapdirVisible: boolean;
}

/** A node's attributes, with the number of its door. */
export interface DoorAttributes {
  readonly door: number;
  readonly attributes: Attributes;
}

export interface Listing {
  readonly names: string[];
  /** A stat of each. */
  readonly stats: Uint32Array[];
}

/** A listing of what is given one by one. */
class ListingBuilder implements Listing {
  readonly names: string[] = [];
  readonly stats: Uint32Array[] = [];
  /** Room for the stats to come, in one piece. */
  private room = new Uint32Array(0);
  private used = 0;

  add(name: string, door: number, inode: number, mode: number): void {
    writeEntry(this.nextStat(name), door, inode, mode);
  }

  addUnknown(name: string): void {
    const words = this.nextStat(name);
    words[0] = S_IFDIR;
    words[7] = UNKNOWN_INODE;
  }

  private nextStat(name: string): Uint32Array {
    if (this.used === this.room.length) {
      this.room = new Uint32Array(STAT_WORDS * Math.max(16, Math.min(this.names.length, 4096)));
      this.used = 0;
    }
    const words = this.room.subarray(this.used, this.used + STAT_WORDS);
    this.used += STAT_WORDS;
    this.names.push(name);
    this.stats.push(words);
    return words;
  }
}

export class Operations {
  readonly files = new OpenFiles();
  readonly paths: Paths;
  private readonly hidden = new HiddenFiles();
  /** The entry of an open file that is about to be removed or replaced. */
  private removal: { readonly path: string; readonly parent: number; readonly name: Buffer } | undefined;
  private readonly options: OperationsOptions;
  private readonly volume: Volume;
  private readonly caller: Caller;

  constructor(options: OperationsOptions) {
    this.options = options;
    this.volume = options.volume;
    this.paths = new Paths(options.volume, this.hidden);
    this.caller = { ...options.owner, pid: 0 };
  }

  // Attributes -------------------------------------------------------------------------------------------------------

  getattr(path: string): DoorAttributes {
    const { door, attributes } = this.paths.find(path);
    return { door: doorNumber(door), attributes };
  }

  fgetattr(handle: number): DoorAttributes {
    const { fileSystem, door, inode } = this.files.get(handle);
    return { door: doorNumber(door), attributes: fileSystem.getattr(ROOT_CALLER, inode) };
  }

  statfs(): FileSystemStatistics {
    return this.volume.live.statfs();
  }

  chmod(path: string, mode: number): void {
    this.change(path, { mode: mode & 0o7777 });
  }

  chown(path: string, uid: number, gid: number): void {
    const { shownOwner } = this.options;
    const changes: AttributeChanges = {};
    if (uid !== UNCHANGED) keepOrChange(changes, 'uid', uid, shownOwner.uid);
    if (gid !== UNCHANGED) keepOrChange(changes, 'gid', gid, shownOwner.gid);
    this.change(path, changes);
  }

  truncate(path: string, size: number): void {
    this.change(path, { size });
  }

  ftruncate(handle: number, size: number): void {
    const { fileSystem, inode, handle: inner } = this.files.get(handle);
    fileSystem.setattr(this.caller, inode, { size }, inner);
  }

  /** Times in milliseconds since 1970. */
  utimens(path: string, access: number, modify: number): void {
    this.change(path, { access: moment(access), modify: moment(modify) });
  }

  private change(path: string, changes: AttributeChanges): void {
    const { fileSystem, inode } = this.paths.find(path);
    fileSystem.setattr(this.caller, inode, changes);
  }

  // Names ------------------------------------------------------------------------------------------------------------

  readlink(path: string): string {
    const { fileSystem, inode } = this.paths.find(path);
    const target = Buffer.from(fileSystem.readlink(ROOT_CALLER, inode));
    const text = target.toString();
    if (isMangled(text)) throw new PosixError('EIO', 'the target of a symbolic link that is not UTF-8');
    return text;
  }

  mknod(path: string, mode: number, device: number): void {
    const entry = this.paths.newEntry(path);
    entry.fileSystem.mknod(this.creator(entry), entry.parent, entry.name, this.creationMode(mode), device);
  }

  mkdir(path: string, mode: number): void {
    const entry = this.paths.newEntry(path);
    entry.fileSystem.mkdir(this.creator(entry), entry.parent, entry.name, mode & 0o1777);
  }

  symlink(target: string, path: string): void {
    requireText(target);
    const entry = this.paths.newEntry(path);
    entry.fileSystem.symlink(this.creator(entry), entry.parent, entry.name, Buffer.from(target));
  }

  link(path: string, newPath: string): void {
    const node = this.paths.find(path);
    const entry = this.paths.newEntry(newPath);
    requireSameDoor(node.door, entry.door);
    entry.fileSystem.link(this.caller, node.inode, entry.parent, entry.name);
  }

  unlink(path: string): void {
    const name = path.slice(path.lastIndexOf('/') + 1);
    if (this.hidden.remove(name) !== undefined) return;
    const entry = this.paths.presentEntry(path);
    entry.fileSystem.unlink(this.caller, entry.parent, entry.name);
  }

  rmdir(path: string): void {
    const entry = this.paths.presentEntry(path);
    this.refuseInUse(entry);
    entry.fileSystem.rmdir(this.caller, entry.parent, entry.name);
  }

  rename(path: string, newPath: string): void {
    // What a removal was put off for: the open file goes by being replaced, or stays if this fails.
    if (this.removal?.path === newPath) this.removal = undefined;
    const from = this.paths.presentEntry(path);
    const to = this.paths.newEntry(newPath);
    requireSameDoor(from.door, to.door);
    this.refuseInUse(to);
    from.fileSystem.rename(this.caller, from.parent, from.name, to.parent, to.name, 0);
    this.files.moved(path, newPath);
  }

  /**
   * Whether a rename is that of an open file which is removed or about to be replaced (see hidden.ts). If so it is put off until
   * `settle`, or a rename to the path. @throws EROFS when the store takes no changes
   */
  putOffRemoval(path: string, newPath: string): boolean {
    const newName = newPath.slice(newPath.lastIndexOf('/') + 1);
    if (!isHiddenName(newName)) return false;
    const { fileSystem, door, parent, name } = this.paths.presentEntry(path);
    const found = fileSystem.lookup(ROOT_CALLER, parent, name);
    if (door !== undefined || found === undefined || !this.files.isOpen(found.inode)) return false;
    if (fileSystem.readOnly) throw new PosixError('EROFS');
    this.removal = { path, parent, name };
    this.hidden.add(newName, found.inode, parent);
    this.files.moved(path, newPath);
    return true;
  }

  /** Where something is about to be removed, or undefined. */
  get removalPath(): string | undefined {
    return this.removal?.path;
  }

  /** Does the removal that was put off. */
  settle(): void {
    if (this.removal === undefined) return;
    const { parent, name } = this.removal;
    this.removal = undefined;
    this.volume.live.unlink(this.caller, parent, name);
  }

  /** @throws PosixError EBUSY for a directory that a file was removed from which is still open */
  private refuseInUse({ fileSystem, door, parent, name }: Entry): void {
    if (door !== undefined) return;
    const found = fileSystem.lookup(ROOT_CALLER, parent, name);
    if (found !== undefined && (found.mode & S_IFMT) === S_IFDIR && this.hidden.isIn(found.inode))
      throw new PosixError('EBUSY', 'a file that was removed from the directory is open');
  }

  /** A listing: "." and ".." and all entries. */
  readdir(path: string): Listing {
    const { fileSystem, door, inode } = this.paths.find(path);
    const number = doorNumber(door);
    const listing = new ListingBuilder();
    const handle = fileSystem.opendir(ROOT_CALLER, inode);
    try {
      fileSystem.readdir(handle, 0, (name, child, mode) => {
        listing.add(Buffer.from(name).toString(), number, child, mode);
        return true;
      });
    } finally {
      fileSystem.releasedir(handle);
    }
    if (door === undefined && inode === ROOT_INODE && this.options.snapdirVisible) {
      for (const name of this.volume.snapshotNames()) listing.addUnknown(`@${Buffer.from(name).toString()}`);
    }
    return listing;
  }

  /** Who makes an entry: where owners are not shown as they are, it belongs to the directory's own. */
  private creator({ fileSystem, parent }: Entry): Caller {
    const { shownOwner } = this.options;
    if (shownOwner.uid === undefined && shownOwner.gid === undefined) return this.caller;
    const { uid, gid } = fileSystem.getattr(ROOT_CALLER, parent);
    return {
      uid: shownOwner.uid === undefined ? this.caller.uid : uid,
      gid: shownOwner.gid === undefined ? this.caller.gid : gid,
      pid: 0,
    };
  }

  /** Nobody may make a program that runs as the user who mounted. */
  private creationMode(mode: number): number {
    return this.options.allowOther ? mode & ~(S_ISUID | S_ISGID) : mode;
  }

  // Content ----------------------------------------------------------------------------------------------------------

  /** Returns the handle. */
  open(path: string, flags: number): number {
    const { fileSystem, door, inode } = this.paths.find(path);
    const handle = fileSystem.open(this.caller, inode, flags & ~O_APPEND);
    const writable = (flags & O_ACCMODE) !== O_RDONLY;
    return this.files.add({ fileSystem, handle, inode, door, writable, path });
  }

  create(path: string, mode: number): number {
    const entry = this.paths.newEntry(path);
    const { fileSystem, door, parent, name } = entry;
    const created = fileSystem.create(this.creator(entry), parent, name, this.creationMode(mode), O_RDWR);
    const { handle, attributes } = created;
    return this.files.add({ fileSystem, handle, inode: attributes.inode, door, writable: true, path });
  }

  read(handle: number, target: Uint8Array, length: number, offset: number): number {
    const { fileSystem, handle: inner } = this.files.get(handle);
    return fileSystem.read(inner, offset, target, 0, length);
  }

  write(handle: number, source: Uint8Array, length: number, offset: number): number {
    const { fileSystem, handle: inner } = this.files.get(handle);
    return fileSystem.write(this.caller, inner, offset, source, 0, length, false);
  }

  release(handle: number): void {
    this.files.close(handle);
  }

  /** Everything that was done before is durable when the promise resolves; undefined: it is. */
  fsync(handle: number): Promise<void> | undefined {
    const { fileSystem, door, inode } = this.files.get(handle);
    return door === undefined ? this.options.durable(fileSystem.fsync(inode)) : undefined;
  }

  fsyncdir(path: string): Promise<void> | undefined {
    const { fileSystem, door, inode } = this.paths.find(path);
    return door === undefined ? this.options.durable(fileSystem.fsync(inode)) : undefined;
  }

  // Extended attributes ----------------------------------------------------------------------------------------------

  getxattr(path: string, name: string): Uint8Array {
    refuseAcl(name);
    const { fileSystem, inode } = this.paths.find(path);
    if (isMangled(name)) throw new PosixError('ENODATA');
    return fileSystem.getxattr(this.caller, inode, Buffer.from(name));
  }

  setxattr(path: string, name: string, value: Uint8Array, flags: number): void {
    refuseAcl(name);
    requireText(name);
    const { fileSystem, inode } = this.paths.find(path);
    fileSystem.setxattr(this.caller, inode, Buffer.from(name), value, flags, false);
  }

  removexattr(path: string, name: string): void {
    refuseAcl(name);
    const { fileSystem, inode } = this.paths.find(path);
    if (isMangled(name)) throw new PosixError('ENODATA');
    fileSystem.removexattr(this.caller, inode, Buffer.from(name));
  }

  /** All names, each ended by a NUL. */
  listxattr(path: string): Uint8Array {
    const { fileSystem, inode } = this.paths.find(path);
    const list = Buffer.from(fileSystem.listxattr(this.caller, inode));
    if (!list.includes(ACL_PREFIX)) return list;
    const names = list.toString('latin1').split('\0').slice(0, -1);
    const shown = names.filter((name) => !name.startsWith(ACL_PREFIX));
    return Buffer.from(shown.map((name) => `${name}\0`).join(''), 'latin1');
  }

  /** The mount is gone, and with it all that was open. */
  end(): void {
    this.files.closeAll();
  }
}

/** As ext4 has it without ACLs: what would not count is not taken. @throws PosixError EOPNOTSUPP */
function refuseAcl(name: string): void {
  if (name.startsWith(ACL_PREFIX)) throw new PosixError('EOPNOTSUPP', 'access control lists');
}

function requireSameDoor(a: unknown, b: unknown): void {
  if (a !== b) throw new PosixError('EXDEV');
}

/** An owner that is shown instead of the store's may be changed to itself only. @throws PosixError EPERM */
function keepOrChange(
  changes: AttributeChanges,
  what: 'uid' | 'gid',
  wanted: number,
  shown: number | undefined,
): void {
  if (shown === undefined) changes[what] = wanted;
  else if (wanted === shown) changes.killPrivileges = true;
  else throw new PosixError('EPERM', 'the mount shows all files as belonging to one user');
}

function moment(milliseconds: number): { seconds: number; nanoseconds: number } {
  const seconds = Math.floor(milliseconds / 1000);
  return { seconds, nanoseconds: (milliseconds - seconds * 1000) * 1_000_000 };
}
