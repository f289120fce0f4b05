/**
 * Checks the structure of one state by reading all of it: what the trees say of inodes, names, links, extents and
 * counters must agree. (That pages are intact and reachable is the store's check.)
 *
 * The inode tree is scanned first, into columns sorted by inode number; then the namespace is scanned, and counts
 * what it finds for each inode. 40 bytes an inode, no recursion, and no bad byte can do more than add a problem.
 */

import type { Cursor } from '../btree/cursor.ts';
import { getU64BE } from '../encoding/bytes.ts';
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
import { KIND_EXTENT, KIND_INODE, KIND_ORPHAN, KIND_XATTR, NAME_MAX } from '../encoding/keys.ts';
import { LsnfsError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';
import { ROOT_INODE, S_IFDIR, S_IFMT } from './file-system.ts';
import { ENTRY_OVERHEAD } from './live-core.ts';
import { readXattr } from './xattr-store.ts';

export interface FileSystemProblem {
  /** The inode concerned, 0 for the state as a whole. */
  readonly inode: number;
  /** What is wrong, a sentence. */
  readonly message: string;
}

/** After so many problems the rest is not worth listing. */
const PROBLEMS_MAX = 1000;

/** One row an inode, in the order of numbers. */
class InodeColumns {
  count = 0;
  numbers = new Float64Array(1024);
  modes = new Uint16Array(1024);
  links = new Uint32Array(1024);
  sizes = new Float64Array(1024);
  parents = new Float64Array(1024);
  /** Counted from the namespace: entries that mean the inode. */
  entries = new Uint32Array(1024);
  subdirectories = new Uint32Array(1024);
  /** Counted from the namespace: what the size of a directory must be. */
  entryBytes = new Float64Array(1024);
  orphan = new Uint8Array(1024);
  reachable = new Uint8Array(1024);

  add(number: number, record: InodeRecord): void {
    if (this.count === this.numbers.length) this.grow();
    const row = this.count++;
    this.numbers[row] = number;
    this.modes[row] = record.mode;
    this.links[row] = record.links;
    this.sizes[row] = record.size;
    this.parents[row] = record.parent;
  }

  private grow(): void {
    const capacity = this.numbers.length * 2;
    const float = (old: Float64Array): Float64Array<ArrayBuffer> => {
      const column = new Float64Array(capacity);
      column.set(old);
      return column;
    };
    const u32 = (old: Uint32Array): Uint32Array<ArrayBuffer> => {
      const column = new Uint32Array(capacity);
      column.set(old);
      return column;
    };
    const modes = new Uint16Array(capacity);
    modes.set(this.modes);
    this.modes = modes;
    this.numbers = float(this.numbers);
    this.sizes = float(this.sizes);
    this.parents = float(this.parents);
    this.entryBytes = float(this.entryBytes);
    this.links = u32(this.links);
    this.entries = u32(this.entries);
    this.subdirectories = u32(this.subdirectories);
    this.orphan = new Uint8Array(capacity);
    this.reachable = new Uint8Array(capacity);
  }

  /** The row of an inode, or -1. */
  find(number: number): number {
    let low = 0;
    let high = this.count - 1;
    while (low <= high) {
      const middle = (low + high) >>> 1;
      const at = this.numbers[middle]!;
      if (at === number) return middle;
      if (at < number) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  isDirectory(row: number): boolean {
    return (this.modes[row]! & S_IFMT) === S_IFDIR;
  }
}

/** Returns what is wrong with a state; an empty list means that it is sound. */
export function checkFileSystem(state: StateReader): FileSystemProblem[] {
  return new Check(state).run();
}

class Check {
  private readonly state: StateReader;
  private readonly problems: FileSystemProblem[] = [];
  private readonly columns = new InodeColumns();
  private readonly orphans: number[] = [];
  private dataPages = 0;

  // The inode whose items are being scanned.
  private readonly record = new InodeRecord();
  private current = 0;
  private known = false;
  private pages = 0;
  private nextBlock = 0;
  private lastBlock = -1;
  private xattrFlags = 0;

  constructor(state: StateReader) {
    this.state = state;
  }

  run(): FileSystemProblem[] {
    // A state before the first transaction has nothing at all.
    if (this.state.inodes.root.number === 0 && this.state.namespace.root.number === 0) return this.problems;
    this.scanInodes();
    this.markOrphans();
    this.scanNamespace();
    this.checkLinks();
    this.checkReachable();
    this.checkCounters();
    return this.problems;
  }

  private report(inode: number, message: string): void {
    if (this.problems.length < PROBLEMS_MAX) this.problems.push({ inode, message });
  }

  private scanInodes(): void {
    const cursor = this.state.inodes.cursor();
    for (let more = cursor.first(); more && this.problems.length < PROBLEMS_MAX; more = cursor.next()) {
      const { keyView: key, keyLength } = cursor;
      if (keyLength < 9) {
        this.report(0, `a key of the inode tree has ${keyLength} bytes`);
        continue;
      }
      const inode = getU64BE(key, 0);
      if (inode !== this.current) {
        this.finishInode();
        this.startInode(inode);
      }
      const kind = key[8];
      if (kind === KIND_INODE && keyLength === 9 && inode !== 0) this.scanRecord(cursor);
      else if (kind === KIND_ORPHAN && keyLength === 17 && inode === 0) this.orphans.push(getU64BE(key, 9));
      else if (kind === KIND_XATTR && inode !== 0) this.scanXattr(cursor);
      else if (kind === KIND_EXTENT && keyLength === 17 && inode !== 0) this.scanExtent(cursor);
      else this.report(inode, `an item of unknown kind ${kind} with a key of ${keyLength} bytes`);
    }
    this.finishInode();
  }

  private startInode(inode: number): void {
    this.current = inode;
    this.known = false;
    this.pages = 0;
    this.nextBlock = 0;
    this.lastBlock = -1;
    this.xattrFlags = 0;
  }

  private scanRecord(cursor: Cursor): void {
    const inode = this.current;
    try {
      decodeInode(this.record, inode, cursor.page.bytes, cursor.valueStart, cursor.valueLength);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.report(inode, error.message);
      return;
    }
    this.known = true;
    this.columns.add(inode, this.record);
    if (inode >= this.state.counters.nextInode && inode !== ROOT_INODE) {
      this.report(
        inode,
        `its number is not below the next one to be given, ${this.state.counters.nextInode}`,
      );
    }
  }

  private scanXattr(cursor: Cursor): void {
    const { keyView: key, keyLength } = cursor;
    if (keyLength < 13 || keyLength > 12 + NAME_MAX || key[keyLength - 3] !== 0) {
      this.report(this.current, 'the key of an extended attribute is damaged');
      return;
    }
    if (!this.known) this.report(this.current, 'an extended attribute without an inode');
    if (key[keyLength - 2] !== 0 || key[keyLength - 1] !== 0) return;
    const name = Buffer.from(key.subarray(9, keyLength - 3));
    const text = name.toString('latin1');
    this.xattrFlags |= FLAG_XATTRS;
    if (text === 'system.posix_acl_access') this.xattrFlags |= FLAG_ACCESS_ACL;
    else if (text === 'system.posix_acl_default') this.xattrFlags |= FLAG_DEFAULT_ACL;
    else if (text === 'security.capability') this.xattrFlags |= FLAG_CAPABILITY;
    try {
      readXattr(this.state, this.current, name);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.report(this.current, `${text}: ${error.message}`);
    }
  }

  private scanExtent(cursor: Cursor): void {
    const inode = this.current;
    const block = getU64BE(cursor.keyView, 9);
    let count: number;
    try {
      count = decodeExtent(block, cursor.page.bytes, cursor.valueStart, cursor.valueLength).count;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.report(inode, error.message);
      return;
    }
    if (!this.known) this.report(inode, 'an extent without an inode');
    if (block < this.nextBlock) this.report(inode, `the extent of block ${block} overlaps the one before`);
    this.nextBlock = block + count;
    this.lastBlock = block + count - 1;
    this.pages += count;
    this.dataPages += count;
  }

  /** All items of the current inode were seen. */
  private finishInode(): void {
    if (!this.known) return;
    const { record, current: inode, pages } = this;
    const flags = FLAG_XATTRS | FLAG_ACCESS_ACL | FLAG_DEFAULT_ACL | FLAG_CAPABILITY;
    if ((record.flags & flags) !== this.xattrFlags) {
      this.report(
        inode,
        `its flags are ${record.flags & flags}, its extended attributes say ${this.xattrFlags}`,
      );
    }
    if (pages > 0 && !record.isRegular && !record.isSymlink)
      this.report(inode, 'extents of something that is no file');
    if (pages > 0 && (record.flags & FLAG_INLINE) !== 0) this.report(inode, 'inline content and extents');
    if (record.pages !== pages && (record.isRegular || record.isSymlink)) {
      this.report(inode, `its record counts ${record.pages} pages, its extents ${pages}`);
    }
    const blocks = Math.ceil(record.size / this.state.pageSize);
    if (this.lastBlock >= blocks && (record.flags & FLAG_PREALLOCATED) === 0) {
      this.report(inode, `block ${this.lastBlock} is mapped past the end of the file at ${record.size}`);
    }
  }

  private markOrphans(): void {
    const { columns } = this;
    for (const inode of this.orphans) {
      const row = columns.find(inode);
      if (row < 0) this.report(inode, 'an orphan entry without an inode');
      else columns.orphan[row] = 1;
    }
  }

  private scanNamespace(): void {
    const { columns } = this;
    const cursor = this.state.namespace.cursor();
    let directory = 0;
    let row = -1;
    for (let more = cursor.first(); more && this.problems.length < PROBLEMS_MAX; more = cursor.next()) {
      const { keyView: key, keyLength } = cursor;
      if (keyLength < 9 || keyLength > 8 + NAME_MAX) {
        this.report(0, `a key of the namespace has ${keyLength} bytes`);
        continue;
      }
      const parent = getU64BE(key, 0);
      if (parent !== directory) {
        directory = parent;
        row = columns.find(parent);
        if (row < 0) this.report(parent, 'entries in a directory that does not exist');
        else if (!columns.isDirectory(row)) this.report(parent, 'entries in something that is no directory');
        else if (columns.links[row] === 0) this.report(parent, 'entries in a directory that was removed');
      }
      const name = Buffer.from(key.subarray(8, keyLength));
      if (name.includes(0) || name.includes(0x2f) || name.equals(DOT) || name.equals(DOT_DOT)) {
        this.report(parent, `the name ${JSON.stringify(name.toString())} is not one`);
      }
      if (row >= 0) columns.entryBytes[row]! += name.length + ENTRY_OVERHEAD;
      this.scanEntry(cursor, parent, row, name);
    }
  }

  private scanEntry(cursor: Cursor, parent: number, parentRow: number, name: Buffer): void {
    const { columns } = this;
    const { bytes } = cursor.page;
    const { valueStart } = cursor;
    const shown = JSON.stringify(name.toString());
    let inode: number;
    try {
      inode = direntInode(bytes, valueStart, cursor.valueLength);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.report(parent, `${shown}: ${error.message}`);
      return;
    }
    const row = columns.find(inode);
    if (row < 0) {
      this.report(parent, `${shown} means inode ${inode}, which does not exist`);
      return;
    }
    const type = direntType(bytes, valueStart);
    if (type !== (columns.modes[row]! & S_IFMT)) {
      this.report(
        parent,
        `${shown} has type ${type.toString(8)}, its inode mode ${columns.modes[row]!.toString(8)}`,
      );
    }
    columns.entries[row]!++;
    if (!columns.isDirectory(row)) return;
    if (parentRow >= 0) columns.subdirectories[parentRow]!++;
    if (columns.parents[row] !== parent) {
      this.report(inode, `it is an entry of ${parent}, but its parent is ${columns.parents[row]}`);
    }
  }

  private checkLinks(): void {
    const { columns } = this;
    for (let row = 0; row < columns.count; row++) {
      const inode = columns.numbers[row]!;
      const links = columns.links[row]!;
      const entries = columns.entries[row]!;
      if ((links === 0) !== (columns.orphan[row] === 1)) {
        this.report(
          inode,
          `${links} links, ${columns.orphan[row] === 1 ? 'and' : 'but not'} on the list of orphans`,
        );
      }
      if (!columns.isDirectory(row)) {
        if (links !== entries) this.report(inode, `${links} links, ${entries} entries`);
        continue;
      }
      const expected = inode === ROOT_INODE ? 0 : links === 0 ? 0 : 1;
      if (entries !== expected) this.report(inode, `a directory with ${entries} entries that mean it`);
      const names = links === 0 ? 0 : 2 + columns.subdirectories[row]!;
      if (links !== names) this.report(inode, `a directory with ${links} links instead of ${names}`);
      if (columns.sizes[row] !== columns.entryBytes[row]) {
        this.report(inode, `a directory of size ${columns.sizes[row]} instead of ${columns.entryBytes[row]}`);
      }
    }
  }

  /** Every directory's parents must lead to the root. What is not a directory is where its entries are. */
  private checkReachable(): void {
    const { columns } = this;
    const root = columns.find(ROOT_INODE);
    if (root < 0 || !columns.isDirectory(root)) {
      this.report(ROOT_INODE, 'there is no root directory');
      return;
    }
    columns.reachable[root] = 1;
    const way: number[] = [];
    for (let row = 0; row < columns.count; row++) {
      if (!columns.isDirectory(row) || columns.links[row] === 0) continue;
      way.length = 0;
      let at = row;
      // 2 marks the way that is being walked: to meet it again is a circle.
      while (at >= 0 && columns.reachable[at] === 0) {
        columns.reachable[at] = 2;
        way.push(at);
        at = columns.find(columns.parents[at]!);
      }
      const reached = at >= 0 && columns.reachable[at] === 1;
      for (const step of way) columns.reachable[step] = reached ? 1 : 3;
      if (!reached) this.report(columns.numbers[row]!, 'the directory cannot be reached from the root');
    }
  }

  private checkCounters(): void {
    const { inodes, dataPages } = this.state.counters;
    if (inodes !== this.columns.count)
      this.report(0, `${inodes} inodes are counted, ${this.columns.count} exist`);
    if (dataPages !== this.dataPages) {
      this.report(0, `${dataPages} pages of data are counted, extents have ${this.dataPages}`);
    }
  }
}

const DOT = Buffer.from('.');
const DOT_DOT = Buffer.from('..');
