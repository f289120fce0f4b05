/**
 * Requests about names: looking them up, forgetting nodes, making, removing and moving entries.
 *
 * At the live root, names that begin with "@" are doors to past states unless the root has an entry of that name.
 * Such a name is never cached as missing (a state may come to be at any moment), and nothing is ever made, moved or
 * removed through it.
 */
import { ERRNO, LsnfsError, PosixError } from '../src/errors.ts';
import { type Door, ROOT_CALLER, ROOT_INODE, S_IFLNK, S_IFMT, S_IFREG } from '../src/vfs/file-system.ts';
import { type Context, FOREVER, NO_REPLY, neverChanges, WAKE_FILE } from './context.ts';
import {
  BATCH_FORGET_IN,
  ENTRY_OUT,
  FORGET_IN,
  FORGET_ONE,
  LINK_IN,
  MKDIR_IN,
  MKNOD_IN,
  RENAME_IN,
  RENAME2_IN,
  WAKE_DOOR,
} from './protocol.ts';

const AT_SIGN = 0x40;
const DOT = 0x2e;
const PATH_MAX = 4095;
/** Names at the root that are remembered for an invalidation of everything; more are of no use to anyone. */
const ROOT_NAMES_MAX = 65_536;

/** The name, behind the token, of the file that the wake-up retrieves nothing of. */
export const WAKE_NAME = 'wake';

function isDot(name: Uint8Array): boolean {
  return name.length === 1 && name[0] === DOT;
}
function isDotDot(name: Uint8Array): boolean {
  return name.length === 2 && name[0] === DOT && name[1] === DOT;
}

export function lookup(c: Context): number {
  const { request, caller } = c;
  const { door, inode } = request;
  const name = request.name(0, true);
  if (door === 0) return lookupLive(c, inode, name);
  const use = c.doors.byNumber(door);
  if (inode === ROOT_INODE && isDotDot(name)) {
    c.reply.entry(0, 0, c.live.getattr(caller, ROOT_INODE), FOREVER, FOREVER);
    c.live.remember(ROOT_INODE, 1);
    return ENTRY_OUT.SIZE;
  }
  const found = isDot(name)
    ? use.fileSystem.getattr(caller, inode)
    : use.fileSystem.lookup(caller, inode, name);
  if (found !== undefined) return c.entryReply(found);
  if (!neverChanges(use)) return -ERRNO.ENOENT;
  c.reply.negativeEntry(FOREVER);
  return ENTRY_OUT.SIZE;
}

function lookupLive(c: Context, parent: number, name: Uint8Array): number {
  const found = isDot(name) ? c.live.getattr(c.caller, parent) : c.live.lookup(c.caller, parent, name);
  if (parent === ROOT_INODE) {
    if (found === undefined && name[0] === AT_SIGN) return lookupDoor(c, name);
    if (c.rootNames.size < ROOT_NAMES_MAX) c.rootNames.add(Buffer.from(name).toString('latin1'));
  }
  if (found !== undefined) return c.entryReply(found);
  c.reply.negativeEntry(FOREVER);
  return ENTRY_OUT.SIZE;
}

function lookupDoor(c: Context, name: Uint8Array): number {
  const { token } = c.options;
  if (token !== undefined && name.length > token.length + 2) {
    const text = Buffer.from(name).toString('latin1');
    if (text.startsWith(`@${token}-`)) return lookupSecret(c, text.slice(token.length + 2));
  }
  const door = c.doors.byName(name);
  return door === undefined ? -ERRNO.ENOENT : c.doorReply(door, name);
}

/**
 * The names that only the server itself knows: the file of the wake-up, and a live file of which it knows only the
 * number (only regular ones, and the name is never cached).
 */
function lookupSecret(c: Context, what: string): number {
  if (what === WAKE_NAME) {
    c.reply.entry(0, WAKE_DOOR, WAKE_FILE, FOREVER, FOREVER);
    return ENTRY_OUT.SIZE;
  }
  if (!/^[1-9][0-9]{0,15}$/.test(what)) return -ERRNO.ENOENT;
  const number = what;
  const a = c.live.getattr(ROOT_CALLER, Number(number));
  if ((a.mode & S_IFMT) !== S_IFREG) return -ERRNO.EINVAL;
  const { inode } = a;
  c.reply.entry(0, 0, a, 0, c.attributeSeconds(0, a));
  c.live.remember(inode, 1);
  return ENTRY_OUT.SIZE;
}

export function forget(c: Context): number {
  const { request } = c;
  forgetNode(c, request.door, request.inode, request.u64(FORGET_IN.lookups));
  return NO_REPLY;
}

