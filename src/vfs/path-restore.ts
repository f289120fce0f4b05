/**
 * Restoring what is at some paths, as one operation: afterwards everything at and below each path is what it was in a
 * past state, and nothing else has changed, but for the directory that holds a path.
 *
 * Files are known by inode numbers. An inode that the past had below the paths and that is below them now, or is
 * gone, gets its old record, attributes and content (TAKE), under its old number: who has it open sees that. One that
 * was moved out of the paths since stays where it is as it is, and the path gets a copy: a page has one owner.
 * What is below the paths now and was not then loses its name there; with its last name it goes, as after unlink(2).
 *
 * The plan is made before anything is changed. It follows the inodes that differ between the two states, upwards to the
 * paths (`marks`), and then the marked names downwards. So its cost follows what has changed, not what there is.
 */
import { getU64BE } from '../encoding/bytes.ts';
import { DIRENT_MAX, direntInode, encodeDirent } from '../encoding/dirent.ts';
import { type InodeRecord, inlineMax } from '../encoding/inode.ts';
import { NAME_MAX, namespaceKey, TREE } from '../encoding/keys.ts';
import { PosixError } from '../errors.ts';
import { changedInodes, linksOf, recordOf } from '../history/changes.ts';
import { childOf, namesOfPath } from '../history/state-path.ts';
import type { RestorableState, StateReader } from '../store/state.ts';
import type { Content } from './content.ts';
import { isDotDot } from './core.ts';
import { ROOT_INODE } from './file-system.ts';
import { Inode } from './inode-cache.ts';
import { ENTRY_OVERHEAD, type LiveCore } from './live-core.ts';
import { type ClientChanges, restoreBy } from './restore.ts';
import { eachXattrName, readXattr, writeXattr } from './xattr-store.ts';

const COPY_BYTES = 1 << 20;

interface Link {
  readonly directory: number;
  readonly name: Buffer;
  readonly inode: number;
  /** What is to be there, of a link whose directory is still to be made. */
  readonly goal?: Goal;
}

/** The place of a path in both states: the directory that holds its last name, 0 where there is none. */
interface Goal {
  readonly past: number;
  readonly now: number;
  readonly name: Buffer;
  /** The deepest directory above that there is now. */
  readonly above: number;
  /** Directories between that and the path that the past had and that are missing now, from the top. */
  readonly missing: readonly { readonly name: Buffer; readonly past: number }[];
}

export interface PathRestorePlan {
  readonly past: StateReader;
  /** Inodes that get what the past has of them. */
  readonly updates: ReadonlySet<number>;
  readonly detach: readonly Link[];
  readonly attach: readonly Link[];
  /** `inode` is one of the past, which lives elsewhere now. */
  readonly copies: readonly Link[];
  readonly isEmpty: boolean;
}

/** The names of a path. @throws PosixError EINVAL for "..", ENAMETOOLONG */
function namesOf(path: Buffer): Buffer[] {
  const names = namesOfPath(path);
  for (const name of names) {
    if (isDotDot(name)) throw new PosixError('EINVAL', 'a path with ".."');
    if (name.length > NAME_MAX) throw new PosixError('ENAMETOOLONG');
  }
  return names;
}

function linkOf(key: Buffer, inode: number): Link {
  return { directory: getU64BE(key, 0), name: key.subarray(8), inode };
}

function textOf({ directory, name }: { directory: number; name: Buffer }): string {
  return `${directory}/${name.toString('latin1')}`;
}

/** Which directories of a state are at or below the goals. */
class Inside {
  private readonly state: StateReader;
  private readonly goals: Set<string>;
  private readonly isAll: boolean;
  private readonly known = new Map<number, boolean>();

  constructor(state: StateReader, goals: readonly { directory: number; name: Buffer }[], isAll: boolean) {
    this.state = state;
    this.goals = new Set(goals.map(textOf));
    this.isAll = isAll;
  }

  isGoal(link: Link): boolean {
    return this.goals.has(textOf(link));
  }

  hasLink(link: Link): boolean {
    return this.isAll || this.isGoal(link) || this.hasDirectory(link.directory);
  }

  private hasDirectory(directory: number): boolean {
    const passed: number[] = [];
    let at = directory;
    let found: boolean | undefined;
    while (found === undefined) {
      found = this.known.get(at);
      if (found !== undefined) break;
      passed.push(at);
      const key = at === ROOT_INODE ? undefined : linksOf(this.state, at)[0];
      if (key === undefined) found = false;
      else {
        const link = linkOf(key, at);
        if (this.isGoal(link)) found = true;
        at = link.directory;
      }
    }
    for (const one of passed) this.known.set(one, found);
    return found;
  }
}

