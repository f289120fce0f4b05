/**
 * What changed between two states, as paths.
 *
 * Only the inode trees are compared: an inode's record, attributes, extents and links (its directory entries, seen from
 * its side) stand together there, so that one pass over what differs gives, inode by inode, all that happened to it. Names
 * are found by its links, upwards to the root. So the cost follows the changes, whatever the size of the store.
 *
 * An inode number is never used twice: the same number in both states is the same file. Entries that it lost and
 * entries that it got are renames as far as they pair up. What lies below a renamed directory has not changed, and is
 * not listed; a path of the later state is given as it is there. A change of nothing but access times is none.
 */
import { type DiffRange, diffTrees } from '../btree/diff.ts';
import { getU64BE } from '../encoding/bytes.ts';
import { decodeExtent, type Extent, extentPage, UNWRITTEN } from '../encoding/extent.ts';
import { decodeInode, FLAG_INLINE, InodeRecord } from '../encoding/inode.ts';
import {
  extentKeyBlock,
  inodeKey,
  KIND_EXTENT,
  KIND_INODE,
  KIND_LINK,
  KIND_ORPHAN,
  KIND_XATTR,
  keyInode,
  TREE,
} from '../encoding/keys.ts';
import { isTemporary } from '../encoding/page.ts';
import { LsnfsError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';

const ROOT_INODE = 1;
const SLASH = Buffer.from('/');
/** Blocks of two files that are compared at a time. */
const COMPARE_BLOCKS = 64;
/** Differing keys that are looked at before something is yielded. */
const DIFFERENCES_AT_A_TIME = 256;

export type Aspect = 'content' | 'size' | 'entries' | 'mode' | 'owner' | 'times' | 'links' | 'xattrs';

export interface Change {
  /** As `zfs diff` has them: added, removed, modified, renamed. */
  readonly kind: '+' | '-' | 'M' | 'R';
  /** Where it is now; of what was removed, where it was. */
  readonly path: Buffer;
  /** Of what is in both states: where it was. Below a renamed directory that differs although nothing else does. */
  readonly from?: Buffer;
  readonly inode: number;
  /** What changed in a file that is in both states. */
  readonly aspects: readonly Aspect[];
  readonly before?: InodeRecord;
  readonly after?: InodeRecord;
}

/** Two extents of the same blocks, or one that only one state has. */
interface ExtentPair {
  before?: Extent;
  after?: Extent;
}

/** What differs of one inode. */
interface Touched {
  inode: number;
  record: boolean;
  links: boolean;
  xattrs: boolean;
  extents: ExtentPair[];
}

/**
 * Yields what changed, in order of inode numbers; and undefined in between, after a piece of work of a millisecond or
 * so without a change to tell, so that whoever has other things to do can do them.
 */
export function* changesBetween(before: StateReader, after: StateReader): Generator<Change | undefined> {
  const paths = { before: new PathFinder(before), after: new PathFinder(after) };
  for (const touched of touchedInodes(before, after)) {
    if (touched === undefined) yield undefined;
    else yield* changesOf(before, after, touched, paths);
  }
}

/**
 * Yields the inodes that are not the same in both states: their content, attributes or entries differ, also when they
 * only changed places so that their paths stayed; undefined in between, as `changesBetween`.
 */
export function* changedInodes(before: StateReader, after: StateReader): Generator<number | undefined> {
  for (const touched of touchedInodes(before, after)) {
    if (touched === undefined) {
      yield undefined;
      continue;
    }
    const { inode } = touched;
    const old = recordOf(before, inode);
    const now = recordOf(after, inode);
    const isChanged =
      touched.links ||
      old === undefined ||
      now === undefined ||
      (yield* aspectsOf(before, after, touched, old, now)).length > 0;
    if (isChanged) yield inode;
  }
}

/** In what an inode differs that both states have, as `changesBetween` says it; only its own keys are compared. */
export function* aspectsBetween(
  before: StateReader,
  after: StateReader,
  inode: number,
): Generator<undefined, Aspect[]> {
  const range = { gte: inodePrefix(inode), lt: inodePrefix(inode + 1) };
  const old = recordOf(before, inode)!;
  const now = recordOf(after, inode)!;
  let found: Touched = { inode, record: false, links: false, xattrs: false, extents: [] };
  for (const touched of touchedInodes(before, after, range)) {
    if (touched === undefined) yield undefined;
    else found = touched;
  }
  return yield* aspectsOf(before, after, found, old, now);
}

/** Groups what differs in the inode trees by inode; undefined now and then. */
function* touchedInodes(
  before: StateReader,
  after: StateReader,
  range: DiffRange = {},
): Generator<Touched | undefined> {
  let touched: Touched | undefined;
  let count = 0;
  for (const { key, before: old, after: now } of diffTrees(before.inodes, after.inodes, TREE.inodes, {
    ...range,
    isPrivate: isUnplacedExtent,
  })) {
    const inode = keyInode(key);
    const kind = key[8]!;
    if (++count % DIFFERENCES_AT_A_TIME === 0) yield undefined;
    if (kind === KIND_ORPHAN && inode === 0) continue;
    if (touched?.inode !== inode) {
      if (touched !== undefined) yield touched;
      touched = { inode, record: false, links: false, xattrs: false, extents: [] };
    }
    if (kind === KIND_INODE) touched.record = true;
    else if (kind === KIND_LINK) touched.links = true;
    else if (kind === KIND_XATTR) touched.xattrs = true;
    else if (kind === KIND_EXTENT) {
      const block = extentKeyBlock(key);
      const decode = (value: Buffer): Extent => decodeExtent(block, value, 0, value.length);
      touched.extents.push({
        ...(old !== undefined && { before: decode(old) }),
        ...(now !== undefined && { after: decode(now) }),
      });
    }
  }
  if (touched !== undefined) yield touched;
}

/** Data that no checkpoint has written yet is in pages of the state's own, which change in place. */
function isUnplacedExtent(key: Buffer, value: Buffer): boolean {
  return key[8] === KIND_EXTENT && isTemporary(extentPage(value, 0));
}

function* changesOf(
  before: StateReader,
  after: StateReader,
  touched: Touched,
  paths: { before: PathFinder; after: PathFinder },
): Generator<Change | undefined> {
  const { inode } = touched;
  const old = recordOf(before, inode);
  const now = recordOf(after, inode);
  const oldLinks = old === undefined ? [] : linksOf(before, inode);
  const nowLinks = now === undefined ? [] : linksOf(after, inode);
  const isInBoth =
    old !== undefined &&
    now !== undefined &&
    (inode === ROOT_INODE || (oldLinks.length > 0 && nowLinks.length > 0));
  const aspects = isInBoth ? yield* aspectsOf(before, after, touched, old, now) : [];
  // A file may have tens of thousands of links.
  const oldKeys = new Set(oldLinks.map(keyText));
  const nowKeys = new Set(nowLinks.map(keyText));
  const gone = oldLinks
    .filter((link) => !nowKeys.has(keyText(link)))
    .map((link) => paths.before.ofLink(link));
  const come = nowLinks.filter((link) => !oldKeys.has(keyText(link))).map((link) => paths.after.ofLink(link));
  const records = { ...(old !== undefined && { before: old }), ...(now !== undefined && { after: now }) };
  const modified = (path: Buffer, from: Buffer): Change => ({
    kind: 'M',
    path,
    from,
    inode,
    aspects,
    ...records,
  });
  // An entry of a new directory at the path of the old one is where it was.
  const gonePaths = new Set(gone.map(keyText));
  const stayed = new Set(come.map(keyText).filter((path) => gonePaths.has(path)));
  const hasMoved = (path: Buffer): boolean => !stayed.has(keyText(path));
  if (aspects.length > 0) for (const path of come) if (!hasMoved(path)) yield modified(path, path);
  const left = gone.filter(hasMoved);
  const taken = come.filter(hasMoved);
  const renames = Math.min(left.length, taken.length);
  for (let i = 0; i < renames; i++) {
    yield { kind: 'R', path: taken[i]!, from: left[i]!, inode, aspects, ...records };
  }
  for (const path of left.slice(renames)) yield { kind: '-', path, inode, aspects: [], ...records };
  for (const path of taken.slice(renames)) yield { kind: '+', path, inode, aspects: [], ...records };
  if (aspects.length === 0) return;
  for (const link of nowLinks) {
    if (oldKeys.has(keyText(link))) yield modified(paths.after.ofLink(link), paths.before.ofLink(link));
  }
  if (inode === ROOT_INODE) yield modified(SLASH, SLASH);
}

/** Bytes as a key of a set. */
function keyText(bytes: Buffer): string {
  return bytes.toString('latin1');
}

function* aspectsOf(
  before: StateReader,
  after: StateReader,
  touched: Touched,
  old: InodeRecord,
  now: InodeRecord,
): Generator<undefined, Aspect[]> {
  const aspects: Aspect[] = [];
  if (now.isDirectory) {
    if (hasOtherEntries(before, after, touched.inode)) aspects.push('entries');
  } else {
    if (yield* isContentChanged(before, after, touched, old, now)) aspects.push('content');
    if (old.size !== now.size) aspects.push('size');
    if (old.links !== now.links) aspects.push('links');
  }
  aspects.push(...attributeAspects(old, now, touched.xattrs));
  return aspects;
}

/** What of the attributes that every type of file has is different; of the xattrs it is known. */
export function attributeAspects(old: InodeRecord, now: InodeRecord, xattrs: boolean): Aspect[] {
  const aspects: Aspect[] = [];
  if (((old.mode ^ now.mode) & 0o7777) !== 0) aspects.push('mode');
  if (old.uid !== now.uid || old.gid !== now.gid) aspects.push('owner');
  if (xattrs) aspects.push('xattrs');
  if (hasNewTimes(old, now, 'modify') || hasNewTimes(old, now, 'change')) aspects.push('times');
  return aspects;
}

/** Whether a directory lists other names, or other files under them. Looks no further than the first. */
function hasOtherEntries(before: StateReader, after: StateReader, directory: number): boolean {
  const range = { gte: inodePrefix(directory), lt: inodePrefix(directory + 1) };
  const differences = diffTrees(before.namespace, after.namespace, TREE.namespace, range);
  return differences.next().done !== true;
}

function inodePrefix(inode: number): Buffer {
  return inodeKey(inode).subarray(0, 8);
}

function hasNewTimes(old: InodeRecord, now: InodeRecord, which: 'modify' | 'change'): boolean {
  return (
    old[`${which}Seconds`] !== now[`${which}Seconds`] ||
    old[`${which}Nanoseconds`] !== now[`${which}Nanoseconds`]
  );
}

function* isContentChanged(
  before: StateReader,
  after: StateReader,
  touched: Touched,
  old: InodeRecord,
  now: InodeRecord,
): Generator<undefined, boolean> {
  if (old.size !== now.size) return true;
  const wasInline = (old.flags & FLAG_INLINE) !== 0;
  const isInline = (now.flags & FLAG_INLINE) !== 0;
  if (wasInline && isInline) {
    return old.size > 0 && old.content!.compare(now.content!, 0, old.size, 0, old.size) !== 0;
  }
  if (wasInline || isInline)
    return !(yield* isSameContent(before, after, old, now, touched.inode, 0, old.size));
  const { pageSize } = before;
  for (const pair of touched.extents) {
    if (hasOtherChecksums(pair, Math.floor(old.size / pageSize))) return true;
    for (const extent of [pair.before, pair.after]) {
      if (extent === undefined) continue;
      const start = extent.block * pageSize;
      const end = Math.min(old.size, start + extent.count * pageSize);
      if (start < end && !(yield* isSameContent(before, after, old, now, touched.inode, start, end)))
        return true;
    }
  }
  return false;
}

/**
 * Whether the checksums alone say that the data below block `end` differs, where the file has whole blocks. Pages that
 * no checkpoint has written have no checksums.
 */
function hasOtherChecksums({ before, after }: ExtentPair, end: number): boolean {
  if (before === undefined || after === undefined) return false;
  for (const { page } of [before, after]) if (page === UNWRITTEN || isTemporary(page)) return false;
  const count = Math.min(before.count, after.count, end - before.block);
  for (let i = 0; i < count; i++) if (before.checksums[i] !== after.checksums[i]) return true;
  return false;
}

/** Compares a range of two files of the same size; what is a hole in both is passed over. */
export function* isSameContent(
  before: StateReader,
  after: StateReader,
  old: InodeRecord,
  now: InodeRecord,
  inode: number,
  start: number,
  end: number,
): Generator<undefined, boolean> {
  const step = COMPARE_BLOCKS * before.pageSize;
  const first = Buffer.alloc(Math.min(step, end - start));
  const second = Buffer.alloc(first.length);
  let at = start;
  for (;;) {
    at = Math.min(nextData(before, old, inode, at), nextData(after, now, inode, at));
    if (at >= end) return true;
    const length = Math.min(step, end - at);
    readContent(before, old, inode, at, first, length);
    readContent(after, now, inode, at, second, length);
    if (first.compare(second, 0, length, 0, length) !== 0) return false;
    at += length;
    yield undefined;
  }
}

/** The first offset from `at` on that may not read as zero; Infinity when there is none. */
function nextData(state: StateReader, record: InodeRecord, inode: number, at: number): number {
  if ((record.flags & FLAG_INLINE) !== 0) return at < record.size ? at : Number.POSITIVE_INFINITY;
  const found = state.seekData(inode, at);
  return found < 0 ? Number.POSITIVE_INFINITY : found;
}

function readContent(
  state: StateReader,
  record: InodeRecord,
  inode: number,
  offset: number,
  target: Buffer,
  length: number,
): void {
  if ((record.flags & FLAG_INLINE) !== 0) record.content!.copy(target, 0, offset, offset + length);
  else state.readData(inode, offset, target, 0, length);
}

/** The record of an inode, or undefined when the state has none. */
export function recordOf(state: StateReader, inode: number): InodeRecord | undefined {
  const { inodes } = state;
  if (!inodes.find(inodeKey(inode))) return undefined;
  const record = new InodeRecord();
  decodeInode(record, inode, inodes.page.bytes, inodes.valueStart, inodes.valueLength);
  return record;
}

/** The entries that mean an inode: keys of the namespace tree. */
export function linksOf(state: StateReader, inode: number): Buffer[] {
  const prefix = inodeKey(inode);
  prefix[8] = KIND_LINK;
  const links: Buffer[] = [];
  const cursor = state.inodes.cursor();
  for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.next()) {
    links.push(Buffer.from(cursor.key.subarray(9)));
  }
  return links;
}

