/**
 * Which xattrs may exist where, and who may read and change them, as Linux rules it (xattr(7)):
 * user.* on regular files and directories; trusted.* for uid 0, invisible to others; security.* for uid 0 to
 * change; system.posix_acl_* for the owner; no other namespaces.
 */
import { PosixError } from '../errors.ts';
import { isOwner } from './caller.ts';
import { type Caller, S_ISVTX } from './file-system.ts';
import type { Inode } from './inode-cache.ts';
import { XATTR_ACCESS_ACL, XATTR_DEFAULT_ACL } from './xattr-store.ts';

/** XATTR_NAME_MAX of Linux. */
const XATTR_NAME_MAX = 255;

export const NAMESPACE = { user: 1, trusted: 2, security: 3, acl: 4 } as const;
export type Namespace = (typeof NAMESPACE)[keyof typeof NAMESPACE];

const PREFIX_USER = Buffer.from('user.');
const PREFIX_TRUSTED = Buffer.from('trusted.');
const PREFIX_SECURITY = Buffer.from('security.');

function startsWith(name: Uint8Array, prefix: Buffer): boolean {
  if (name.length < prefix.length) return false;
  for (let i = 0; i < prefix.length; i++) if (name[i] !== prefix[i]) return false;
  return true;
}

export function isTrusted(name: Uint8Array): boolean {
  return startsWith(name, PREFIX_TRUSTED);
}

/** @throws PosixError ERANGE, EINVAL, EOPNOTSUPP */
export function xattrNamespace(name: Uint8Array): Namespace {
  if (name.length === 0 || name.length > XATTR_NAME_MAX)
    throw new PosixError('ERANGE', 'the name of an xattr');
  if (name.includes(0)) throw new PosixError('EINVAL', 'the name of an xattr');
  if (startsWith(name, PREFIX_USER)) return ruled(name, PREFIX_USER, NAMESPACE.user);
  if (startsWith(name, PREFIX_TRUSTED)) return ruled(name, PREFIX_TRUSTED, NAMESPACE.trusted);
  if (startsWith(name, PREFIX_SECURITY)) return ruled(name, PREFIX_SECURITY, NAMESPACE.security);
  if (XATTR_ACCESS_ACL.equals(name) || XATTR_DEFAULT_ACL.equals(name)) return NAMESPACE.acl;
  throw new PosixError('EOPNOTSUPP', 'the namespace of an xattr');
}

function ruled(name: Uint8Array, prefix: Buffer, namespace: Namespace): Namespace {
  if (name.length === prefix.length) throw new PosixError('EINVAL', 'the name of an xattr');
  return namespace;
}

/** @throws PosixError ENODATA when the xattr cannot exist there or is not for the caller's eyes. */
export function checkXattrRead(caller: Caller, inode: Inode, namespace: Namespace): void {
  if (namespace === NAMESPACE.user && !inode.isRegular && !inode.isDirectory) throw new PosixError('ENODATA');
  if (namespace === NAMESPACE.trusted && caller.uid !== 0) throw new PosixError('ENODATA');
  if (namespace === NAMESPACE.acl && inode.isSymlink) throw new PosixError('EOPNOTSUPP');
}

/** @throws PosixError EPERM, EOPNOTSUPP. `checkOwner`: nobody else checks permissions. */
export function checkXattrWrite(
  caller: Caller,
  inode: Inode,
  namespace: Namespace,
  checkOwner: boolean,
): void {
  switch (namespace) {
    case NAMESPACE.user:
      if (!inode.isRegular && !inode.isDirectory) throw new PosixError('EPERM');
      if (checkOwner && inode.isDirectory && (inode.mode & S_ISVTX) !== 0 && !isOwner(caller, inode.uid)) {
        throw new PosixError('EPERM');
      }
      return;
    case NAMESPACE.trusted:
    case NAMESPACE.security:
      if (checkOwner && caller.uid !== 0) throw new PosixError('EPERM');
      return;
    case NAMESPACE.acl:
      if (inode.isSymlink) throw new PosixError('EOPNOTSUPP');
      if (checkOwner && !isOwner(caller, inode.uid)) throw new PosixError('EPERM');
  }
}
