/**
 * Verifies what the items of a state say about each other: each part is judged by itself, and then the parts must
 * agree. (That pages are intact and reachable is the store's check.)
 *
 * A state is read once, page by page: the inode tree into columns, one row an inode, then the namespace, which counts
 * what it finds for each inode; then every row is judged. The state of a version beside it is not read again: the
 * structural difference of the two changes the columns, and what it touched is judged. So memory goes by the number
 * of inodes and time by what has changed, however many versions there are.
 *
 * Where pages cannot be read, the state is `partial`: what was read is judged by itself, and nothing is concluded
 * from what was not found. No bad byte can do more than add a problem.
 */
import { walkTree } from '../btree/check.ts';
import { type Difference, diffTrees } from '../btree/diff.ts';
import { getU64BE } from '../encoding/bytes.ts';
import { cellCount, copyKey, valueLength, valueStart } from '../encoding/cells.ts';
import { crc32 } from '../encoding/checksum.ts';
import { direntInode, direntType } from '../encoding/dirent.ts';
import { decodeExtent } from '../encoding/extent.ts';
import {
  decodeInode,
  FLAG_ACCESS_ACL,
  FLAG_CAPABILITY,
  FLAG_DEFAULT_ACL,
  FLAG_INLINE,
  FLAG_PREALLOCATED,
  FLAG_XATTRS,
  InodeRecord,
} from '../encoding/inode.ts';
import {
  inodeKey,
  KEY_MAX,
  KIND_EXTENT,
  KIND_INODE,
  KIND_LINK,
  KIND_ORPHAN,
  KIND_XATTR,
  NAME_MAX,
  namespaceKey,
  TREE,
} from '../encoding/keys.ts';
import { LsnfsError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';
import { parseAcl, permissionsOfAcl } from './acl.ts';
import { InodeTable } from './check-table.ts';
import { ROOT_INODE, S_IFDIR, S_IFMT } from './file-system.ts';
import { ENTRY_OVERHEAD } from './live-core.ts';
import { NAMESPACE, xattrNamespace } from './xattr-rules.ts';
import { readXattr } from './xattr-store.ts';

export interface FileSystemProblem {
  /** The inode concerned, 0 for the state as a whole. */
  readonly inode: number;
  /** What is wrong, a sentence. */
  readonly message: string;
}

/** After so many problems of one state the rest is not worth listing. */
const PROBLEMS_MAX = 1000;
/** Items between two yields. */
const STEP_ITEMS = 512;
const UNREACHABLE = 'the directory cannot be reached from the root';
const XATTR_FLAGS = FLAG_XATTRS | FLAG_ACCESS_ACL | FLAG_DEFAULT_ACL | FLAG_CAPABILITY;
const NO_VALUE = Buffer.alloc(0);
const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');

/** Returns what is wrong with a state; an empty list means that it is sound. */
export function checkFileSystem(state: StateReader): FileSystemProblem[] {
  const check = new StructureCheck();
  for (const _step of check.scan(state));
  const problems: FileSystemProblem[] = [];
  for (const [inode, messages] of check.problems) {
    for (const message of messages) problems.push({ inode, message });
  }
  if (check.isPartial) problems.push({ inode: 0, message: `pages cannot be read: ${check.partialReason}` });
  return problems;
}

/** Judges one state after the other. */
export class StructureCheck {
  /**
   * After `scan`, all that is wrong, by inode; after `advance`, what is wrong now with each inode that was judged
   * again, an empty set if it is sound. Whatever is not in the map is as it was.
   */
  problems = new Map<number, Set<string>>();
  /** Whether pages of the state could not be read. */
  isPartial = false;
  partialReason = '';
  private state!: StateReader;
  private table = new InodeTable();
  private found = 0;
  private inodes = 0;
  private dataPages = 0;
  /** Inodes that had problems when they were last judged. */
  private wrong = new Map<number, Set<string>>();
  /** What is wrong with keys that belong to nobody, by key. */
  private readonly strays = new Map<string, string>();
  private work = 0;
  private readonly key = Buffer.alloc(KEY_MAX);

  // The inode whose items are being read.
  private readonly record = new InodeRecord();
  private current = 0;
  private known = false;
  private pages = 0;
  private nextBlock = 0;
  private lastBlock = -1;
  private xattrFlags = 0;

  /** Reads and judges a whole state. */
  *scan(state: StateReader): Generator<void> {
    this.begin(state);
    this.table = new InodeTable();
    this.inodes = 0;
    this.dataPages = 0;
    this.strays.clear();
    this.isPartial = false;
    // A state before the first transaction has nothing at all.
    if (state.inodes.root.number !== 0 || state.namespace.root.number !== 0) {
      yield* this.scanInodes();
      yield* this.scanNamespace();
      yield* this.judgeAll();
    }
    this.judgeCounters();
    this.wrong = new Map(this.problems);
  }

  /**
   * Goes from the state judged last to another one, by what differs. `scan` must follow if it throws.
   * @throws LsnfsError when a page that differs cannot be read.
   */
  *advance(to: StateReader): Generator<void> {
    const from = this.state;
    this.begin(to);
    const touched = new Set<number>();
    for (const difference of diffTrees(sideOf(from, TREE.inodes), sideOf(to, TREE.inodes), TREE.inodes)) {
      this.changeItem(difference, touched);
      if (this.isDue()) yield;
    }
    for (const difference of diffTrees(
      sideOf(from, TREE.namespace),
      sideOf(to, TREE.namespace),
      TREE.namespace,
    )) {
      this.changeEntry(difference, touched);
      if (this.isDue()) yield;
    }
    for (const inode of touched) {
      this.judgeAgain(inode);
      // It has looked into the trees some times.
      this.work += 8;
      if (this.isDue()) yield;
    }
    for (const [inode, messages] of this.wrong) {
      if (inode === 0 || touched.has(inode) || !messages.has(UNREACHABLE)) continue;
      const now = new Set(messages);
      now.delete(UNREACHABLE);
      this.problems.set(inode, now);
      if (!this.reachesRoot(this.table.find(inode))) now.add(UNREACHABLE);
    }
    this.judgeCounters();
    for (const [inode, messages] of this.problems) {
      if (messages.size === 0) this.wrong.delete(inode);
      else this.wrong.set(inode, messages);
    }
  }

  private begin(state: StateReader): void {
    this.state = state;
    this.problems = new Map();
    this.found = 0;
  }

  private isDue(): boolean {
    if (++this.work < STEP_ITEMS) return false;
    this.work = 0;
    return true;
  }

  private report(inode: number, message: string): void {
    if (this.found++ >= PROBLEMS_MAX) return;
    const messages = this.problems.get(inode);
    if (messages === undefined) this.problems.set(inode, new Set([message]));
    else messages.add(message);
  }

  /** Reports what was thrown, unless it says that a page cannot be read. */
  private reportError(inode: number, error: unknown, what = ''): void {
    if (!(error instanceof LsnfsError)) throw error;
    if (error.code === 'CORRUPT_PAGE' || error.code === 'IO') this.lose(error.message);
    else this.report(inode, what + error.message);
  }

  private lose(why: string): void {
    this.isPartial = true;
    this.partialReason = why;
  }

  private *scanInodes(): Generator<void> {
    const { state, key } = this;
    const { space, root } = state.inodes;
    this.current = 0;
    this.known = false;
    for (const item of walkTree(space, root, TREE.inodes)) {
      if ('message' in item) {
        this.lose(item.message);
        continue;
      }
      if (item.level > 0) continue;
      const { bytes } = item;
      for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
        const length = copyKey(bytes, slot, key, 0);
        this.scanItem(key, length, bytes, valueStart(bytes, slot), valueLength(bytes, slot));
        if (this.isDue()) yield;
      }
    }
    this.finishInode();
  }

  private scanItem(key: Buffer, length: number, bytes: Buffer, start: number, size: number): void {
    const stray = strayItem(key, length);
    if (stray !== undefined) {
      this.strays.set(key.toString('hex', 0, length), stray);
      return;
    }
    const inode = getU64BE(key, 0);
    if (inode === 0) {
      this.table.setOrphan(this.table.row(getU64BE(key, 9)), true);
      return;
    }
    if (inode !== this.current) {
      this.finishInode();
      this.startInode(inode);
    }
    switch (key[8]) {
      case KIND_INODE:
        this.scanRecord(bytes, start, size);
        break;
      case KIND_XATTR:
        this.scanXattr(key, length);
        break;
      case KIND_LINK:
        this.countLink(key, length, 1);
        break;
      default:
        this.scanExtent(getU64BE(key, 9), bytes, start, size);
    }
  }

  /** Entries and links are the same relation, kept twice: their checksums add up to nothing. */
  private countLink(key: Buffer, length: number, sign: 1 | -1): void {
    this.table.addToLinkSum(this.table.row(getU64BE(key, 0)), -sign * crc32(key, 9, length));
  }

  private startInode(inode: number): void {
    this.current = inode;
    this.known = false;
    this.pages = 0;
    this.nextBlock = 0;
    this.lastBlock = -1;
    this.xattrFlags = 0;
  }

  private decodeRecord(inode: number, bytes: Buffer, start: number, size: number): boolean {
    try {
      decodeInode(this.record, inode, bytes, start, size);
      return true;
    } catch (error) {
      this.reportError(inode, error);
      return false;
    }
  }

  private scanRecord(bytes: Buffer, start: number, size: number): void {
    const inode = this.current;
    this.known = this.decodeRecord(inode, bytes, start, size);
    if (!this.known) return;
    this.table.setRecord(this.table.row(inode), this.record);
    this.inodes++;
  }

  private scanXattr(key: Buffer, keyLength: number): void {
    const inode = this.current;
    if (!this.known && !this.isPartial) this.report(inode, 'an extended attribute without an inode');
    if (key[keyLength - 2] !== 0 || key[keyLength - 1] !== 0) return;
    const name = Buffer.from(key.subarray(9, keyLength - 3));
    const text = name.toString('latin1');
    this.xattrFlags |= FLAG_XATTRS;
    if (text === 'system.posix_acl_access') this.xattrFlags |= FLAG_ACCESS_ACL;
    else if (text === 'system.posix_acl_default') this.xattrFlags |= FLAG_DEFAULT_ACL;
    else if (text === 'security.capability') this.xattrFlags |= FLAG_CAPABILITY;
    try {
      const namespace = xattrNamespace(name);
      const value = readXattr(this.state, inode, name);
      if (value !== undefined && this.known) this.judgeXattr(text, namespace, value);
    } catch (error) {
      this.reportError(inode, error, `${text}: `);
    }
  }

  private judgeXattr(name: string, namespace: number, value: Buffer): void {
    const { record, current } = this;
    if (namespace === NAMESPACE.user && !record.isRegular && !record.isDirectory)
      this.report(current, `${name}: an attribute that only files and directories can have`);
    if (namespace !== NAMESPACE.acl) return;
    const acl = parseAcl(value);
    if (acl.length === 0) this.report(current, `${name}: an access control list without entries`);
    else if (name === 'system.posix_acl_default') {
      if (!record.isDirectory) this.report(current, `${name}: only directories can have it`);
    } else if (permissionsOfAcl(acl) !== (record.mode & 0o777)) {
      const said = permissionsOfAcl(acl).toString(8);
      this.report(
        current,
        `${name}: it gives the permissions ${said}, the mode is ${record.mode.toString(8)}`,
      );
    }
  }

  private scanExtent(block: number, bytes: Buffer, start: number, size: number): void {
    const inode = this.current;
    let count: number;
    try {
      count = decodeExtent(block, bytes, start, size).count;
    } catch (error) {
      this.reportError(inode, error);
      return;
    }
    if (!this.known && !this.isPartial) this.report(inode, 'an extent without an inode');
    if (block < this.nextBlock) this.report(inode, `the extent of block ${block} overlaps the one before`);
    this.nextBlock = block + count;
    this.lastBlock = block + count - 1;
    this.pages += count;
    this.dataPages += count;
  }

  /** All items of the current inode were seen. */
  private finishInode(): void {
    if (this.current === 0) return;
    const row = this.pages > 0 || this.known ? this.table.row(this.current) : -1;
    if (row >= 0) this.table.setPages(row, this.pages);
    if (this.known) this.judgeItems(this.current, this.pages, this.lastBlock);
  }

  /** Holds a record (in `record`) against the inode's other items. */
  private judgeItems(inode: number, pages: number, lastBlock: number): void {
    const { record } = this;
    const { nextInode } = this.state.counters;
    if (inode >= nextInode && inode !== ROOT_INODE)
      this.report(inode, `its number is not below the next one to be given, ${nextInode}`);
    if (!this.isPartial && (record.flags & XATTR_FLAGS) !== this.xattrFlags) {
      const said = record.flags & XATTR_FLAGS;
      this.report(inode, `its flags are ${said}, its extended attributes say ${this.xattrFlags}`);
    }
    if (record.isSymlink && record.size === 0) this.report(inode, 'a symbolic link without a target');
    if (pages > 0 && !record.isRegular && !record.isSymlink)
      this.report(inode, 'extents of something that is no file');
    if (pages > 0 && (record.flags & FLAG_INLINE) !== 0) this.report(inode, 'inline content and extents');
    if (!this.isPartial && record.pages !== pages && (record.isRegular || record.isSymlink))
      this.report(inode, `its record counts ${record.pages} pages, its extents ${pages}`);
    const blocks = Math.ceil(record.size / this.state.pageSize);
    if (lastBlock >= blocks && (record.flags & FLAG_PREALLOCATED) === 0)
      this.report(inode, `block ${lastBlock} is mapped past the end of the file at ${record.size}`);
  }

  private *scanNamespace(): Generator<void> {
    const { state, key } = this;
    const { space, root } = state.namespace;
    for (const item of walkTree(space, root, TREE.namespace)) {
      if ('message' in item) {
        this.lose(item.message);
        continue;
      }
      if (item.level > 0) continue;
      const { bytes } = item;
      for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
        const length = copyKey(bytes, slot, key, 0);
        const start = valueStart(bytes, slot);
        this.changeEntryBy(key.subarray(0, length), bytes, start, valueLength(bytes, slot), 1, undefined);
        if (this.isDue()) yield;
      }
    }
  }

  /** Enters a directory entry (`sign` 1) in the counts, or takes it out (-1). */
  private changeEntryBy(
    key: Buffer,
    bytes: Buffer,
    start: number,
    size: number,
    sign: 1 | -1,
    touched: Set<number> | undefined,
  ): void {
    if (key.length < 9 || key.length > 8 + NAME_MAX) {
      const hex = `${key.toString('hex')}`;
      if (sign > 0) this.strays.set(hex, `a key of the namespace has ${key.length} bytes: ${hex}`);
      else this.strays.delete(hex);
      return;
    }
    const parent = getU64BE(key, 0);
    const name = key.subarray(8);
    touched?.add(parent);
    if (sign > 0) this.judgeName(parent, name);
    let inode: number;
    try {
      inode = direntInode(bytes, start, size);
    } catch (error) {
      if (sign > 0) this.reportError(parent, error, `${JSON.stringify(name.toString())}: `);
      this.table.changeEntries(this.table.row(parent), sign, sign * (name.length + ENTRY_OVERHEAD), 0);
      return;
    }
    touched?.add(inode);
    const type = direntType(bytes, start);
    const isDirectory = type === S_IFDIR ? sign : 0;
    this.table.changeEntries(
      this.table.row(parent),
      sign,
      sign * (name.length + ENTRY_OVERHEAD),
      isDirectory,
    );
    this.table.changeMeanings(this.table.row(inode), sign, type, parent);
    this.table.addToLinkSum(this.table.row(inode), sign * crc32(key));
  }

  private judgeName(parent: number, name: Buffer): void {
    if (name.includes(0) || name.includes(0x2f) || name.equals(DOT) || name.equals(DOT_DOT))
      this.report(parent, `the name ${JSON.stringify(name.toString())} is not one`);
  }

  private changeEntry({ key, before, after }: Difference, touched: Set<number>): void {
    if (before !== undefined) this.changeEntryBy(key, before, 0, before.length, -1, touched);
    if (after !== undefined) this.changeEntryBy(key, after, 0, after.length, 1, touched);
  }

  private changeItem({ key, before, after }: Difference, touched: Set<number>): void {
    const { table } = this;
    const stray = strayItem(key, key.length);
    if (stray !== undefined) {
      if (after === undefined) this.strays.delete(key.toString('hex'));
      else this.strays.set(key.toString('hex'), stray);
      return;
    }
    const inode = getU64BE(key, 0);
    if (inode === 0) {
      const orphan = getU64BE(key, 9);
      table.setOrphan(table.row(orphan), after !== undefined);
      touched.add(orphan);
      return;
    }
    touched.add(inode);
    const row = table.row(inode);
    if (key[8] === KIND_INODE) {
      if (table.exists(row)) this.inodes--;
      table.clearRecord(row);
      if (after === undefined || !this.decodeRecord(inode, after, 0, after.length)) return;
      table.setRecord(row, this.record);
      this.inodes++;
    } else if (key[8] === KIND_LINK) {
      if (before !== undefined && after === undefined) this.countLink(key, key.length, -1);
      if (before === undefined && after !== undefined) this.countLink(key, key.length, 1);
    } else if (key[8] === KIND_EXTENT) {
      const change = blocksOf(key, after) - blocksOf(key, before);
      table.setPages(row, table.pages(row) + change);
      this.dataPages += change;
      if (after !== undefined) this.judgeNeighbours(inode, key, after);
    }
  }

  /** An extent that is new must not reach into the next, nor the one before into it. */
  private judgeNeighbours(inode: number, key: Buffer, value: Buffer): void {
    const block = getU64BE(key, 9);
    const count = blocksOf(key, value);
    if (count === 0) {
      this.report(inode, `the extent of block ${block} is damaged: ${value.length} bytes`);
      return;
    }
    const cursor = this.state.inodes.cursor();
    if (cursor.seekBefore(key) && cursor.keyLength === 17) {
      const other = cursor.key;
      if (getU64BE(other, 0) === inode && other[8] === KIND_EXTENT) {
        if (getU64BE(other, 9) + blocksOf(other, cursor.value) > block)
          this.report(inode, `the extent of block ${block} overlaps the one before`);
      }
    }
    if (cursor.seek(key) && cursor.next() && cursor.keyLength === 17) {
      const other = cursor.key;
      if (getU64BE(other, 0) === inode && other[8] === KIND_EXTENT && getU64BE(other, 9) < block + count)
        this.report(inode, `the extent of block ${getU64BE(other, 9)} overlaps the one before`);
    }
  }

  /** Judges an inode of which something has changed. */
  private judgeAgain(inode: number): void {
    const row = this.table.find(inode);
    if (row < 0) return;
    // The tree is read again for what the differences do not show.
    if (this.wrong.has(inode)) this.rescan(inode);
    else this.rescanHead(inode);
    this.judgeRow(row);
    if (this.table.isDirectory(row) && this.table.links(row) > 0 && !this.isPartial && !this.reachesRoot(row))
      this.report(inode, UNREACHABLE);
    if (!this.problems.has(inode)) this.problems.set(inode, new Set());
  }

  /** Reads record and extended attributes of one inode, and where its last extent ends. */
  private rescanHead(inode: number): void {
    const { state, table } = this;
    const cursor = state.inodes.cursor();
    const start = inodeKey(inode);
    this.startInode(inode);
    for (let more = cursor.seek(start); more; more = cursor.next()) {
      const { keyLength, page } = cursor;
      const length = cursor.copyKey(this.key, 0);
      if (keyLength < 9 || getU64BE(this.key, 0) !== inode || this.key[8]! >= KIND_EXTENT) break;
      if (strayItem(this.key, length) !== undefined) continue;
      if (this.key[8] === KIND_XATTR) this.scanXattr(this.key, length);
      else if (this.key[8] === KIND_INODE)
        this.known = this.decodeRecord(inode, page.bytes, cursor.valueStart, cursor.valueLength);
    }
    const end = inodeKey(inode);
    end[8] = KIND_EXTENT + 1;
    if (cursor.seekBefore(end) && cursor.keyLength === 17) {
      const { key } = cursor;
      if (getU64BE(key, 0) === inode && key[8] === KIND_EXTENT)
        this.lastBlock = getU64BE(key, 9) + blocksOf(key, cursor.value) - 1;
    }
    const pages = table.pages(table.row(inode));
    if (this.known) this.judgeItems(inode, pages, this.lastBlock);
    else if (pages > 0) this.report(inode, 'an extent without an inode');
  }

  /** Reads all items of one inode, and the names in it. */
  private rescan(inode: number): void {
    const { state } = this;
    const { dataPages, inodes } = this;
    let cursor = state.inodes.cursor();
    this.startInode(inode);
    for (let more = cursor.seek(inodeKey(inode)); more; more = cursor.next()) {
      const length = cursor.copyKey(this.key, 0);
      if (length < 9 || getU64BE(this.key, 0) !== inode) break;
      // Links were counted when they changed.
      if (strayItem(this.key, length) !== undefined || this.key[8] === KIND_LINK) continue;
      this.scanItem(this.key, length, cursor.page.bytes, cursor.valueStart, cursor.valueLength);
    }
    this.finishInode();
    // They were counted when they changed.
    this.dataPages = dataPages;
    this.inodes = inodes;
    cursor = state.namespace.cursor();
    for (let more = cursor.seek(namespaceKey(inode, NO_VALUE)); more; more = cursor.next()) {
      const length = cursor.copyKey(this.key, 0);
      if (length < 8 || getU64BE(this.key, 0) !== inode) break;
      if (length < 9 || length > 8 + NAME_MAX) continue;
      const name = Buffer.from(this.key.subarray(8, length));
      this.judgeName(inode, name);
      try {
        direntInode(cursor.page.bytes, cursor.valueStart, cursor.valueLength);
      } catch (error) {
        this.reportError(inode, error, `${JSON.stringify(name.toString())}: `);
      }
    }
  }

  private *judgeAll(): Generator<void> {
    const { table } = this;
    for (let row = 0; row < table.count; row++) {
      this.judgeRow(row);
      if (this.isDue()) yield;
    }
    if (this.isPartial) return;
    const root = table.find(ROOT_INODE);
    if (root < 0 || !table.isDirectory(root)) {
      this.report(ROOT_INODE, 'there is no root directory');
      return;
    }
    yield* this.judgeReachable(root);
  }

  /** Holds what entries say of an inode against its record. */
  private judgeRow(row: number): void {
    const { table } = this;
    const inode = table.number(row);
    const entries = table.entries(row);
    const children = table.children(row);
    const links = table.links(row);
    const isOrphan = table.isOrphan(row);
    if (!table.exists(row)) {
      if (this.isPartial) return;
      if (children > 0) this.report(inode, 'entries in a directory that does not exist');
      if (entries > 0) this.report(inode, `${entries} entries mean inode ${inode}, which does not exist`);
      if (isOrphan) this.report(inode, 'an orphan entry without an inode');
      return;
    }
    const mode = table.mode(row);
    const isDirectory = table.isDirectory(row);
    if (children > 0 && !isDirectory) this.report(inode, 'entries in something that is no directory');
    else if (children > 0 && links === 0) this.report(inode, 'entries in a directory that was removed');
    const type = table.entryType(row);
    if (type !== 0 && type !== (mode & S_IFMT)) {
      const said = type < 0 ? 'several types' : `type ${type.toString(8)}`;
      this.report(inode, `an entry that means it has ${said}, its mode is ${mode.toString(8)}`);
    }
    if (this.isPartial) return;
    if (!table.hasRightLinks(row)) this.report(inode, 'its links are not the entries that mean it');
    if ((links === 0) !== isOrphan) {
      this.report(inode, `${links} links, ${isOrphan ? 'and' : 'but not'} on the list of orphans`);
    }
    if (!isDirectory) {
      if (links !== entries) this.report(inode, `${links} links, ${entries} entries`);
      return;
    }
    const expected = inode === ROOT_INODE || links === 0 ? 0 : 1;
    if (entries !== expected) this.report(inode, `a directory with ${entries} entries that mean it`);
    const parent = table.parent(row);
    const entryParent = table.entryParent(row);
    if (entryParent !== 0 && entryParent !== parent)
      this.report(inode, `it is an entry of ${entryParent}, but its parent is ${parent}`);
    if (inode === ROOT_INODE && parent !== ROOT_INODE)
      this.report(inode, `the root directory names ${parent} as its parent`);
    const names = links === 0 ? 0 : 2 + table.subdirectories(row);
    if (links !== names) this.report(inode, `a directory with ${links} links instead of ${names}`);
    if (table.size(row) !== table.entryBytes(row))
      this.report(inode, `a directory of size ${table.size(row)} instead of ${table.entryBytes(row)}`);
  }

  /** Every directory's parents must lead to the root. What is not a directory is where its entries are. */
  private *judgeReachable(root: number): Generator<void> {
    const { table } = this;
    /** 0: not known, 1: reaches the root, 2: on the way that is being walked, 3: does not. */
    const reach = new Uint8Array(table.count);
    reach[root] = 1;
    const way: number[] = [];
    for (let row = 0; row < table.count; row++) {
      if (this.isDue()) yield;
      if (!table.isDirectory(row) || table.links(row) === 0) continue;
      way.length = 0;
      let at = row;
      // To meet the way that is being walked is a circle.
      while (at >= 0 && reach[at] === 0) {
        reach[at] = 2;
        way.push(at);
        at = table.isDirectory(at) ? table.find(table.parent(at)) : -1;
      }
      const reached = at >= 0 && reach[at] === 1;
      for (const step of way) reach[step] = reached ? 1 : 3;
      if (!reached) this.report(table.number(row), UNREACHABLE);
    }
  }

  private reachesRoot(start: number): boolean {
    const { table } = this;
    let at = start;
    for (let steps = 0; at >= 0 && steps <= table.count; steps++) {
      if (!table.isDirectory(at)) return false;
      if (table.number(at) === ROOT_INODE) return true;
      at = table.find(table.parent(at));
    }
    return false;
  }

  private judgeCounters(): void {
    const { counters } = this.state;
    this.problems.delete(0);
    for (const message of this.strays.values()) this.report(0, message);
    if (!this.isPartial) {
      if (counters.inodes !== this.inodes)
        this.report(0, `${counters.inodes} inodes are counted, ${this.inodes} exist`);
      if (counters.dataPages !== this.dataPages)
        this.report(0, `${counters.dataPages} pages of data are counted, extents have ${this.dataPages}`);
      const last = this.state.inodes.cursor();
      if (last.last() && last.keyLength >= 9) {
        const inode = getU64BE(last.keyView, 0);
        if (inode >= counters.nextInode && inode !== ROOT_INODE)
          this.report(0, `inode ${inode} exists, and ${counters.nextInode} is the next number to be given`);
      }
    }
    if (!this.problems.has(0)) this.problems.set(0, new Set());
  }
}

