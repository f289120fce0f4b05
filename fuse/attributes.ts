/**
 * Requests about attributes: GETATTR, STATX, SETATTR, ACCESS, STATFS and extended attributes.
 */
import { ERRNO, PosixError } from '../src/errors.ts';
import type { AttributeChanges, Attributes } from '../src/vfs/file-system.ts';
import type { Context } from './context.ts';
import {
  ACCESS_IN,
  ATTRIBUTES_OUT,
  FATTR,
  FUSE_SETXATTR_ACL_KILL_SGID,
  GETXATTR_IN,
  GETXATTR_OUT,
  SETATTR_IN,
  SETXATTR_IN,
  SETXATTR_IN_OLD_SIZE,
  STATFS_OUT,
  STATX_OUT,
} from './protocol.ts';
import { NAME_MAX } from './request.ts';

const NANOSECONDS_MAX = 999_999_999;

export function getattr(c: Context): number {
  const { door } = c.request;
  const a = c.nodeAttributes();
  c.reply.attributesOut(door, a, c.attributeSeconds(door, a));
  return ATTRIBUTES_OUT.SIZE;
}

export function statx(c: Context): number {
  const { door } = c.request;
  const a = c.nodeAttributes();
  c.reply.statxOut(door, a, c.attributeSeconds(door, a));
  return STATX_OUT.SIZE;
}

export function setattr(c: Context): number {
  const { request } = c;
  const { door, inode } = request;
  const valid = request.u32(SETATTR_IN.valid);
  const changes: AttributeChanges = {};
  if ((valid & FATTR.MODE) !== 0) changes.mode = request.u32(SETATTR_IN.mode);
  const { uid, gid } = c.shownOwner;
  if ((valid & FATTR.UID) !== 0) {
    if (uid === undefined) changes.uid = request.u32(SETATTR_IN.uid);
    else keepShown(changes, uid, request.u32(SETATTR_IN.uid));
  }
  if ((valid & FATTR.GID) !== 0) {
    if (gid === undefined) changes.gid = request.u32(SETATTR_IN.gid);
    else keepShown(changes, gid, request.u32(SETATTR_IN.gid));
  }
  if ((valid & FATTR.SIZE) !== 0) changes.size = request.offset64(SETATTR_IN.size);
  if ((valid & FATTR.ATIME_NOW) !== 0) changes.access = 'now';
  else if ((valid & FATTR.ATIME) !== 0) {
    changes.access = time(c, SETATTR_IN.accessSeconds, SETATTR_IN.accessNanoseconds);
  }
  if ((valid & FATTR.MTIME_NOW) !== 0) changes.modify = 'now';
  else if ((valid & FATTR.MTIME) !== 0) {
    changes.modify = time(c, SETATTR_IN.modifySeconds, SETATTR_IN.modifyNanoseconds);
  }
  if ((valid & FATTR.CTIME) !== 0) {
    changes.change = time(c, SETATTR_IN.changeSeconds, SETATTR_IN.changeNanoseconds);
  }
  if ((valid & FATTR.KILL_SUIDGID) !== 0) changes.killPrivileges = true;
  const fileSystem = c.fileSystem;
  const present = (): Attributes => fileSystem.getattr(c.caller, inode);
  let a: Attributes;
  if (door === 0 && c.refreshes.isRefresh(inode, changes, present)) a = present();
  else if ((valid & FATTR.FH) !== 0)
    a = fileSystem.setattr(c.caller, inode, changes, request.u64(SETATTR_IN.handle));
  else a = fileSystem.setattr(c.caller, inode, changes);
  c.reply.attributesOut(door, a, c.attributeSeconds(door, a));
  return ATTRIBUTES_OUT.SIZE;
}

/**
 * A change of an owner or group that is shown instead of the store's: only to what it is, which takes away setuid and
 * setgid as every change does. @throws EPERM
 */
function keepShown(changes: AttributeChanges, shown: number, wanted: number): void {
  if (wanted !== shown) throw new PosixError('EPERM', 'the mount shows all files as belonging to one user');
  changes.killPrivileges = true;
}

function time(
  c: Context,
  secondsAt: number,
  nanosecondsAt: number,
): { seconds: number; nanoseconds: number } {
  const nanoseconds = c.request.u32(nanosecondsAt);
  return { seconds: c.request.i64(secondsAt), nanoseconds: Math.min(nanoseconds, NANOSECONDS_MAX) };
}

export function access(c: Context): number {
  c.fileSystem.access(c.caller, c.request.inode, c.request.u32(ACCESS_IN.mask) & 7);
  return 0;
}

export function statfs(c: Context): number {
  c.reply.statfsOut(c.fileSystem.statfs());
  return STATFS_OUT.SIZE;
}

export function getxattr(c: Context): number {
  const { request } = c;
  const name = request.string(GETXATTR_IN.SIZE, NAME_MAX);
  return valueReply(c, c.fileSystem.getxattr(c.caller, request.inode, name), request.u32(GETXATTR_IN.size));
}

export function listxattr(c: Context): number {
  const { request } = c;
  return valueReply(c, c.fileSystem.listxattr(c.caller, request.inode), request.u32(GETXATTR_IN.size));
}

/** Answers with the value, or with its length when the caller gave no room. */
function valueReply(c: Context, value: Uint8Array, room: number): number {
  if (room === 0) {
    c.reply.u32(GETXATTR_OUT.size, value.length);
    c.reply.u32(GETXATTR_OUT.padding, 0);
    return GETXATTR_OUT.SIZE;
  }
  if (value.length > room) return -ERRNO.ERANGE;
  if (value.length > c.reply.bodyCapacity) return -ERRNO.E2BIG;
  c.reply.copy(0, value);
  return value.length;
}

export function setxattr(c: Context): number {
  const { request } = c;
  const extended = c.negotiated?.extendedSetxattr === true;
  const name = request.string(extended ? SETXATTR_IN.SIZE : SETXATTR_IN_OLD_SIZE, NAME_MAX);
  const value = request.dataAfterString(request.u32(SETXATTR_IN.size));
  const kill = extended && (request.u32(SETXATTR_IN.setxattrFlags) & FUSE_SETXATTR_ACL_KILL_SGID) !== 0;
  c.fileSystem.setxattr(c.caller, request.inode, name, value, request.u32(SETXATTR_IN.flags), kill);
  return 0;
}

export function removexattr(c: Context): number {
  c.fileSystem.removexattr(c.caller, c.request.inode, c.request.string(0, NAME_MAX));
  return 0;
}
