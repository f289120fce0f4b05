/**
 * Values by path: content and names for a program that has the state in its own process, without the ceremony that a
 * kernel needs (lookups one by one, handles, access times).
 *
 * Paths of plain names through directories are answered here: the directory, remembered by its path, and the name in
 * it, are two steps. Whatever else a path can be (symbolic links, "..", names beyond ASCII) is told apart and left to
 * `resolvePath`, which knows all rules and all errors.
 *
 * What is remembered is true while no directory has been moved or removed (`Core.directoryMoves`).
 */
import type { Cursor } from '../btree/btree.ts';
import { putU64BE } from '../encoding/bytes.ts';
import {
  cellCount,
  copyBytes,
  copySuffix,
  prefixLength,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { direntInode, direntType } from '../encoding/dirent.ts';
import { INODE_CONTENT, isInlineFile } from '../encoding/inode.ts';
import { KEY_MAX, keyInode, NAME_MAX } from '../encoding/keys.ts';
import { PAGE_HEADER_SIZE } from '../encoding/page.ts';
import type { Core } from './core.ts';
import { ROOT_INODE, S_IFDIR, S_IFREG } from './file-system.ts';
import { PATH_MAX } from './path.ts';

/** Paths of directories that are remembered. */
const DIRECTORIES_MAX = 8192;
const DOT = 0x2e;

export interface FileValue {
  /** From the root, with a slash before each name; bytes that are no UTF-8 are replaced. */
  readonly path: string;
  readonly content: Buffer;
}

/** One entry of a directory. Its name is bytes[start, end), which the next one overwrites. */
export type NameSink = (bytes: Buffer, start: number, end: number, inode: number, type: number) => void;

export class Values {
  private readonly core: Core;
  private readonly directories = new Map<string, number>();
  private moves = 0;
  /** The key of an entry, and views of its beginning by length of the name. */
  private readonly key = Buffer.alloc(8 + NAME_MAX);
  private readonly keys: Buffer[] = [];
  /** The names alone, likewise. */
  private readonly names: Buffer[] = [];
  private cursor: Cursor | undefined;
  /** The key of the entry that a listing is at. */
  private readonly listed = Buffer.alloc(KEY_MAX);

  constructor(core: Core) {
    this.core = core;
  }

  /** The content of a small regular file; null when nothing is there; undefined when `resolvePath` has to say. */
  content(path: string): Buffer | null | undefined {
    const key = this.entryKey(path);
    if (key === undefined) return undefined;
    const { core } = this;
    const inode = core.entryInode(key);
    if (inode === 0) return null;
    return core.childType === S_IFREG ? this.inlineContent(inode) : undefined;
  }

  /** The content of a regular file that has it in its inode record, or undefined. */
  private inlineContent(inode: number): Buffer | undefined {
    const { inodes } = this.core.state;
    if (!inodes.find(this.core.inodeKeyOf(inode))) return undefined;
    const { bytes } = inodes.page;
    const start = inodes.valueStart;
    const end = start + inodes.valueLength;
    if (!isInlineFile(bytes, start, inodes.valueLength)) return undefined;
    const content = Buffer.allocUnsafe(end - start - INODE_CONTENT);
    bytes.copy(content, 0, start + INODE_CONTENT, end);
    return content;
  }

  /**
   * Regular files below a directory, each directory's entries in the order of their names' bytes. `read` gets what is not in
   * an inode record. The state may change between two steps: what is made or removed meanwhile may be among them or not.
   */
  *files(directory: number, path: string, read: (inode: number) => Buffer | undefined): Generator<FileValue> {
    const cursors: Cursor[] = [];
    const levels: { readonly prefix: Buffer; readonly path: string }[] = [];
    const enter = (inode: number, name: string): boolean => {
      const prefix = Buffer.allocUnsafe(8);
      putU64BE(prefix, 0, inode);
      levels.push({ prefix, path: name });
      cursors[levels.length - 1] ??= this.core.state.namespace.cursor();
      return cursors[levels.length - 1]!.seek(prefix);
    };
    for (let more = enter(directory, path); levels.length > 0; ) {
      const cursor = cursors[levels.length - 1]!;
      const { prefix, path: parent } = levels.at(-1)!;
      if (!more || !cursor.startsWith(prefix)) {
        levels.pop();
        more = levels.length > 0 && cursors[levels.length - 1]!.next();
        continue;
      }
      const { bytes } = cursor.page;
      const { valueStart } = cursor;
      const inode = direntInode(bytes, valueStart, cursor.valueLength);
      const type = direntType(bytes, valueStart);
      const name = `${parent}/${cursor.keyView.toString('utf8', 8, cursor.keyLength)}`;
      if (type === S_IFDIR) {
        more = enter(inode, name);
        continue;
      }
      const content = type === S_IFREG ? (this.inlineContent(inode) ?? read(inode)) : undefined;
      if (content !== undefined) yield { path: name, content };
      more = cursor.next();
    }
  }

  /**
   * The inode of a directory by its path, without a slash at its end; '' is the root. 0 when `resolvePath` has to say
   * what is there.
   */
  directory(path: string): number {
    const { directoryMoves } = this.core;
    if (this.moves !== directoryMoves) {
      this.moves = directoryMoves;
      this.directories.clear();
    }
    const known = this.directories.get(path);
    if (known !== undefined) return known;
    const found = path.length > PATH_MAX ? 0 : this.walk(path);
    if (found === 0) return 0;
    if (this.directories.size === DIRECTORIES_MAX) this.directories.clear();
    this.directories.set(path, found);
    return found;
  }

  private walk(path: string): number {
    const { core } = this;
    let directory = ROOT_INODE;
    for (let start = 0; start < path.length; ) {
      const slash = path.indexOf('/', start);
      const end = slash < 0 ? path.length : slash;
      if (end > start) {
        const key = this.keyOf(directory, path, start, end);
        directory = key === undefined ? 0 : core.entryInode(key);
        if (directory === 0 || core.childType !== S_IFDIR) return 0;
      }
      start = end + 1;
    }
    return directory;
  }

  /** The key of a plain name, path[start, end), or undefined when it is none. The next call reuses the buffer. */
  private keyOf(directory: number, path: string, start: number, end: number): Buffer | undefined {
    const length = end - start;
    if (length === 0 || length > NAME_MAX) return undefined;
    const { key } = this;
    for (let i = 0; i < length; i++) {
      const code = path.charCodeAt(start + i);
      if (code === 0 || code > 0x7e) return undefined;
      key[8 + i] = code;
    }
    if (key[8] === DOT && (length === 1 || (length === 2 && key[9] === DOT))) return undefined;
    putU64BE(key, 0, directory);
    let view = this.keys[length];
    if (view === undefined) {
      view = key.subarray(0, 8 + length);
      this.keys[length] = view;
      this.names[length] = key.subarray(8, 8 + length);
    }
    return view;
  }

  /** Where a plain name of a path would be: its directory, and the name, which the next call overwrites. */
  place(path: string): { directory: number; name: Buffer } | undefined {
    const key = this.entryKey(path);
    return key === undefined ? undefined : { directory: keyInode(key), name: this.names[key.length - 8]! };
  }

  /** The key of the entry that a plain path means, whether it is there or not. The next call reuses the buffer. */
  private entryKey(path: string): Buffer | undefined {
    if (path.length > PATH_MAX) return undefined;
    const slash = path.lastIndexOf('/');
    const directory = this.directory(slash < 0 ? '' : path.slice(0, slash));
    return directory === 0 ? undefined : this.keyOf(directory, path, slash + 1, path.length);
  }

  /** The entries of a directory, in the order of their names' bytes. The state is not changed meanwhile. */
  eachEntry(directory: number, sink: NameSink): void {
    this.cursor ??= this.core.state.namespace.cursor();
    const { cursor } = this;
    const prefix = Buffer.allocUnsafe(8);
    putU64BE(prefix, 0, directory);
    for (let more = cursor.seek(prefix); more && cursor.startsWith(prefix); more = cursor.nextLeaf()) {
      if (!this.eachEntryOfLeaf(cursor, prefix, sink)) return;
    }
  }

  /** Those from the cursor's on to the end of its leaf. Returns whether there may be more in the next. */
  private eachEntryOfLeaf(cursor: Cursor, prefix: Buffer, sink: NameSink): boolean {
    const { bytes } = cursor.page;
    const { listed } = this;
    // What all keys of the page begin with is there once; the first eight bytes of a key are no part of the name.
    const shared = prefixLength(bytes);
    copyBytes(bytes, PAGE_HEADER_SIZE, listed, 0, shared);
    for (let slot = cursor.slot, count = cellCount(bytes); slot < count; slot++) {
      const end = shared + copySuffix(bytes, slot, listed, shared);
      for (let i = shared; i < 8; i++) if (listed[i] !== prefix[i]) return false;
      const start = valueStart(bytes, slot);
      const inode = direntInode(bytes, start, valueLength(bytes, slot));
      sink(listed, 8, end, inode, direntType(bytes, start));
    }
    return true;
  }
}