function sideOf(state: StateReader, tree: typeof TREE.inodes | typeof TREE.namespace) {
  const { space, root } = tree === TREE.inodes ? state.inodes : state.namespace;
  return { space, root };
}

/** What is wrong with a key of the inode tree by itself. */
function strayItem(key: Buffer, length: number): string | undefined {
  if (length < 9) return `a key of the inode tree has ${length} bytes: ${key.toString('hex', 0, length)}`;
  const inode = getU64BE(key, 0);
  const kind = key[8];
  if (kind === KIND_INODE && length === 9 && inode !== 0) return undefined;
  if (kind === KIND_ORPHAN && length === 17 && inode === 0) return undefined;
  if (kind === KIND_EXTENT && length === 17 && inode !== 0) return undefined;
  if (kind === KIND_LINK && length >= 18 && length <= 17 + NAME_MAX && inode !== 0) return undefined;
  if (kind === KIND_XATTR && inode !== 0) {
    if (length >= 13 && length <= 12 + NAME_MAX && key[length - 3] === 0) return undefined;
    return `the key of an extended attribute of inode ${inode} is damaged: ${key.toString('hex', 0, length)}`;
  }
  return `inode ${inode} has an item of unknown kind ${kind}: ${key.toString('hex', 0, length)}`;
}

/** Blocks that the value of an extent key maps; 0 if it is no extent. */
function blocksOf(key: Buffer, value: Buffer | undefined): number {
  if (value === undefined) return 0;
  try {
    return decodeExtent(getU64BE(key, 9), value, 0, value.length).count;
  } catch (error) {
    if (error instanceof LsnfsError) return 0;
    throw error;
  }
}