/** Finds what has to be done. @throws PosixError ENOENT when a path exists in neither state */
export function planPathRestore(
  live: RestorableState,
  past: StateReader,
  paths: readonly Buffer[],
): PathRestorePlan {
  const lists = paths.map(namesOf);
  const isAll = lists.some((names) => names.length === 0);
  const goals = isAll ? [] : withoutNested(lists).map((names) => goalOf(live, past, names));
  const inside = (state: StateReader, which: 'past' | 'now'): Inside =>
    new Inside(
      state,
      goals.map((goal) => ({ directory: goal[which], name: goal.name })),
      isAll,
    );
  const sides = [
    { state: past, inside: inside(past, 'past') },
    { state: live as StateReader, inside: inside(live, 'now') },
  ];
  const now = sides[1]!.inside;
  const changed = new Set<number>();
  for (const inode of changedInodes(past, live)) if (inode !== undefined) changed.add(inode);
  const marks = markChanged(changed, sides, isAll);

  const updates = new Set<number>();
  const detach: Link[] = [];
  const attach: Link[] = [];
  const copies: Link[] = [];
  const work: { past: number; now: number; name: Buffer; goal?: Goal }[] = goals.map((goal) => {
    const { past: before, now: present, name, missing } = goal;
    return { past: before, now: present, name, ...(missing.length > 0 && { goal }) };
  });
  const descend = (inode: number): void => {
    for (const name of marks.get(inode)?.values() ?? []) work.push({ past: inode, now: inode, name });
  };
  if (isAll) {
    // Before the first transaction there was not even a root: it stays, and is empty.
    if (changed.has(ROOT_INODE) && recordOf(past, ROOT_INODE) !== undefined) updates.add(ROOT_INODE);
    descend(ROOT_INODE);
  }
  for (let next = work.pop(); next !== undefined; next = work.pop()) {
    const { name } = next;
    const wanted = childOf(past, next.past, name);
    const found = childOf(live, next.now, name);
    if (found !== 0 && found !== wanted) detach.push({ directory: next.now, name, inode: found });
    if (wanted === 0) continue;
    const link = { directory: next.now, name, inode: wanted, ...(next.goal && { goal: next.goal }) };
    if (found !== wanted) {
      const links = linksOf(live, wanted);
      if (links.length > 0 && !links.some((key) => now.hasLink(linkOf(key, wanted)))) {
        copies.push(link);
        continue;
      }
      attach.push(link);
    }
    if (changed.has(wanted)) updates.add(wanted);
    descend(wanted);
  }
  const isEmpty = updates.size + detach.length + attach.length + copies.length === 0;
  return { past, updates, detach, attach, copies, isEmpty };
}

/** Leaves out paths that lie at or below another one. */
function withoutNested(lists: readonly Buffer[][]): Buffer[][] {
  const sorted = lists.toSorted((a, b) => a.length - b.length);
  const kept: Buffer[][] = [];
  for (const names of sorted) {
    if (!kept.some((above) => above.every((name, i) => name.equals(names[i]!)))) kept.push(names);
  }
  return kept;
}

function goalOf(live: StateReader, past: StateReader, names: readonly Buffer[]): Goal {
  const name = names.at(-1)!;
  const missing: { name: Buffer; past: number }[] = [];
  let before = ROOT_INODE;
  let now = ROOT_INODE;
  for (const above of names.slice(0, -1)) {
    before = childOf(past, before, above);
    const next = missing.length > 0 ? 0 : childOf(live, now, above);
    if (next !== 0) {
      now = next;
      if (recordOf(live, now)?.isDirectory !== true) throw new PosixError('ENOTDIR', above.toString());
    } else missing.push({ name: above, past: before });
  }
  const isThen = childOf(past, before, name) !== 0;
  const isNow = missing.length === 0 && childOf(live, now, name) !== 0;
  if (!isThen && !isNow) {
    const path = names.map((part) => `/${part.toString()}`).join('');
    throw new PosixError('ENOENT', `${path} exists neither in the state that is restored nor now`);
  }
  return {
    past: before,
    now: missing.length > 0 ? 0 : now,
    name,
    above: now,
    missing: isThen ? missing : [],
  };
}

