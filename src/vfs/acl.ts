/**
 * POSIX access control lists, in the binary form of the xattrs system.posix_acl_access and _default:
 *
 *   version u32 = 2, then for each entry: tag u16 | permissions u16 | id u32
 *
 * An ACL is stored only when it says more than the mode does. Its owner, mask (or group) and other entries always
 * agree with the mode: setting an ACL changes the mode, chmod changes the ACL, and a new file takes the meet of
 * its directory's default ACL and the mode it was created with. The rules are those of the kernel's posix_acl.c.
 */
import { getU16, getU32, putU16, putU32 } from '../encoding/bytes.ts';
import { PosixError } from '../errors.ts';
import { inGroup } from './caller.ts';
import type { Caller } from './file-system.ts';

const VERSION = 2;
const HEADER_SIZE = 4;
const ENTRY_SIZE = 8;

const TAG_USER_OWNER = 0x01;
const TAG_USER = 0x02;
const TAG_GROUP_OWNER = 0x04;
const TAG_GROUP = 0x08;
const TAG_MASK = 0x10;
const TAG_OTHER = 0x20;
const NO_ID = 0xffffffff;

interface AclEntry {
  readonly tag: number;
  permissions: number;
  readonly id: number;
}

export type Acl = AclEntry[];

/**
 * Reads an ACL and checks that it is one: entries in order, a mask where there are named users or groups.
 * An ACL without entries is the empty list: it means to remove the ACL.
 * @throws PosixError EINVAL
 */
export function parseAcl(value: Uint8Array): Acl {
  if (value.length < HEADER_SIZE || (value.length - HEADER_SIZE) % ENTRY_SIZE !== 0)
    throw new PosixError('EINVAL');
  if (getU32(value, 0) !== VERSION) throw new PosixError('EOPNOTSUPP');
  const acl: Acl = [];
  for (let at = HEADER_SIZE; at < value.length; at += ENTRY_SIZE) {
    const tag = getU16(value, at);
    const permissions = getU16(value, at + 2);
    const named = tag === TAG_USER || tag === TAG_GROUP;
    const id = named ? getU32(value, at + 4) : NO_ID;
    if (permissions > 7 || (named && id === NO_ID)) throw new PosixError('EINVAL');
    acl.push({ tag, permissions, id });
  }
  if (acl.length > 0) checkOrder(acl);
  return acl;
}

function checkOrder(acl: Acl): void {
  let expected = TAG_USER_OWNER;
  let needsMask = false;
  for (const { tag } of acl) {
    if (tag === TAG_USER_OWNER && expected === TAG_USER_OWNER) expected = TAG_USER;
    else if (tag === TAG_USER && expected === TAG_USER) needsMask = true;
    else if (tag === TAG_GROUP_OWNER && expected === TAG_USER) expected = TAG_GROUP;
    else if (tag === TAG_GROUP && expected === TAG_GROUP) needsMask = true;
    else if (tag === TAG_MASK && expected === TAG_GROUP) expected = TAG_OTHER;
    else if (tag === TAG_OTHER && (expected === TAG_OTHER || (expected === TAG_GROUP && !needsMask)))
      expected = 0;
    else throw new PosixError('EINVAL');
  }
  if (expected !== 0) throw new PosixError('EINVAL');
}

export function formatAcl(acl: Readonly<Acl>): Buffer {
  const value = Buffer.allocUnsafe(HEADER_SIZE + ENTRY_SIZE * acl.length);
  putU32(value, 0, VERSION);
  let at = HEADER_SIZE;
  for (const entry of acl) {
    putU16(value, at, entry.tag);
    putU16(value, at + 2, entry.permissions);
    putU32(value, at + 4, entry.id);
    at += ENTRY_SIZE;
  }
  return value;
}

/** Whether the ACL says no more than nine permission bits can. */
export function isMinimalAcl(acl: Readonly<Acl>): boolean {
  return acl.every(({ tag }) => tag === TAG_USER_OWNER || tag === TAG_GROUP_OWNER || tag === TAG_OTHER);
}

/** The permission bits of a file with this access ACL: owner, mask (or group), other. */
export function permissionsOfAcl(acl: Readonly<Acl>): number {
  let mode = 0;
  let mask = -1;
  for (const { tag, permissions } of acl) {
    if (tag === TAG_USER_OWNER) mode |= permissions << 6;
    else if (tag === TAG_GROUP_OWNER) mode |= permissions << 3;
    else if (tag === TAG_MASK) mask = permissions;
    else if (tag === TAG_OTHER) mode |= permissions;
  }
  return mask < 0 ? mode : (mode & ~0o070) | (mask << 3);
}

/** chmod: puts the permission bits into the owner, mask (or group) and other entries. */
export function applyModeToAcl(acl: Acl, mode: number): void {
  const classEntry =
    acl.find(({ tag }) => tag === TAG_MASK) ?? acl.find(({ tag }) => tag === TAG_GROUP_OWNER);
  for (const entry of acl) {
    if (entry.tag === TAG_USER_OWNER) entry.permissions = (mode >> 6) & 7;
    else if (entry === classEntry) entry.permissions = (mode >> 3) & 7;
    else if (entry.tag === TAG_OTHER) entry.permissions = mode & 7;
  }
}

/**
 * Turns a copy of the directory's default ACL into the access ACL of a new file: what `mode` does not give is
 * taken away. Returns the permission bits of the new file.
 */
export function inheritAcl(acl: Acl, mode: number): number {
  const classEntry =
    acl.find(({ tag }) => tag === TAG_MASK) ?? acl.find(({ tag }) => tag === TAG_GROUP_OWNER);
  let permissions = 0;
  for (const entry of acl) {
    const shift =
      entry.tag === TAG_USER_OWNER ? 6 : entry === classEntry ? 3 : entry.tag === TAG_OTHER ? 0 : -1;
    if (shift < 0) continue;
    entry.permissions &= (mode >> shift) & 7;
    permissions |= entry.permissions << shift;
  }
  return permissions;
}

/** Whether the access ACL of an inode of this group grants `mask` to a caller who is not the owner. */
export function aclGrants(acl: Readonly<Acl>, gid: number, caller: Caller, mask: number): boolean {
  const limit = acl.find(({ tag }) => tag === TAG_MASK)?.permissions ?? 7;
  let inSomeGroup = false;
  for (const { tag, permissions, id } of acl) {
    if (tag === TAG_USER && id === caller.uid) return (permissions & limit & mask) === mask;
    const group = tag === TAG_GROUP_OWNER ? gid : tag === TAG_GROUP ? id : -1;
    if (group >= 0 && inGroup(caller, group)) {
      inSomeGroup = true;
      if ((permissions & mask) === mask) return (permissions & limit & mask) === mask;
    }
    if (tag === TAG_OTHER) return !inSomeGroup && (permissions & mask) === mask;
  }
  return false;
}
