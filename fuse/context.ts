/**
 * What the handlers of requests share: the request and the reply at hand, the file systems, and what the kernel
 * holds of them.
 *
 * A handler returns the length of the reply's body, a negative errno, or NO_REPLY when nobody waits for an answer
 * or somebody else gives it. It may throw: the session turns that into the errno.
 */
import { ERRNO, PosixError } from '../src/errors.ts';
import {
  type Attributes,
  type Caller,
  type Door,
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFMT,
  S_IFREG,
  type Volume,
} from '../src/vfs/file-system.ts';
import { PastFileSystem } from '../src/vfs/past-file-system.ts';
import { Company } from './company.ts';
import { Doors } from './doors.ts';
import type { ShownOwner } from './messages.ts';
import type { Negotiated } from './negotiate.ts';
import { ATTRIBUTES_ONLY, invalidateInode } from './notify.ts';
import { ENTRY_OUT, WAKE_DOOR, WAKE_INODE } from './protocol.ts';
import { Refreshes } from './refresh.ts';
import { Reply, statusReply, writeReply } from './reply.ts';
import { Request } from './request.ts';
import { CreatingCaller, RequestCaller } from './request-caller.ts';

/** No errno is that small. */
export const NO_REPLY = -0x10000;

/** Seconds for which the kernel may keep what only it can change, or nobody. */
export const FOREVER = 0x7fffffff;
/** Seconds for which attributes of a file that is open for writing hold: its block count changes unseen. */
export const WHILE_WRITTEN = 1;

export type Handler = (context: Context) => number;

export interface SessionOptions {
  readonly volume: Volume;
  /** Everything that ends at or before it is on stable storage. */
  readonly durableLsn: () => number;
  /** Makes everything up to an LSN durable before it returns, where that is quick. Returns whether it is. Default: never. */
  readonly syncNow?: (lsn: number) => boolean;
  /** Sends `ok` when everything up to `lsn` is durable, or `failure` when that fails: exactly one, once. */
  readonly deferReply: (lsn: number, ok: Uint8Array, failure: Uint8Array) => void;
  /**
   * Has another thread make the kernel write back what it holds of a live file, and then calls
   * `Session.resume(ticket)`. Without it, SEEK_DATA and SEEK_HOLE see only what was written back.
   */
  readonly writeBack?: (ticket: number, inode: number) => void;
  /**
   * Writes a message to the kernel that takes no lock there (an invalidation of attributes alone), so that this
   * thread may write it. Default: nothing is told.
   */
  readonly notify?: (message: Uint8Array) => void;
  /** What is logged: an unexpected error with its stack, a request that nobody should send. */
  readonly log: (message: string) => void;
  /**
   * The live file system inherits default ACLs by itself, and applies the caller's umask where there is none: the
   * kernel leaves both to it (POSIX_ACL, DONT_MASK). Default: no.
   */
  readonly inheritsAcls?: boolean;
  /** Whom all files are shown to belong to. Default: as in the store. */
  readonly shownOwner?: ShownOwner;
  /** Whether a listing of the live root shows the snapshots' names. Default: no. */
  readonly snapdirVisible?: boolean;
  /**
   * A secret of the process that serves the mount: looking up "@TOKEN-INODE" at the root gives it any live file
   * by number, to open it and so to flush it.
   */
  readonly token?: string;
  /** Counts requests by opcode. Default: no. */
  readonly countRequests?: boolean;
}

/** The file that the wake-up retrieves nothing of. */
export const WAKE_FILE: Attributes = Object.freeze({
  inode: WAKE_INODE,
  mode: S_IFREG,
  links: 1,
  uid: 0,
  gid: 0,
  device: 0,
  size: 0,
  blocks: 0,
  blockSize: 4096,
  accessSeconds: 0,
  accessNanoseconds: 0,
  modifySeconds: 0,
  modifyNanoseconds: 0,
  changeSeconds: 0,
  changeNanoseconds: 0,
  birthSeconds: 0,
  birthNanoseconds: 0,
});

interface OpenFile {
  readonly inode: number;
  readonly writable: boolean;
}

/**
 * Whether what is behind the door stays as it is. A past state does even when the name by which it was entered may
 * come to mean another: that one has another door.
 */
export function neverChanges(door: Door): boolean {
  return door.immutable || door.fileSystem instanceof PastFileSystem;
}