export function batchForget(c: Context): number {
  const { request } = c;
  const room = Math.floor((request.bodySize - BATCH_FORGET_IN.SIZE) / FORGET_ONE.SIZE);
  const count = Math.min(request.u32(BATCH_FORGET_IN.count), room);
  for (let i = 0; i < count; i++) {
    const at = BATCH_FORGET_IN.SIZE + i * FORGET_ONE.SIZE;
    const node = at + FORGET_ONE.node;
    forgetNode(c, request.doorAt(node), request.inodeAt(node), request.u64(at + FORGET_ONE.lookups));
  }
  return NO_REPLY;
}

function forgetNode(c: Context, door: number, inode: number, count: number): void {
  if (door === 0) {
    c.live.forget(inode, count);
    c.refreshes.forget(inode);
  } else if (c.doors.isOpen(door)) {
    c.doors.byNumber(door).fileSystem.forget(inode, count);
    c.doors.release(door, count);
  }
}

export function mknod(c: Context): number {
  const { request } = c;
  const creator = c.creator(request.u32(MKNOD_IN.umask));
  const name = request.name(MKNOD_IN.SIZE);
  const mode = request.u32(MKNOD_IN.mode);
  return c.entryReply(c.fileSystem.mknod(creator, request.inode, name, mode, request.u32(MKNOD_IN.device)));
}

export function mkdir(c: Context): number {
  const { request } = c;
  const creator = c.creator(request.u32(MKDIR_IN.umask));
  const name = request.name(MKDIR_IN.SIZE);
  return c.entryReply(c.fileSystem.mkdir(creator, request.inode, name, request.u32(MKDIR_IN.mode)));
}

export function symlink(c: Context): number {
  const { request } = c;
  const name = request.name(0);
  const target = request.nextString(PATH_MAX);
  return c.entryReply(c.fileSystem.symlink(c.creator(), request.inode, name, target));
}

export function readlink(c: Context): number {
  const { inode } = c.request;
  if ((c.fileSystem.getattr(c.caller, inode).mode & S_IFMT) !== S_IFLNK) return -ERRNO.EINVAL;
  const target = c.fileSystem.readlink(c.caller, inode);
  // A page less its NUL is what the kernel takes.
  const length = Math.min(target.length, PATH_MAX);
  c.reply.copy(0, length === target.length ? target : target.subarray(0, length));
  return length;
}

export function link(c: Context): number {
  const { request } = c;
  c.requireSameDoor(request.doorAt(LINK_IN.node));
  const name = request.name(LINK_IN.SIZE);
  return c.entryReply(c.fileSystem.link(c.caller, request.inodeAt(LINK_IN.node), request.inode, name));
}

export function unlink(c: Context): number {
  const { inode } = c.request;
  const name = c.request.name(0);
  refuseDoor(c, inode, name);
  c.fileSystem.unlink(c.caller, inode, name);
  return 0;
}

export function rmdir(c: Context): number {
  const { inode } = c.request;
  const name = c.request.name(0);
  refuseDoor(c, inode, name);
  c.fileSystem.rmdir(c.caller, inode, name);
  return 0;
}

export function rename(c: Context): number {
  return renameTo(c, RENAME_IN.newParent, RENAME_IN.SIZE, 0);
}
export function rename2(c: Context): number {
  return renameTo(c, RENAME2_IN.newParent, RENAME2_IN.SIZE, c.request.u32(RENAME2_IN.flags));
}

function renameTo(c: Context, newParentAt: number, nameAt: number, flags: number): number {
  const { request } = c;
  const name = request.name(nameAt);
  const newName = request.nextName();
  c.requireSameDoor(request.doorAt(newParentAt));
  const newParent = request.inodeAt(newParentAt);
  refuseDoor(c, request.inode, name);
  c.fileSystem.rename(c.caller, request.inode, name, newParent, newName, flags);
  return 0;
}

/**
 * @throws EROFS when the name at the live root, which is to be removed or moved, is that of a past state. (The live
 * file system itself refuses to make or to replace such a name.)
 */
function refuseDoor(c: Context, parent: number, name: Uint8Array): void {
  if (name[0] !== AT_SIGN || parent !== ROOT_INODE || c.request.door !== 0) return;
  if (c.live.lookup(ROOT_CALLER, ROOT_INODE, name) !== undefined) return;
  let door: Door | undefined;
  try {
    door = c.doors.byName(name);
  } catch (error) {
    // A name of no state that can be opened: there is nothing to remove.
    if (error instanceof LsnfsError && error.errno === 'ENOENT') return;
    throw error;
  }
  if (door === undefined) return;
  // Asked for and not taken: one reference to and fro lets go of it.
  c.doors.retain(door, 1, name);
  c.doors.release(door.number, 1);
  throw new PosixError('EROFS', 'a past state');
}