/** The names to look at in each directory: those that lead to what has changed. */
function markChanged(
  changed: ReadonlySet<number>,
  sides: readonly { state: StateReader; inside: Inside }[],
  isAll: boolean,
): Map<number, Map<string, Buffer>> {
  const marks = new Map<number, Map<string, Buffer>>();
  const mark = ({ directory, name }: Link): void => {
    let names = marks.get(directory);
    if (names === undefined) {
      names = new Map();
      marks.set(directory, names);
    }
    names.set(name.toString('latin1'), name);
  };
  for (const { state, inside } of sides) {
    const climbed = new Set<number>([ROOT_INODE]);
    for (const inode of changed) {
      for (const key of linksOf(state, inode)) {
        let link = linkOf(key, inode);
        if (!inside.hasLink(link)) continue;
        mark(link);
        while ((isAll || !inside.isGoal(link)) && !climbed.has(link.directory)) {
          climbed.add(link.directory);
          const above = linksOf(state, link.directory)[0];
          if (above === undefined) break;
          link = linkOf(above, link.directory);
          mark(link);
        }
      }
    }
  }
  return marks;
}

/** Does what was planned. Nothing may have been changed since. */
export function restorePaths(
  core: LiveCore,
  content: Content,
  live: RestorableState,
  plan: PathRestorePlan,
): ClientChanges {
  return restoreBy(core, live, () => {
    live.restoreFrom(plan.past.lsn);
    for (const inode of plan.updates) live.takeInode(inode);
    core.forget();
    new PathRestore(core, content, live, plan).run();
  });
}

class PathRestore {
  private readonly core: LiveCore;
  private readonly content: Content;
  private readonly live: RestorableState;
  private readonly plan: PathRestorePlan;
  private readonly dirent = Buffer.alloc(DIRENT_MAX);
  /** Directories whose records count what they hold already. */
  private readonly settled = new Set<number>();
  /** Copies by the inode that they are copies of. */
  private readonly copied = new Map<number, number>();

  constructor(core: LiveCore, content: Content, live: RestorableState, plan: PathRestorePlan) {
    this.core = core;
    this.content = content;
    this.live = live;
    this.plan = plan;
    for (const inode of plan.updates) this.settled.add(inode);
  }

  run(): void {
    const { plan } = this;
    const placed = (link: Link): Link =>
      link.goal === undefined ? link : { ...link, directory: this.makeParents(link.goal) };
    const attached = plan.attach.map(placed);
    const copies = plan.copies.map(placed);
    for (const link of plan.detach) this.takeAway(link);
    for (const link of attached) this.put(link, recordOf(this.live, link.inode)!.mode);
    for (const link of copies) this.copy(link);
    const restored = new Set([...plan.updates, ...attached.map(({ inode }) => inode)]);
    for (const { inode } of plan.detach) this.clearAway(inode, restored);
    for (const inode of restored) this.settle(inode);
  }

  /** Makes the directories above a path that are missing, as the past had them. Returns the last. */
  private makeParents(goal: Goal): number {
    let directory = goal.above;
    for (const { name, past } of goal.missing) {
      const found = childOf(this.live, directory, name);
      if (found !== 0) {
        directory = found;
        continue;
      }
      const inode = this.emptyDirectory(past);
      inode.parent = directory;
      inode.links = 2;
      inode.size = 0;
      this.core.putInode(inode);
      this.put({ directory, name, inode: inode.inode }, inode.mode);
      directory = inode.inode;
    }
    return directory;
  }

  /** A directory with the attributes of one of the past: that one again, unless it lives elsewhere now. */
  private emptyDirectory(past: number): Inode {
    const { core, live, plan } = this;
    if (linksOf(live, past).length > 0) return this.copyRecord(past, recordOf(plan.past, past)!);
    live.takeInode(past);
    core.forget();
    if (core.orphans.has(past)) core.deleteOrphan(past);
    return core.load(past);
  }

  /** Changes the count of a directory that is not the past's. */
  private count(link: Link, isDirectory: boolean, by: 1 | -1): void {
    if (this.settled.has(link.directory)) return;
    const directory = this.core.find(link.directory);
    if (directory === undefined) return;
    directory.size += by * (link.name.length + ENTRY_OVERHEAD);
    if (isDirectory) directory.links += by;
    this.core.touchContent(directory);
    this.core.putInode(directory);
  }

  private takeAway(link: Link): void {
    const isDirectory = recordOf(this.live, link.inode)?.isDirectory === true;
    this.live.delete(TREE.namespace, namespaceKey(link.directory, link.name));
    this.count(link, isDirectory, -1);
  }

  private put(link: Link, mode: number): void {
    const length = encodeDirent(this.dirent, link.inode, mode);
    this.live.put(TREE.namespace, namespaceKey(link.directory, link.name), this.dirent.subarray(0, length));
    this.count(link, (mode & 0o170000) === 0o040000, 1);
  }

