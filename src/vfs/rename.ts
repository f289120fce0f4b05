/**
 * rename(2) and renameat2(2) with all of its flags, in the order in which Linux finds errors. However large a
 * directory is, moving it changes two entries and at most four inode records. RENAME_WHITEOUT, with which layered
 * file systems note that a name of a lower layer is gone, leaves a character device 0/0 under the old name.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import { MAY_WRITE } from './caller.ts';
import { isDot, isDotDot } from './core.ts';
import {
  type Caller,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  RENAME_WHITEOUT,
  ROOT_INODE,
  S_IFCHR,
} from './file-system.ts';
import type { Inode } from './inode-cache.ts';
import type { LiveCore } from './live-core.ts';

export function renameEntry(
  core: LiveCore,
  caller: Caller,
  parent: number,
  name: Uint8Array,
  newParent: number,
  newName: Uint8Array,
  flags: number,
): void {
  if ((flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) !== 0) throw new PosixError('EINVAL');
  const exchange = (flags & RENAME_EXCHANGE) !== 0;
  if (exchange && flags !== RENAME_EXCHANGE) throw new PosixError('EINVAL');
  const noReplace = (flags & RENAME_NOREPLACE) !== 0;
  const from = core.searchDirectory(caller, parent);
  const to = core.searchDirectory(caller, newParent);
  if (isDot(name) || isDotDot(name)) throw new PosixError('EBUSY');
  if (isDot(newName) || isDotDot(newName)) throw new PosixError(noReplace ? 'EEXIST' : 'EBUSY');
  core.checkName(name);
  core.checkName(newName);
  const source = core.child(parent, name);
  if (source === undefined) throw new PosixError('ENOENT');
  const target = core.child(newParent, newName);
  if (target === undefined && exchange) throw new PosixError('ENOENT');
  if (target !== undefined && noReplace) throw new PosixError('EEXIST');
  if (parent !== newParent) {
    if (source.isDirectory && isWithin(core, to, source)) throw new PosixError('EINVAL');
    if (target?.isDirectory && isWithin(core, from, target))
      throw new PosixError(exchange ? 'EINVAL' : 'ENOTEMPTY');
  }
  if (source === target) return;
  core.checkRemoval(caller, from, source);
  if (target === undefined) core.checkFreeName(caller, to, newName);
  else checkTarget(core, caller, source, to, target, exchange);
  if (parent !== newParent && core.checkPermissions) {
    // Their ".." changes.
    if (source.isDirectory) core.require(caller, source, MAY_WRITE);
    if (exchange && target!.isDirectory) core.require(caller, target!, MAY_WRITE);
  }
  core.begin();
  try {
    if (exchange) exchangeEntries(core, from, name, source, to, newName, target!);
    else {
      moveEntry(core, from, name, source, to, newName, target);
      if ((flags & RENAME_WHITEOUT) !== 0) addWhiteout(core, caller, from, name);
    }
    core.commit();
  } catch (error) {
    core.abort();
    throw error;
  }
}

function checkTarget(
  core: LiveCore,
  caller: Caller,
  source: Inode,
  to: Inode,
  target: Inode,
  exchange: boolean,
): void {
  core.checkRemoval(caller, to, target);
  if (exchange) return;
  if (source.isDirectory && !target.isDirectory) throw new PosixError('ENOTDIR');
  if (!source.isDirectory && target.isDirectory) throw new PosixError('EISDIR');
  if (target.isDirectory && !core.isEmptyDirectory(target.inode)) throw new PosixError('ENOTEMPTY');
}

/** Whether `directory` is `ancestor` or lies below it. */
function isWithin(core: LiveCore, directory: Inode, ancestor: Inode): boolean {
  let steps = core.state.counters.inodes;
  for (let at = directory; at.inode !== ROOT_INODE; at = core.load(at.parent)) {
    if (at.inode === ancestor.inode) return true;
    if (steps-- < 0) {
      throw new LsnfsError('CORRUPT_RECORD', `the parents of directory ${directory.inode} form a circle`, {
        inode: directory.inode,
      });
    }
  }
  return ancestor.inode === ROOT_INODE;
}

function moveEntry(
  core: LiveCore,
  from: Inode,
  name: Uint8Array,
  source: Inode,
  to: Inode,
  newName: Uint8Array,
  target: Inode | undefined,
): void {
  if (target === undefined) core.addEntry(to, newName, source);
  else {
    core.putEntry(to, newName, source);
    core.touchContent(to);
    // A directory takes the place, and so the link, of a directory.
    core.dropLink(target);
  }
  core.removeEntry(from, name, source);
  if (source.isDirectory) source.parent = to.inode;
  core.touchStatus(source);
  core.putInode(source);
  core.putInode(from);
  if (to !== from) core.putInode(to);
}

function addWhiteout(core: LiveCore, caller: Caller, directory: Inode, name: Uint8Array): void {
  const whiteout = core.newInode(caller, directory, S_IFCHR);
  core.addEntry(directory, name, whiteout);
  core.putInode(whiteout);
  core.putInode(directory);
}

function exchangeEntries(
  core: LiveCore,
  from: Inode,
  name: Uint8Array,
  source: Inode,
  to: Inode,
  newName: Uint8Array,
  target: Inode,
): void {
  core.putEntry(from, name, target);
  core.putEntry(to, newName, source);
  core.directoryMoves++;
  if (source.isDirectory) {
    from.links--;
    to.links++;
    source.parent = to.inode;
  }
  if (target.isDirectory) {
    to.links--;
    from.links++;
    target.parent = from.inode;
  }
  core.touchContent(from);
  core.touchContent(to);
  core.touchStatus(source);
  core.touchStatus(target);
  core.putInode(source);
  core.putInode(target);
  core.putInode(from);
  if (to !== from) core.putInode(to);
}
