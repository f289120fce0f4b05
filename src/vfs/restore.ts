/**
 * Restoring the whole live file system, as one operation.
 *
 * The state gets the trees of another one; what that one cannot know is what is in use now. A file that is open and does
 * not exist in the restored state lives on without a name, as after unlink(2); so does a directory that a client knows,
 * for it may be somebody's working directory. Files without a name in the restored state, which somebody had open
 * then, go.
 *
 * A client that caches (the kernel) has to be told what changed: `changesSince` compares the trees from before the
 * operation with those after it, and keeps what the client knows.
 */
import { BTree } from '../btree/btree.ts';
import { diffTrees } from '../btree/diff.ts';
import { getU64BE } from '../encoding/bytes.ts';
import { direntInode } from '../encoding/dirent.ts';
import { decodeInode, InodeRecord } from '../encoding/inode.ts';
import { inodeKey, keyInode, TREE } from '../encoding/keys.ts';
import type { PageRef } from '../encoding/page.ts';
import { LsnfsError } from '../errors.ts';
import { linksOf, PathFinder, recordOf } from '../history/changes.ts';
import type { RestorableState } from '../store/state.ts';
import { ROOT_INODE } from './file-system.ts';
import type { LiveCore } from './live-core.ts';

/** More changes than that are told as "anything may have changed". */
export const CHANGES_MAXIMUM = 20_000;

/** What changed in the live file system other than through its client, as far as the client knows it. */
export interface ClientChanges {
  /** Too much to be told one by one: anything may have changed. */
  readonly everything: boolean;
  /** Names of known directories that appeared, vanished or mean another inode, and names of files that changed. */
  readonly entries: readonly { readonly parent: number; readonly name: Uint8Array }[];
  /** Known inodes that changed. */
  readonly inodes: readonly number[];
  /** Regular files among them that are open: a kernel that caches writes keeps their size and times itself. */
  readonly open?: readonly number[];
  /** Where directories that the client knows are now, if their entries are other ones. */
  readonly directories?: readonly Buffer[];
}

/** The roots of a state's trees of files. */
interface FileTrees {
  readonly namespace: Readonly<PageRef>;
  readonly inodes: Readonly<PageRef>;
}

/**
 * Makes a restore as one operation; `work` is given the trees that there were before. Returns what a client is to be told:
 * when that cannot be found out, for a page cannot be read, that anything may have changed.
 */
export function restoreBy(
  core: LiveCore,
  live: RestorableState,
  work: (before: FileTrees) => void,
): ClientChanges {
  core.begin();
  const before = { namespace: { ...live.namespace.root }, inodes: { ...live.inodes.root } };
  try {
    work(before);
    core.commit();
  } catch (error) {
    core.abort();
    throw error;
  }
  try {
    return changesSince(core, live, before);
  } catch (error) {
    // The restore has been made, whatever can be read of it.
    if (!(error instanceof LsnfsError)) throw error;
    return { everything: true, entries: [], inodes: [] };
  }
}

/** Makes all files what they were at an LSN. */
export function restoreAll(core: LiveCore, live: RestorableState, lsn: number): ClientChanges {
  return restoreBy(core, live, (before) => {
    const beforeLsn = live.lsn;
    live.restoreTo(lsn);
    core.forget();
    if (live.counters.inodes === 0) core.createRoot();
    keepWhatIsInUse(core, live, before, beforeLsn);
    for (const orphan of [...core.orphans]) core.reap(orphan);
  });
}

function keepWhatIsInUse(core: LiveCore, live: RestorableState, before: FileTrees, beforeLsn: number): void {
  const inodesBefore = new BTree(live.inodes.space, TREE.inodes, before.inodes, 0);
  const kept: number[] = [];
  for (const inode of core.inUse()) {
    if (live.inodes.find(inodeKey(inode)) || !inodesBefore.find(inodeKey(inode))) continue;
    const record = new InodeRecord();
    decodeInode(record, inode, inodesBefore.page.bytes, inodesBefore.valueStart, inodesBefore.valueLength);
    if (record.isDirectory || core.handles.isOpen(inode)) kept.push(inode);
  }
  if (kept.length === 0) return;
  live.restoreFrom(beforeLsn);
  for (const number of kept) live.takeInode(number);
  for (const number of kept) {
    const inode = core.load(number);
    inode.links = 0;
    if (inode.isDirectory) inode.size = 0;
    core.touchStatus(inode);
    core.putOrphan(inode);
    core.putInode(inode);
  }
}

/** Not within an operation, and before anything else is done. @throws LsnfsError CORRUPT_PAGE, IO, CORRUPT_RECORD */
function changesSince(core: LiveCore, live: RestorableState, before: FileTrees): ClientChanges {
  const { space } = live.inodes;
  const isKnown = (inode: number): boolean => core.isInUse(inode);
  const entries: { parent: number; name: Buffer }[] = [];
  const inodes = new Set<number>();
  const open: number[] = [];
  const directories: Buffer[] = [];
  const paths = new PathFinder(live);
  const everything = (): ClientChanges => ({
    everything: true,
    entries: [],
    inodes: [],
    open: openFiles(core),
  });
  let count = 0;
  for (const { key, after } of diffTrees({ space, root: before.namespace }, live.namespace, TREE.namespace)) {
    if (++count > CHANGES_MAXIMUM) return everything();
    const parent = getU64BE(key, 0);
    if (!isKnown(parent) && parent !== ROOT_INODE) continue;
    entries.push({ parent, name: key.subarray(8) });
    if (after === undefined) continue;
    const child = direntInode(after, 0, after.length);
    if (isKnown(child) && recordOf(live, child)?.isDirectory) directories.push(paths.ofLink(key));
  }
  for (const { key } of diffTrees({ space, root: before.inodes }, live.inodes, TREE.inodes)) {
    if (++count > CHANGES_MAXIMUM) return everything();
    const inode = keyInode(key);
    if (inodes.has(inode) || (!isKnown(inode) && inode !== ROOT_INODE)) continue;
    inodes.add(inode);
    const record = recordOf(live, inode);
    if (record === undefined || record.isDirectory) continue;
    if (record.isRegular && core.handles.isOpen(inode)) open.push(inode);
    else
      for (const link of linksOf(live, inode))
        entries.push({ parent: getU64BE(link, 0), name: link.subarray(8) });
  }
  return { everything: false, entries, inodes: [...inodes], open, directories };
}

function openFiles(core: LiveCore): number[] {
  return [...core.handles.inodes()].filter((inode) => core.find(inode)?.isRegular);
}
