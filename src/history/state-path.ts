/** Paths over the bare trees of a state: what is at one, whatever a file system would let one see. */
import { direntInode } from '../encoding/dirent.ts';
import { inodeKey, NAME_MAX, namespaceKey } from '../encoding/keys.ts';
import type { StateReader } from '../store/state.ts';

const ROOT_INODE = 1;
const SLASH = 0x2f;
const DOT = 0x2e;

/** The names of a path; slashes too many and "." mean nothing, ".." is a name like any other. */
export function namesOfPath(path: Uint8Array): Buffer[] {
  const names: Buffer[] = [];
  for (let start = 0; start < path.length; ) {
    const slash = path.indexOf(SLASH, start);
    const end = slash < 0 ? path.length : slash;
    const name = path.subarray(start, end);
    if (name.length > 0 && !(name.length === 1 && name[0] === DOT)) names.push(Buffer.from(name));
    start = end + 1;
  }
  return names;
}

/** Where a path leads in a state. */
export interface FoundPath {
  readonly inode: number;
  /** The key of its entry in the namespace tree; undefined for the root. */
  readonly link: Buffer | undefined;
}

/** The inode that an entry of a state means, by its key in the namespace tree; 0 when there is none. */
function inodeAt({ namespace }: StateReader, link: Uint8Array): number {
  if (!namespace.find(link)) return 0;
  return direntInode(namespace.page.bytes, namespace.valueStart, namespace.valueLength);
}

/** The inode of an entry of a state; 0 when there is none. The name has 1 to NAME_MAX bytes. */
export function childOf(state: StateReader, directory: number, name: Uint8Array): number {
  return inodeAt(state, namespaceKey(directory, name));
}

/** What a state has at a path; undefined when there is nothing. Symbolic links are not followed. */
export function findPath(state: StateReader, names: readonly Buffer[]): FoundPath | undefined {
  let inode = ROOT_INODE;
  let link: Buffer | undefined;
  // The very first state has not even a root.
  if (names.length === 0 && !state.inodes.find(inodeKey(ROOT_INODE))) return undefined;
  for (const name of names) {
    if (name.length > NAME_MAX) return undefined;
    link = namespaceKey(inode, name);
    inode = inodeAt(state, link);
    if (inode === 0) return undefined;
  }
  return { inode, link };
}
