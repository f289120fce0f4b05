/**
 * What the crash laboratory knows a state to be, in two ways that know nothing of each other.
 *
 * The tree digest is of what programs see: names, types, inode numbers, permissions, links, xattrs and contents. The model computes
 * it from objects in memory (`ModelTree`), the engine's side from the calls of the file system. The record digest is of
 * every row of the trees but the extents, whose page numbers a checkpoint changes: times, orphans, snapshots. It is taken from
 * the engine at the moment of the commit, and compared with what a recovery has.
 *
 * Contents are never changed in place, so that a copy of a tree for a rollback shares them.
 */
import { hash } from 'node:crypto';
import type { BTree } from '../../src/btree/btree.ts';
import { KIND_EXTENT } from '../../src/encoding/keys.ts';
import type { StateReader } from '../../src/store/state.ts';
import {
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/vfs/file-system.ts';

export class ModelNode {
  readonly inode: number;
  /** Type and permission bits. */
  mode: number;
  links = 1;
  content: Buffer = Buffer.alloc(0);
  target = '';
  xattrs: ReadonlyMap<string, Buffer> = new Map();
  readonly entries: Map<string, ModelNode> | undefined;
  private hashed: Buffer | undefined;
  private hash = '';

  constructor(inode: number, mode: number) {
    this.inode = inode;
    this.mode = mode;
    this.entries = (mode & S_IFMT) === S_IFDIR ? new Map() : undefined;
  }

  get isFile(): boolean {
    return (this.mode & S_IFMT) === S_IFREG;
  }

  /** Of the content, remembered as long as that is the same. */
  get contentHash(): string {
    if (this.hashed !== this.content) {
      this.hash = hashOf(this.content);
      this.hashed = this.content;
    }
    return this.hash;
  }

  clone(seen: Map<ModelNode, ModelNode>): ModelNode {
    const known = seen.get(this);
    if (known !== undefined) return known;
    const copy = new ModelNode(this.inode, this.mode);
    seen.set(this, copy);
    copy.links = this.links;
    copy.content = this.content;
    copy.hashed = this.hashed;
    copy.hash = this.hash;
    copy.target = this.target;
    copy.xattrs = this.xattrs;
    for (const [name, child] of this.entries ?? []) copy.entries!.set(name, child.clone(seen));
    return copy;
  }
}

export interface ModelPlace {
  readonly directory: ModelNode;
  readonly name: string;
  readonly node: ModelNode;
  readonly depth: number;
}

export class ModelTree {
  root: ModelNode;

  constructor(root = new ModelNode(ROOT_INODE, S_IFDIR | 0o755)) {
    this.root = root;
  }

  /** Every entry, parents before children. */
  places(): ModelPlace[] {
    const found: ModelPlace[] = [];
    const visit = (directory: ModelNode, depth: number): void => {
      for (const [name, node] of directory.entries!) {
        found.push({ directory, name, node, depth });
        if (node.entries !== undefined) visit(node, depth + 1);
      }
    };
    visit(this.root, 1);
    return found;
  }

  digest(): string {
    const lines: string[] = [];
    const visit = (node: ModelNode, path: string): void => {
      let xattrs = '';
      for (const name of [...node.xattrs.keys()].sort())
        xattrs += `${name}=${hashOf(node.xattrs.get(name)!)},`;
      if (node.entries === undefined) {
        const what = node.isFile ? `${node.content.length} ${node.contentHash}` : node.target;
        lines.push(line(path, node.inode, node.mode, node.links, xattrs, what));
        return;
      }
      const names = [...node.entries.keys()].sort();
      let links = 2;
      for (const child of node.entries.values()) if (child.entries !== undefined) links++;
      lines.push(line(path, node.inode, node.mode, links, xattrs, ''));
      for (const name of names) visit(node.entries.get(name)!, `${path}/${name}`);
    };
    visit(this.root, '');
    return lines.join('\n');
  }

  /** A tree as a file system shows it. */
  static of(fs: FileSystem): ModelTree {
    const known = new Map<number, ModelNode>();
    const visit = (inode: number): ModelNode => {
      const { mode, links } = fs.getattr(ROOT_CALLER, inode);
      const node = known.get(inode) ?? new ModelNode(inode, mode);
      known.set(inode, node);
      node.links = links;
      node.xattrs = xattrsOf(fs, inode);
      if (node.entries !== undefined) {
        for (const [name, child] of entriesOf(fs, inode)) node.entries.set(name, visit(child));
      } else if (node.isFile) node.content = contentOf(fs, inode);
      else if ((mode & S_IFMT) === S_IFLNK) node.target = targetOf(fs, inode);
      return node;
    };
    return new ModelTree(visit(ROOT_INODE));
  }
}

function line(
  path: string,
  inode: number,
  mode: number,
  links: number,
  xattrs: string,
  what: string,
): string {
  return `${path} ${inode} ${mode.toString(8)} ${links} ${xattrs} ${what}`;
}

export function hashOf(bytes: Uint8Array): string {
  return hash('sha1', bytes, 'base64');
}

function xattrsOf(fs: FileSystem, inode: number): Map<string, Buffer> {
  const xattrs = new Map<string, Buffer>();
  const names = Buffer.from(fs.listxattr(ROOT_CALLER, inode)).toString('latin1').split('\0');
  for (const name of names) {
    if (name !== '')
      xattrs.set(name, Buffer.from(fs.getxattr(ROOT_CALLER, inode, Buffer.from(name, 'latin1'))));
  }
  return xattrs;
}

function entriesOf(fs: FileSystem, inode: number): Map<string, number> {
  const entries = new Map<string, number>();
  const handle = fs.opendir(ROOT_CALLER, inode);
  fs.readdir(handle, 0, (bytes, child) => {
    const name = Buffer.from(bytes).toString('latin1');
    if (name !== '.' && name !== '..') entries.set(name, child);
    return true;
  });
  fs.releasedir(handle);
  return entries;
}

function contentOf(fs: FileSystem, inode: number): Buffer {
  const { size } = fs.getattr(ROOT_CALLER, inode);
  const content = Buffer.allocUnsafe(size);
  const handle = fs.open(ROOT_CALLER, inode, 0);
  const count = fs.read(handle, 0, content, 0, size);
  fs.release(handle);
  return content.subarray(0, count);
}

function targetOf(fs: FileSystem, inode: number): string {
  return Buffer.from(fs.readlink(ROOT_CALLER, inode)).toString('latin1');
}

/** The tree digest of what a file system shows. */
export function treeDigest(fs: FileSystem): string {
  const tree = ModelTree.of(fs);
  return tree.digest();
}

export interface StateWithRegistry extends StateReader {
  readonly registry: BTree;
  readonly timeMicroseconds: number;
}

/** The record digest of a state: a line a row. */
export function recordDigest(state: StateWithRegistry): string {
  const { counters, timeMicroseconds } = state;
  const lines = [`${timeMicroseconds}: ${counters.inodes} inodes, ${counters.dataPages} pages of data`];
  for (const tree of [state.namespace, state.inodes, state.registry]) {
    const cursor = tree.cursor();
    for (let more = cursor.first(); more; more = cursor.next()) {
      const { key } = cursor;
      if (tree === state.inodes && key.length === 17 && key[8] === KIND_EXTENT) continue;
      const { value } = cursor;
      const text = value.length > 150 ? hashOf(value) : value.toString('latin1');
      lines.push(`${tree.treeId} ${key.toString('latin1')} ${text}`);
    }
  }
  return lines.join('\n');
}
