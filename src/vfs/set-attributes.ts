/** chmod, chown, truncate and utimens: the rules of setattr, and what each changes besides (inode(7), chown(2)). */
import { FLAG_ACCESS_ACL, MAX_FILE_SIZE } from '../encoding/inode.ts';
import { PosixError } from '../errors.ts';
import { applyModeToAcl, formatAcl, parseAcl } from './acl.ts';
import { inGroup, isOwner, MAY_WRITE, withoutPrivileges } from './caller.ts';
import type { Content } from './content.ts';
import { type AttributeChanges, type Caller, S_IFMT, S_ISGID } from './file-system.ts';
import type { Inode } from './inode-cache.ts';
import type { LiveCore } from './live-core.ts';
import { readXattr, writeXattr, XATTR_ACCESS_ACL } from './xattr-store.ts';

/** @throws PosixError EPERM, EACCES, EISDIR, EINVAL, EFBIG, EOPNOTSUPP. `byHandle`: through a writable handle. */
export function checkAttributes(
  core: LiveCore,
  caller: Caller,
  inode: Inode,
  changes: AttributeChanges,
  byHandle: boolean,
): void {
  const { size, mode } = changes;
  if (size !== undefined) {
    if (inode.isDirectory) throw new PosixError('EISDIR');
    if (!inode.isRegular || size < 0) throw new PosixError('EINVAL');
    if (size > MAX_FILE_SIZE) throw new PosixError('EFBIG');
  }
  if (mode !== undefined && inode.isSymlink)
    throw new PosixError('EOPNOTSUPP', 'the mode of a symbolic link');
  for (const time of [changes.access, changes.modify, changes.change]) {
    if (typeof time === 'object' && !(time.nanoseconds >= 0 && time.nanoseconds <= 999_999_999))
      throw new PosixError('EINVAL');
  }
  if (core.checkPermissions) checkPermitted(core, caller, inode, changes, byHandle);
}

/** A time that a record can hold: those beyond are taken for the last that can be, as Linux does. */
function storable(seconds: number): number {
  return Math.max(Number.MIN_SAFE_INTEGER, Math.min(Number.MAX_SAFE_INTEGER, seconds));
}

function checkPermitted(
  core: LiveCore,
  caller: Caller,
  inode: Inode,
  changes: AttributeChanges,
  byHandle: boolean,
): void {
  const { uid, gid, access, modify } = changes;
  const owner = isOwner(caller, inode.uid);
  if (uid !== undefined && caller.uid !== 0 && (caller.uid !== inode.uid || uid !== inode.uid)) {
    throw new PosixError('EPERM');
  }
  if (gid !== undefined && caller.uid !== 0) {
    if (caller.uid !== inode.uid || (gid !== inode.gid && !inGroup(caller, gid)))
      throw new PosixError('EPERM');
  }
  if (changes.mode !== undefined && !owner) throw new PosixError('EPERM');
  if (changes.size !== undefined && !byHandle) core.require(caller, inode, MAY_WRITE);
  if ((access !== undefined || modify !== undefined) && !owner && changes.size === undefined) {
    // Who may write may set both times to now, and nothing else.
    if (access !== 'now' || modify !== 'now') throw new PosixError('EPERM');
    core.require(caller, inode, MAY_WRITE);
  }
}

/** Applies changes that were checked, inside a transaction. The record is the caller's to put. */
export function applyAttributes(
  core: LiveCore,
  content: Content,
  caller: Caller,
  inode: Inode,
  changes: AttributeChanges,
): void {
  const { size, uid, gid, mode, access, modify, change } = changes;
  if (size !== undefined) {
    // A kernel that keeps the times itself says when they change; for the size that a file has already it does not.
    if (!core.kernelHandles || size !== inode.size) core.touchContent(inode);
    content.resize(inode, size);
    core.dropCapability(inode);
  }
  const byOther = core.checkPermissions && caller.uid !== 0;
  if (changes.killPrivileges === true || (size !== undefined && byOther)) {
    inode.mode = withoutPrivileges(inode.mode, caller, inode.gid);
    core.dropCapability(inode);
  }
  if (uid !== undefined || gid !== undefined) {
    if (!inode.isDirectory) {
      inode.mode = withoutPrivileges(inode.mode, caller, inode.gid);
      core.dropCapability(inode);
    }
    if (uid !== undefined) inode.uid = uid;
    if (gid !== undefined) inode.gid = gid;
  }
  if (mode !== undefined) changeMode(core, caller, inode, mode);
  if (access !== undefined) {
    const time = access === 'now' ? core.time : access;
    inode.accessSeconds = storable(time.seconds);
    inode.accessNanoseconds = time.nanoseconds;
  }
  if (modify !== undefined) {
    const time = modify === 'now' ? core.time : modify;
    inode.modifySeconds = storable(time.seconds);
    inode.modifyNanoseconds = time.nanoseconds;
  }
  core.touchStatus(inode);
  if (change !== undefined) {
    inode.changeSeconds = storable(change.seconds);
    inode.changeNanoseconds = change.nanoseconds;
  }
}

function changeMode(core: LiveCore, caller: Caller, inode: Inode, mode: number): void {
  let bits = mode & ~S_IFMT & 0o7777;
  if (core.checkPermissions && caller.uid !== 0 && !inGroup(caller, inode.gid)) bits &= ~S_ISGID;
  inode.mode = (inode.mode & S_IFMT) | bits;
  if ((inode.flags & FLAG_ACCESS_ACL) === 0) return;
  const value = readXattr(core.live, inode.inode, XATTR_ACCESS_ACL);
  if (value === undefined) return;
  const acl = parseAcl(value);
  applyModeToAcl(acl, bits);
  writeXattr(core.live, inode.inode, XATTR_ACCESS_ACL, formatAcl(acl));
}