/** Finds paths in a state, upwards from an entry. */
export class PathFinder {
  private readonly state: StateReader;
  private readonly directories = new Map<number, Buffer>([[ROOT_INODE, Buffer.alloc(0)]]);

  constructor(state: StateReader) {
    this.state = state;
  }

  /** The absolute path of an entry, given by its key in the namespace tree. @throws LsnfsError CORRUPT_RECORD */
  ofLink(link: Buffer): Buffer {
    return Buffer.concat([this.ofDirectory(getU64BE(link, 0)), SLASH, link.subarray(8)]);
  }

  /** The path of a directory without a slash at its end: of the root it is empty. */
  private ofDirectory(inode: number): Buffer {
    const chain: Buffer[] = [];
    let at = inode;
    let path = this.directories.get(at);
    let steps = this.state.counters.inodes;
    const passed: number[] = [];
    while (path === undefined) {
      const link = linksOf(this.state, at)[0];
      if (link === undefined || steps-- < 0) {
        throw new LsnfsError('CORRUPT_RECORD', `directory ${at} does not lead to the root`, { inode: at });
      }
      passed.push(at);
      chain.push(link.subarray(8));
      at = getU64BE(link, 0);
      path = this.directories.get(at);
    }
    for (let i = chain.length - 1; i >= 0; i--) {
      path = Buffer.concat([path, SLASH, chain[i]!]);
      this.directories.set(passed[i]!, path);
    }
    return path;
  }
}