  /** Links and parent of an inode that was restored are what its names are now. */
  private settle(number: number): void {
    const { core, live } = this;
    const inode = core.load(number);
    const links = number === ROOT_INODE ? [] : linksOf(live, number);
    if (links.length === 0) return;
    if (core.orphans.has(number)) core.deleteOrphan(number);
    if (inode.isDirectory) {
      const parent = getU64BE(links[0]!, 0);
      if (inode.parent === parent) return;
      inode.parent = parent;
    } else {
      if (inode.links === links.length) return;
      inode.links = links.length;
    }
    core.putInode(inode);
  }

  /** What has lost its last name goes, and all that is below it. What was restored keeps its times. */
  private clearAway(number: number, restored: ReadonlySet<number>): void {
    const { core, live } = this;
    const work = [number];
    for (let next = work.pop(); next !== undefined; next = work.pop()) {
      const inode = core.find(next);
      if (inode === undefined || core.orphans.has(next)) continue;
      const links = linksOf(live, next).length;
      if (links > 0) {
        if (inode.isDirectory || inode.links === links || restored.has(next)) continue;
        inode.links = links;
        core.touchStatus(inode);
        core.putInode(inode);
        continue;
      }
      if (inode.isDirectory) {
        for (const { name, inode: child } of this.entriesOf(live, next)) {
          live.delete(TREE.namespace, namespaceKey(next, name));
          work.push(child);
        }
        inode.size = 0;
      } else inode.links = 1;
      core.dropLink(inode);
    }
  }

  private entriesOf(state: StateReader, directory: number): Link[] {
    const prefix = namespaceKey(directory, Buffer.alloc(0));
    const entries: Link[] = [];
    const cursor = state.namespace.cursor();
    for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.next()) {
      const { key, value } = cursor;
      entries.push({
        directory,
        name: Buffer.from(key.subarray(8)),
        inode: direntInode(value, 0, value.length),
      });
    }
    return entries;
  }

  /** Copies what the past has under a link, and all that is below it. */
  private copy(top: Link): void {
    const { core, plan } = this;
    const work = [top];
    for (let link = work.pop(); link !== undefined; link = work.pop()) {
      const record = recordOf(plan.past, link.inode)!;
      const known = this.copied.get(link.inode);
      if (known !== undefined && !record.isDirectory) {
        this.put({ ...link, inode: known }, record.mode);
        const inode = core.load(known);
        inode.links++;
        core.putInode(inode);
        continue;
      }
      const inode = this.copyRecord(link.inode, record);
      this.copied.set(link.inode, inode.inode);
      if (record.isDirectory) {
        inode.parent = link.directory;
        this.settled.add(inode.inode);
        for (const entry of this.entriesOf(plan.past, link.inode)) {
          work.push({ ...entry, directory: inode.inode });
        }
      } else {
        inode.links = 1;
        if (record.isRegular || record.isSymlink) this.copyContent(link.inode, record, inode);
      }
      core.putInode(inode);
      this.put({ ...link, inode: inode.inode }, record.mode);
    }
  }

  /** A new inode with the attributes of one of the past, and no content. The record is the caller's to put. */
  private copyRecord(number: number, record: Readonly<InodeRecord>): Inode {
    const { live, core } = this;
    const { past } = this.plan;
    const inode = new Inode(live.allocateInode(), live.pageSize);
    const { content: _content, pages: _pages, ...attributes } = record;
    Object.assign(inode, attributes);
    eachXattrName(past, number, (name) => {
      writeXattr(live, inode.inode, name, readXattr(past, number, name)!);
    });
    core.cache.add(inode);
    return inode;
  }

  private copyContent(number: number, record: Readonly<InodeRecord>, inode: Inode): void {
    const { live, content } = this;
    const { past } = this.plan;
    if (record.content !== null) {
      inode.content = Buffer.alloc(inlineMax(live.pageSize));
      record.content.copy(inode.content, 0, 0, record.size);
      return;
    }
    const piece = Buffer.allocUnsafe(COPY_BYTES);
    for (let at = past.seekData(number, 0); at >= 0 && at < record.size; at = past.seekData(number, at)) {
      const end = Math.min(record.size, past.seekHole(number, at));
      while (at < end) {
        const length = Math.min(piece.length, end - at);
        past.readData(number, at, piece, 0, length);
        content.write(inode, at, piece, 0, length);
        at += length;
      }
    }
    inode.size = record.size;
  }
}
