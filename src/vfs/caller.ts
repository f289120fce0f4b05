/**
 * What a caller may do, by identity and mode alone; ACLs are in acl.ts. uid 0 has every capability.
 */
import { type Caller, S_IFDIR, S_IFMT, S_IFREG, S_ISGID, S_ISUID } from './file-system.ts';

export const MAY_EXECUTE = 1;
export const MAY_WRITE = 2;
export const MAY_READ = 4;

export function inGroup(caller: Caller, gid: number): boolean {
  return caller.gid === gid || (caller.groups?.includes(gid) ?? false);
}

export function isOwner(caller: Caller, uid: number): boolean {
  return caller.uid === 0 || caller.uid === uid;
}

/** What uid 0 may do: all, but execute a file that nobody may execute. */
export function rootMay(mode: number, mask: number): boolean {
  return (mask & MAY_EXECUTE) === 0 || (mode & S_IFMT) === S_IFDIR || (mode & 0o111) !== 0;
}

/** The mode without the bits that a write, truncation or change of owner takes from it (inode(7)). */
export function withoutPrivileges(mode: number, inFileGroup: boolean): number {
  if ((mode & S_IFMT) !== S_IFREG) return mode;
  let result = mode & ~S_ISUID;
  if ((mode & 0o010) !== 0 || !inFileGroup) result &= ~S_ISGID;
  return result;
}
