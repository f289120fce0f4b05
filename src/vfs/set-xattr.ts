/** Setting and removing xattrs and ACLs on the live state. */
import { FLAG_ACCESS_ACL, FLAG_CAPABILITY, FLAG_DEFAULT_ACL, FLAG_XATTRS } from '../encoding/inode.ts';
import { XATTR_VALUE_MAX } from '../encoding/xattr.ts';
import { PosixError } from '../errors.ts';
import { type Acl, formatAcl, isMinimalAcl, parseAcl, permissionsOfAcl } from './acl.ts';
import { inGroup, MAY_WRITE } from './caller.ts';
import { type Caller, S_ISGID, XATTR_CREATE, XATTR_REPLACE } from './file-system.ts';
import type { Inode } from './inode-cache.ts';
import type { LiveCore } from './live-core.ts';
import { checkXattrWrite, NAMESPACE, xattrNamespace } from './xattr-rules.ts';
import { hasXattr, writeXattr, XATTR_ACCESS_ACL, XATTR_CAPABILITY } from './xattr-store.ts';

export function setXattr(
  core: LiveCore,
  caller: Caller,
  number: number,
  name: Uint8Array,
  value: Uint8Array,
  flags: number,
  killSgid: boolean,
): void {
  const inode = core.load(number);
  const namespace = xattrNamespace(name);
  if ((flags & ~(XATTR_CREATE | XATTR_REPLACE)) !== 0) throw new PosixError('EINVAL');
  if (value.length > XATTR_VALUE_MAX) throw new PosixError('E2BIG');
  checkXattrWrite(caller, inode, namespace, core.checkPermissions);
  if (namespace === NAMESPACE.acl) {
    setAcl(core, caller, inode, name, parseAcl(value), killSgid);
    return;
  }
  if (namespace === NAMESPACE.user) core.require(caller, inode, MAY_WRITE);
  const exists = (inode.flags & FLAG_XATTRS) !== 0 && hasXattr(core.live, number, name);
  if (exists && (flags & XATTR_CREATE) !== 0) throw new PosixError('EEXIST');
  if (!exists && (flags & XATTR_REPLACE) !== 0) throw new PosixError('ENODATA');
  core.begin();
  try {
    writeXattr(core.live, number, name, value);
    inode.flags |= FLAG_XATTRS;
    if (XATTR_CAPABILITY.equals(name)) inode.flags |= FLAG_CAPABILITY;
    core.touchStatus(inode);
    core.putInode(inode);
    core.commit();
  } catch (error) {
    core.abort();
    throw error;
  }
}

/**
 * Sets an ACL; an empty one removes it. An access ACL that the mode can express becomes the mode. Who is not in
 * the file's group loses its setgid bit, as with chmod.
 */
function setAcl(
  core: LiveCore,
  caller: Caller,
  inode: Inode,
  name: Uint8Array,
  acl: Acl,
  killSgid: boolean,
): void {
  const isAccess = XATTR_ACCESS_ACL.equals(name);
  if (!isAccess && !inode.isDirectory) {
    if (acl.length === 0) return;
    throw new PosixError('EACCES', 'a default ACL of something that is not a directory');
  }
  const flag = isAccess ? FLAG_ACCESS_ACL : FLAG_DEFAULT_ACL;
  core.begin();
  try {
    if (isAccess && acl.length > 0) {
      inode.mode = (inode.mode & ~0o777) | permissionsOfAcl(acl);
      const outsider = core.checkPermissions && caller.uid !== 0 && !inGroup(caller, inode.gid);
      if (killSgid || outsider) inode.mode &= ~S_ISGID;
    }
    if (acl.length === 0 || (isAccess && isMinimalAcl(acl))) {
      if ((inode.flags & flag) !== 0) core.removeXattr(inode, name, flag);
    } else {
      writeXattr(core.live, inode.inode, name, formatAcl(acl));
      inode.flags |= FLAG_XATTRS | flag;
    }
    core.touchStatus(inode);
    core.putInode(inode);
    core.commit();
  } catch (error) {
    core.abort();
    throw error;
  }
}

export function removeXattr(core: LiveCore, caller: Caller, number: number, name: Uint8Array): void {
  const inode = core.load(number);
  const namespace = xattrNamespace(name);
  checkXattrWrite(caller, inode, namespace, core.checkPermissions);
  if (namespace === NAMESPACE.acl) {
    setAcl(core, caller, inode, name, [], false);
    return;
  }
  if (namespace === NAMESPACE.user) core.require(caller, inode, MAY_WRITE);
  if ((inode.flags & FLAG_XATTRS) === 0 || !hasXattr(core.live, number, name))
    throw new PosixError('ENODATA');
  core.begin();
  try {
    core.removeXattr(inode, name, XATTR_CAPABILITY.equals(name) ? FLAG_CAPABILITY : 0);
    core.touchStatus(inode);
    core.putInode(inode);
    core.commit();
  } catch (error) {
    core.abort();
    throw error;
  }
}
