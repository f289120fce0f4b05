/**
 * What the laboratory of failing disks knows a file system to be: paths and what is there, in plain maps. Contents are
 * never changed in place, so that a copy of the whole costs no more than its entries.
 *
 * The digest is of what programs see, without inode numbers and times: path, type, permissions, links, extended attributes,
 * content. It is computed from the model and, by reading everything, from a file system of the engine.
 */
import { createHash } from 'node:crypto';
import {
  type Attributes,
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
} from '../../src/vfs/file-system.ts';

interface Node {
  readonly type: 'file' | 'directory' | 'link';
  /** Of a file the content, of a symbolic link the target. */
  readonly content: Buffer;
  readonly mode: number;
  readonly xattrs: ReadonlyMap<string, string>;
}

/** The model lacks what a step builds on, because an earlier one failed: the step is left out. */
export class Unmet extends Error {}

const NOTHING = Buffer.alloc(0);
const NO_XATTRS: ReadonlyMap<string, string> = new Map();
const hashes = new WeakMap<Buffer, string>();

function hashOf(content: Buffer): string {
  let hash = hashes.get(content);
  if (hash === undefined) {
    hash = createHash('sha1').update(content).digest('base64');
    hashes.set(content, hash);
  }
  return hash;
}

export class Model {
  /** Path to the number of a node: names of one file share it. */
  private readonly names: Map<string, number>;
  private readonly nodes: Map<number, Node>;
  private next: number;

  constructor(from?: Model) {
    this.names = new Map(from?.names);
    this.nodes = new Map(from?.nodes);
    this.next = from?.next ?? 1;
  }

  has(path: string): boolean {
    return this.names.has(path);
  }

  /** Paths of all files, in the order of their creation. */
  files(): string[] {
    return [...this.names]
      .filter(([, number]) => this.nodes.get(number)!.type === 'file')
      .map(([path]) => path);
  }

  content(path: string): Buffer {
    return this.node(path).content;
  }

  private node(path: string): Node {
    const node = this.nodes.get(this.names.get(path) ?? 0);
    if (node === undefined) throw new Unmet(`there is no ${path}`);
    return node;
  }

  private set(path: string, changes: Partial<Node>): void {
    const node = this.node(path);
    this.nodes.set(this.names.get(path)!, { ...node, ...changes });
  }

  private requireParent(path: string): void {
    const parent = path.slice(0, path.lastIndexOf('/'));
    if (parent !== '' && !this.has(parent)) throw new Unmet(`there is no ${parent}`);
  }

  private requireFree(path: string): void {
    this.requireParent(path);
    if (this.has(path)) throw new Unmet(`there is a ${path}`);
  }

  private add(path: string, type: Node['type'], mode: number, content: Buffer): void {
    this.requireFree(path);
    this.nodes.set(this.next, { type, mode, content, xattrs: NO_XATTRS });
    this.names.set(path, this.next++);
  }

  mkdir(path: string): void {
    this.add(path, 'directory', 0o755, NOTHING);
  }

  create(path: string): void {
    this.add(path, 'file', 0o644, NOTHING);
  }

  symlink(path: string, target: string): void {
    this.add(path, 'link', 0o777, Buffer.from(target));
  }

  link(from: string, to: string): void {
    this.node(from);
    this.requireFree(to);
    this.names.set(to, this.names.get(from)!);
  }

  write(path: string, at: number, bytes: Buffer): void {
    const old = this.content(path);
    const content = Buffer.alloc(Math.max(old.length, at + bytes.length));
    old.copy(content);
    bytes.copy(content, at);
    this.set(path, { content });
  }

  truncate(path: string, size: number): void {
    const content = Buffer.alloc(size);
    this.content(path).copy(content, 0, 0, size);
    this.set(path, { content });
  }

  zero(path: string, at: number, length: number): void {
    const content = Buffer.from(this.content(path));
    content.fill(0, at, Math.min(content.length, at + length));
    this.set(path, { content });
  }

  chmod(path: string, mode: number): void {
    this.set(path, { mode });
  }

  setxattr(path: string, name: string, value: string): void {
    this.set(path, { xattrs: new Map(this.node(path).xattrs).set(name, value) });
  }

  remove(path: string): void {
    this.node(path);
    this.names.delete(path);
  }

  /** Of a file or an empty directory, over nothing or a file. */
  rename(from: string, to: string, exchange: boolean): void {
    this.node(from);
    const source = this.names.get(from)!;
    this.requireParent(to);
    if (exchange) {
      this.node(to);
      this.names.set(from, this.names.get(to)!);
    } else this.names.delete(from);
    this.names.set(to, source);
  }

  digest(): string {
    const links = new Map<number, number>();
    for (const number of this.names.values()) links.set(number, (links.get(number) ?? 0) + 1);
    const lines: string[] = [];
    for (const [path, number] of this.names) {
      const node = this.nodes.get(number)!;
      const names = [...node.xattrs].map(([name, value]) => `${name}=${value}`);
      const count = node.type === 'directory' ? 0 : links.get(number)!;
      lines.push(line(path, node.type, node.mode, count, names, node.content));
    }
    return lines.sort().join('\n');
  }
}

function line(
  path: string,
  type: Node['type'],
  mode: number,
  links: number,
  xattrs: readonly string[],
  content: Buffer,
): string {
  const what = `${content.length} ${hashOf(content)}`;
  return `${path} ${type} ${mode.toString(8)} ${links} ${[...xattrs].sort().join()} ${what}`;
}

/** The digest of what a file system shows. */
export function digestOf(fs: FileSystem): string {
  const lines: string[] = [];
  const visit = (directory: number, path: string): void => {
    const entries: [string, number][] = [];
    const handle = fs.opendir(ROOT_CALLER, directory);
    fs.readdir(handle, 0, (bytes, inode) => {
      const name = Buffer.from(bytes).toString('latin1');
      if (name !== '.' && name !== '..') entries.push([name, inode]);
      return true;
    });
    fs.releasedir(handle);
    for (const [name, inode] of entries) {
      const { mode, links, size }: Attributes = fs.getattr(ROOT_CALLER, inode);
      const at = `${path}/${name}`;
      const type = typeOf(mode);
      const content = type === 'directory' ? NOTHING : contentOf(fs, inode, type, size);
      lines.push(
        line(at, type, mode & 0o7777, type === 'directory' ? 0 : links, xattrsOf(fs, inode), content),
      );
      if (type === 'directory') visit(inode, at);
    }
  };
  visit(ROOT_INODE, '');
  return lines.sort().join('\n');
}

function typeOf(mode: number): Node['type'] {
  const type = mode & S_IFMT;
  return type === S_IFDIR ? 'directory' : type === S_IFLNK ? 'link' : 'file';
}

function contentOf(fs: FileSystem, inode: number, type: Node['type'], size: number): Buffer {
  if (type === 'link') return Buffer.from(fs.readlink(ROOT_CALLER, inode));
  const content = Buffer.alloc(size);
  const handle = fs.open(ROOT_CALLER, inode, 0);
  try {
    return content.subarray(0, fs.read(handle, 0, content, 0, size));
  } finally {
    fs.release(handle);
  }
}

function xattrsOf(fs: FileSystem, inode: number): string[] {
  const names = Buffer.from(fs.listxattr(ROOT_CALLER, inode)).toString('latin1').split('\0');
  return names
    .filter((name) => name !== '')
    .map(
      (name) =>
        `${name}=${Buffer.from(fs.getxattr(ROOT_CALLER, inode, Buffer.from(name))).toString('latin1')}`,
    );
}