export class Context {
  readonly request = new Request();
  readonly reply: Reply;
  readonly shownOwner: ShownOwner;
  readonly caller = new RequestCaller();
  private readonly creatingCaller = new CreatingCaller();
  readonly options: SessionOptions;
  readonly volume: Volume;
  readonly live: FileSystem;
  readonly doors: Doors;
  negotiated: Negotiated | undefined;
  /** Open files of the live file system, by handle. */
  readonly openFiles = new Map<number, OpenFile>();
  /** How many of them may write, by inode. */
  readonly writers = new Map<number, number>();
  /**
   * The block counts of those that the kernel was told last. Not by the reply of a SETATTR: when the kernel sends
   * times that it has kept itself, it does not look at what comes back.
   */
  private readonly toldBlocks = new Map<number, number>();
  /** The snapshots' names as each open listing of the root shows them. */
  readonly listedSnapshots = new Map<number, Uint8Array[]>();
  /** Names at the live root that the kernel may have cached, as latin1. */
  readonly rootNames = new Set<string>();
  /** Requests that wait for a write-back, by ticket. */
  readonly postponed = new Map<number, Uint8Array>();
  /** Files that were restored while they were open. */
  readonly refreshes = new Refreshes();
  readonly company = new Company();
  private lastTicket = 0;
  /** The request at hand was postponed and is served now. */
  resumed = false;
  /** A wake-up arrived (NOTIFY_REPLY); who looks at it takes it back. */
  woken = false;

  constructor(options: SessionOptions) {
    this.options = options;
    this.shownOwner = options.shownOwner ?? {};
    this.reply = new Reply(this.shownOwner);
    this.volume = options.volume;
    this.live = options.volume.live;
    this.doors = new Doors(options.volume);
  }

  /** The file system of the request's node. @throws ESTALE */
  get fileSystem(): FileSystem {
    const { door } = this.request;
    return door === 0 ? this.live : this.doors.byNumber(door).fileSystem;
  }

  /** Whether what is behind the door (0: live) never changes behind the kernel's back. */
  isCacheable(door: number): boolean {
    return door === 0 || door === WAKE_DOOR || neverChanges(this.doors.byNumber(door));
  }

  /** For how long the attributes of a node hold. */
  attributeSeconds(door: number, a: Attributes): number {
    if (door !== 0) return this.isCacheable(door) ? FOREVER : 0;
    if (this.writers.size > 0 && (a.mode & S_IFMT) === S_IFREG && this.writers.has(a.inode))
      return WHILE_WRITTEN;
    return FOREVER;
  }

  /** Answers with an entry of the request's own file system, and counts the reference that the kernel takes. */
  entryReply(a: Attributes): number {
    const { door } = this.request;
    this.writeEntry(0, door, a);
    return ENTRY_OUT.SIZE;
  }

  /** Puts an entry into the reply and counts the reference. `a` may be reused by the file system afterwards. */
  writeEntry(offset: number, door: number, a: Attributes): void {
    const { inode } = a;
    if (door === 0) {
      this.reply.entry(offset, 0, a, FOREVER, this.attributeSeconds(0, a));
      if (this.writers.has(inode)) this.toldBlocks.set(inode, a.blocks);
      this.live.remember(inode, 1);
      return;
    }
    const use = this.doors.byNumber(door);
    const seconds = neverChanges(use) ? FOREVER : 0;
    this.reply.entry(offset, door, a, seconds, seconds);
    use.fileSystem.remember(inode, 1);
    this.doors.retain(use, 1);
  }

  /** Answers with the root behind a door that was found at the live root by `name`. */
  doorReply(door: Door, name: Uint8Array): number {
    const a = door.fileSystem.getattr(ROOT_CALLER, ROOT_INODE);
    const nameSeconds = door.immutable ? FOREVER : 0;
    this.reply.entry(0, door.number, a, nameSeconds, neverChanges(door) ? FOREVER : 0);
    door.fileSystem.remember(ROOT_INODE, 1);
    this.doors.retain(door, 1, name);
    return ENTRY_OUT.SIZE;
  }

  /** The attributes of the request's node. */
  nodeAttributes(): Attributes {
    const { door, inode } = this.request;
    if (door === WAKE_DOOR) return WAKE_FILE;
    const a = this.fileSystem.getattr(this.caller, inode);
    if (door === 0 && this.writers.has(inode)) this.toldBlocks.set(inode, a.blocks);
    return a;
  }

