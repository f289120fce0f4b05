/**
 * Extended attributes in a state: reading them from any, changing them in a live one inside a transaction.
 * Layout: src/encoding/xattr.ts. Who may do what with which namespace is decided in xattr-rules.ts.
 */
import { getU32, putU32, putU64BE } from '../encoding/bytes.ts';
import { KIND_XATTR, TREE, xattrKey } from '../encoding/keys.ts';
import {
  XATTR_HEADER,
  XATTR_VALUE_MAX,
  xattrChunkCount,
  xattrChunkSize,
  xattrKeyNameEnd,
} from '../encoding/xattr.ts';
import { LsnfsError } from '../errors.ts';
import type { LiveState, StateReader } from '../store/state.ts';

export const XATTR_ACCESS_ACL = Buffer.from('system.posix_acl_access');
export const XATTR_DEFAULT_ACL = Buffer.from('system.posix_acl_default');
export const XATTR_CAPABILITY = Buffer.from('security.capability');

/** The value, or undefined when there is no such xattr. @throws LsnfsError CORRUPT_RECORD */
export function readXattr(state: StateReader, inode: number, name: Uint8Array): Buffer | undefined {
  const tree = state.inodes;
  if (!tree.find(xattrKey(inode, name, 0))) return undefined;
  const length = tree.valueLength < XATTR_HEADER ? -1 : getU32(tree.page.bytes, tree.valueStart);
  if (length < 0 || length > XATTR_VALUE_MAX) fail(inode, `a length of ${length}`);
  const value = Buffer.allocUnsafe(length);
  const chunkSize = xattrChunkSize(state.pageSize);
  const chunks = xattrChunkCount(state.pageSize, length);
  for (let chunk = 0, filled = -XATTR_HEADER; chunk < chunks; chunk++) {
    if (chunk > 0 && !tree.find(xattrKey(inode, name, chunk))) fail(inode, `chunk ${chunk} is missing`);
    const expected = Math.min(chunkSize, length - filled);
    if (tree.valueLength !== expected) fail(inode, `chunk ${chunk} has ${tree.valueLength} bytes`);
    const skip = chunk === 0 ? XATTR_HEADER : 0;
    const { bytes } = tree.page;
    bytes.copy(value, filled + skip, tree.valueStart + skip, tree.valueStart + expected);
    filled += expected;
  }
  return value;
}

/** Whether there is such an xattr. */
export function hasXattr(state: StateReader, inode: number, name: Uint8Array): boolean {
  return state.inodes.find(xattrKey(inode, name, 0));
}

/** Calls `visit` with each name, in order; it may keep the name. */
export function eachXattrName(state: StateReader, inode: number, visit: (name: Buffer) => void): void {
  const prefix = xattrPrefix(inode);
  const cursor = state.inodes.cursor();
  for (let found = cursor.seek(prefix); found && cursor.startsWith(prefix); found = cursor.next()) {
    const { key } = cursor;
    const end = xattrKeyNameEnd(key);
    if (key[end + 1] === 0 && key[end + 2] === 0) visit(key.subarray(9, end));
  }
}

/** Whether the inode has any xattr. */
export function hasAnyXattr(state: StateReader, inode: number): boolean {
  const prefix = xattrPrefix(inode);
  const cursor = state.inodes.cursor();
  return cursor.seek(prefix) && cursor.startsWith(prefix);
}

function xattrPrefix(inode: number): Buffer {
  const prefix = Buffer.allocUnsafe(9);
  putU64BE(prefix, 0, inode);
  prefix[8] = KIND_XATTR;
  return prefix;
}

/** Sets a value, inside a transaction. */
export function writeXattr(state: LiveState, inode: number, name: Uint8Array, value: Uint8Array): void {
  const { pageSize } = state;
  const before = chunkCountOf(state, inode, name);
  const chunkSize = xattrChunkSize(pageSize);
  const chunks = xattrChunkCount(pageSize, value.length);
  const whole = Buffer.allocUnsafe(XATTR_HEADER + value.length);
  putU32(whole, 0, value.length);
  whole.set(value, XATTR_HEADER);
  for (let chunk = 0; chunk < chunks; chunk++) {
    const start = chunk * chunkSize;
    state.put(TREE.inodes, xattrKey(inode, name, chunk), whole.subarray(start, start + chunkSize));
  }
  for (let chunk = chunks; chunk < before; chunk++) state.delete(TREE.inodes, xattrKey(inode, name, chunk));
}

/** Removes a value, inside a transaction. */
export function deleteXattr(state: LiveState, inode: number, name: Uint8Array): void {
  const chunks = chunkCountOf(state, inode, name);
  for (let chunk = 0; chunk < chunks; chunk++) state.delete(TREE.inodes, xattrKey(inode, name, chunk));
}

/** Removes all xattrs of an inode that goes, inside a transaction. */
export function deleteAllXattrs(state: LiveState, inode: number): void {
  const names: Buffer[] = [];
  eachXattrName(state, inode, (name) => names.push(name));
  for (const name of names) deleteXattr(state, inode, name);
}

function chunkCountOf(state: StateReader, inode: number, name: Uint8Array): number {
  const tree = state.inodes;
  if (!tree.find(xattrKey(inode, name, 0))) return 0;
  const length = tree.valueLength < XATTR_HEADER ? -1 : getU32(tree.page.bytes, tree.valueStart);
  if (length < 0 || length > XATTR_VALUE_MAX) fail(inode, `a length of ${length}`);
  return xattrChunkCount(state.pageSize, length);
}

function fail(inode: number, why: string): never {
  throw new LsnfsError('CORRUPT_RECORD', `an extended attribute of inode ${inode} is damaged: ${why}`, {
    inode,
  });
}
