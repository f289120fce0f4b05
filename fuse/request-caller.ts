/**
 * Who made a request. The protocol names the user and one group; what else decides now and then, supplementary
 * groups and CAP_FSETID, is read from /proc when it is asked for. The thread that waits for its answer stays as it is
 * meanwhile.
 */
import { readFileSync, readlinkSync } from 'node:fs';
import type { Caller } from '../src/vfs/file-system.ts';

const CAP_FSETID_BIT = 0x10;

interface Credentials {
  readonly groups: readonly number[];
  /** Whether CAP_FSETID is in effect in this process's user namespace; undefined when that is not known. */
  readonly keepsPrivileges: boolean | undefined;
}

const UNKNOWN: Credentials = { groups: [], keepsPrivileges: undefined };

/** The credentials of a thread. A thread of another PID namespace (0) or one that was killed has none to be read. */
function readCredentials(pid: number): Credentials {
  if (pid === 0) return UNKNOWN;
  try {
    const status = readFileSync(`/proc/${pid}/status`, 'latin1');
    const groups = /^Groups:(.*)$/m.exec(status)?.[1]?.match(/\d+/g) ?? [];
    // The last eight digits are enough, and exact as a number.
    const effective = /^CapEff:\s*[0-9a-f]*([0-9a-f]{8})$/m.exec(status)?.[1];
    if (effective === undefined) return { groups: groups.map(Number), keepsPrivileges: undefined };
    const has = (Number.parseInt(effective, 16) & CAP_FSETID_BIT) !== 0;
    return { groups: groups.map(Number), keepsPrivileges: has && isInOwnUserNamespace(pid) };
  } catch {
    // Ended, or not for our eyes: what the request itself says is what is known.
    return UNKNOWN;
  }
}

function isInOwnUserNamespace(pid: number): boolean {
  return readlinkSync(`/proc/${pid}/ns/user`) === readlinkSync('/proc/self/ns/user');
}

export class RequestCaller implements Caller {
  uid = 0;
  gid = 0;
  pid = 0;
  private credentials: Credentials | undefined;

  set(uid: number, gid: number, pid: number): void {
    this.uid = uid;
    this.gid = gid;
    this.pid = pid;
    this.credentials = undefined;
  }

  get groups(): readonly number[] {
    this.credentials ??= readCredentials(this.pid);
    return this.credentials.groups;
  }

  get keepsPrivileges(): boolean {
    this.credentials ??= readCredentials(this.pid);
    return this.credentials.keepsPrivileges ?? this.uid === 0;
  }
}

/** Who makes a file: the umask is still to be applied. */
export class CreatingCaller extends RequestCaller {
  umask = 0;
}