  /** Records an open file, so that it can be flushed and told from others. */
  opened(door: number, handle: number, inode: number, writable: boolean): void {
    if (door !== 0) return;
    this.openFiles.set(handle, { inode, writable });
    if (writable) this.writers.set(inode, (this.writers.get(inode) ?? 0) + 1);
  }
  closed(door: number, handle: number): void {
    if (door !== 0) return;
    const file = this.openFiles.get(handle);
    if (file === undefined) return;
    this.openFiles.delete(handle);
    if (!file.writable) return;
    const count = this.writers.get(file.inode)! - 1;
    if (count === 0) {
      this.writers.delete(file.inode);
      this.toldBlocks.delete(file.inode);
    } else this.writers.set(file.inode, count);
  }

  /** Whether everything up to `lsn` is durable, or has become so here and now, because nobody else is kept waiting. */
  private isDurable(lsn: number): boolean {
    const { options } = this;
    if (lsn <= options.durableLsn()) return true;
    return this.company.isAlone() && options.syncNow?.(lsn) === true;
  }

  /** Answers with success once `lsn` is durable. */
  replyWhenDurable(lsn: number): number {
    if (this.isDurable(lsn)) return 0;
    const { uniqueLow, uniqueHigh } = this.request;
    this.options.deferReply(
      lsn,
      statusReply(uniqueLow, uniqueHigh, 0),
      statusReply(uniqueLow, uniqueHigh, -ERRNO.EIO),
    );
    return NO_REPLY;
  }
  /** Answers a WRITE of `size` bytes once `lsn` is durable. */
  writeReplyWhenDurable(lsn: number, size: number): number | undefined {
    if (this.isDurable(lsn)) return undefined;
    const { uniqueLow, uniqueHigh } = this.request;
    this.options.deferReply(
      lsn,
      writeReply(uniqueLow, uniqueHigh, size),
      statusReply(uniqueLow, uniqueHigh, -ERRNO.EIO),
    );
    return NO_REPLY;
  }

  /**
   * The request at hand may have taken setuid or setgid away from a live file, of which its reply says nothing: the
   * kernel is to ask for the attributes again.
   */
  tellMode(inode: number, before: number): void {
    if (this.live.getattr(ROOT_CALLER, inode).mode !== before) {
      this.options.notify?.(invalidateInode(0, inode, ATTRIBUTES_ONLY));
    }
  }

  /** The same of a file that may have been read in a way of which the kernel does not know. */
  tellAccessTime(inode: number, secondsBefore: number, nanosecondsBefore: number): void {
    const { accessSeconds, accessNanoseconds } = this.live.getattr(ROOT_CALLER, inode);
    if (accessSeconds !== secondsBefore || accessNanoseconds !== nanosecondsBefore) {
      this.options.notify?.(invalidateInode(0, inode, ATTRIBUTES_ONLY));
    }
  }

  /** A file that is open for writing was written back: its block count, if the kernel knows another one. */
  tellBlocks(inode: number): void {
    const told = this.toldBlocks.get(inode);
    if (told === undefined || this.live.getattr(ROOT_CALLER, inode).blocks === told) return;
    this.toldBlocks.delete(inode);
    this.options.notify?.(invalidateInode(0, inode, ATTRIBUTES_ONLY));
  }

  /** Serves the request at hand later, when the kernel has written back what it holds of the file. */
  postpone(inode: number, length: number): number {
    const ticket = ++this.lastTicket;
    this.postponed.set(ticket, this.request.bytes.slice(0, length));
    try {
      this.options.writeBack!(ticket, inode);
    } catch (error) {
      this.postponed.delete(ticket);
      throw error;
    }
    return NO_REPLY;
  }

  /**
   * Who makes an entry in the directory of the request: with the umask when the kernel has left it to the server, and
   * where owners are not shown as they are, the directory's own owner or group.
   */
  creator(umask = 0): Caller {
    const { caller, creatingCaller, shownOwner } = this;
    const serverMask = this.negotiated?.serverMask === true;
    const isMapped = shownOwner.uid !== undefined || shownOwner.gid !== undefined;
    if (!serverMask && !isMapped) return caller;
    creatingCaller.set(caller.uid, caller.gid, caller.pid);
    creatingCaller.umask = serverMask ? umask & 0o777 : 0;
    if (isMapped) {
      const directory = this.fileSystem.getattr(caller, this.request.inode);
      creatingCaller.set(
        shownOwner.uid === undefined ? caller.uid : directory.uid,
        shownOwner.gid === undefined ? caller.gid : directory.gid,
        caller.pid,
      );
    }
    return creatingCaller;
  }

  /** @throws EXDEV when the nodes are behind different doors. */
  requireSameDoor(door: number): void {
    if (door !== this.request.door) throw new PosixError('EXDEV');
  }
}
