/**
 * What a caller may do, by identity and mode alone; ACLs are in acl.ts. uid 0 has every capability.
 */
import { type Caller, S_IFDIR, S_IFMT, S_ISGID, S_ISUID } from './file-system.ts';

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

/** Whether the mode has bits that a change of content or owner may take from what is not a directory. */
export function hasPrivileges(mode: number): boolean {
  return (mode & (S_ISUID | S_ISGID)) !== 0;
}

/** Whether the caller's changes leave setuid and setgid (CAP_FSETID). */
export function keepsPrivileges(caller: Caller): boolean {
  return caller.keepsPrivileges ?? caller.uid === 0;
}

/**
 * The mode of what belongs to the group `gid`, and is no directory, without the bits that the caller's write,
 * truncation or change of owner takes from it (inode(7)). The caller's groups are asked for only if they decide.
 */
export function withoutPrivileges(mode: number, caller: Caller, gid: number): number {
  if (!hasPrivileges(mode)) return mode;
  let result = mode & ~S_ISUID;
  if ((mode & S_ISGID) !== 0) {
    const stays = (mode & 0o010) === 0 && (inGroup(caller, gid) || keepsPrivileges(caller));
    if (!stays) result &= ~S_ISGID;
  }
  return result;
}
