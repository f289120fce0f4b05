/**
 * Random operations on a file system, done on a simple model in memory as well: objects for inodes, a Map for each
 * directory, a Buffer for each file. What the one answers the other must answer, and in the end both must show the
 * same tree.
 */
import { LsnfsError } from '../../src/errors.ts';
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  type FileSystem,
  O_RDWR,
  RENAME_EXCHANGE,
  RENAME_NOREPLACE,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFMT,
} from '../../src/vfs/file-system.ts';
import type { Random } from './random.ts';

const NAMES = ['a', 'b', 'c', 'dd', 'e-long-name', 'f'];
const FILE_MAX = 60_000;

export class ModelNode {
  readonly entries: Map<string, ModelNode> | undefined;
  parent: ModelNode | undefined;
  inode: number;
  links = 1;
  content = Buffer.alloc(0);
  target: string | undefined;
  readonly xattrs = new Map<string, Buffer>();

  constructor(inode: number, isDirectory: boolean, parent?: ModelNode) {
    this.inode = inode;
    this.entries = isDirectory ? new Map() : undefined;
    this.parent = parent;
  }

  clone(seen = new Map<ModelNode, ModelNode>()): ModelNode {
    const known = seen.get(this);
    if (known !== undefined) return known;
    const copy = new ModelNode(this.inode, this.entries !== undefined);
    seen.set(this, copy);
    copy.links = this.links;
    copy.content = Buffer.from(this.content);
    copy.target = this.target;
    for (const [name, value] of this.xattrs) copy.xattrs.set(name, value);
    for (const [name, child] of this.entries ?? []) {
      const childCopy = child.clone(seen);
      childCopy.parent = copy;
      copy.entries!.set(name, childCopy);
    }
    return copy;
  }
}

interface OpenFile {
  readonly node: ModelNode;
  readonly handle: number;
}

function errnoOf(call: () => unknown): string {
  try {
    call();
    return 'ok';
  } catch (error) {
    if (error instanceof LsnfsError) return error.errno;
    throw error;
  }
}

export class ModelRun {
  fs: FileSystem;
  root = new ModelNode(ROOT_INODE, true);
  readonly open: OpenFile[] = [];
  private readonly random: Random;
  steps = 0;

  constructor(fs: FileSystem, random: Random) {
    this.fs = fs;
    this.random = random;
  }

  private pick<T>(from: readonly T[]): T {
    return from[this.random.below(from.length)]!;
  }

  private directories(node = this.root, found: ModelNode[] = []): ModelNode[] {
    found.push(node);
    for (const child of node.entries!.values())
      if (child.entries !== undefined) this.directories(child, found);
    return found;
  }

  private name(directory: ModelNode): string {
    const present = [...directory.entries!.keys()];
    return present.length > 0 && this.random.below(2) === 0 ? this.pick(present) : this.pick(NAMES);
  }

  private expect(what: string, expected: string, call: () => unknown): boolean {
    const found = errnoOf(call);
    if (found !== expected)
      throw new Error(`step ${this.steps}: ${what}: expected ${expected}, got ${found}`);
    return found === 'ok';
  }

  /** One random operation. */
  step(): void {
    this.steps++;
    const directory = this.pick(this.directories());
    const name = this.name(directory);
    const key = Buffer.from(name);
    const node = directory.entries!.get(name);
    const { fs, random } = this;
    const what = random.below(100);
    if (what < 12) this.create(directory, name, node);
    else if (what < 22) {
      let inode = 0;
      const call = (): void => {
        inode = fs.mkdir(ROOT_CALLER, directory.inode, key, 0o755).inode;
      };
      if (this.expect(`mkdir ${name}`, node ? 'EEXIST' : 'ok', call)) {
        directory.entries!.set(name, new ModelNode(inode, true, directory));
      }
    } else if (what < 26) {
      const target = 'x'.repeat(1 + random.below(3000));
      let inode = 0;
      const call = (): void => {
        inode = fs.symlink(ROOT_CALLER, directory.inode, key, Buffer.from(target)).inode;
      };
      if (this.expect(`symlink ${name}`, node ? 'EEXIST' : 'ok', call)) {
        const link = new ModelNode(inode, false, directory);
        link.target = target;
        directory.entries!.set(name, link);
      }
    } else if (what < 36) {
      const expected = node === undefined ? 'ENOENT' : node.entries ? 'EISDIR' : 'ok';
      if (this.expect(`unlink ${name}`, expected, () => fs.unlink(ROOT_CALLER, directory.inode, key))) {
        node!.links--;
        directory.entries!.delete(name);
      }
    } else if (what < 42) {
      const expected =
        node === undefined
          ? 'ENOENT'
          : !node.entries
            ? 'ENOTDIR'
            : node.entries.size > 0
              ? 'ENOTEMPTY'
              : 'ok';
      if (this.expect(`rmdir ${name}`, expected, () => fs.rmdir(ROOT_CALLER, directory.inode, key))) {
        directory.entries!.delete(name);
      }
    } else if (what < 55) this.rename(directory, name, node);
    else if (what < 60) this.link(node);
    else if (what < 90) this.changeContent(node);
    else if (what < 95) this.changeXattr(node);
    else this.openOrClose(node);
  }

  private create(directory: ModelNode, name: string, node: ModelNode | undefined): void {
    const { fs } = this;
    const expected =
      node === undefined || (node.entries === undefined && node.target === undefined)
        ? 'ok'
        : node.entries
          ? 'EISDIR'
          : 'ELOOP';
    let created = { inode: 0, handle: 0 };
    const call = (): void => {
      const { attributes, handle } = fs.create(
        ROOT_CALLER,
        directory.inode,
        Buffer.from(name),
        0o644,
        O_RDWR,
      );
      created = { inode: attributes.inode, handle };
    };
    if (!this.expect(`create ${name}`, expected, call)) return;
    let file = node;
    if (file === undefined) {
      file = new ModelNode(created.inode, false, directory);
      directory.entries!.set(name, file);
    }
    this.open.push({ node: file, handle: created.handle });
    this.write(this.open[this.open.length - 1]!);
    if (this.random.below(4) > 0) this.closeOne(this.open.length - 1);
  }

  private closeOne(index: number): void {
    const [closed] = this.open.splice(index, 1);
    if (closed !== undefined) this.fs.release(closed.handle);
  }

  private openOrClose(node: ModelNode | undefined): void {
    if (this.open.length > 8) this.closeOne(this.random.below(this.open.length));
    else if (node !== undefined && !node.entries && node.target === undefined) {
      this.open.push({ node, handle: this.fs.open(ROOT_CALLER, node.inode, O_RDWR) });
    } else if (this.open.length > 0) this.closeOne(this.random.below(this.open.length));
  }

  private rename(directory: ModelNode, name: string, source: ModelNode | undefined): void {
    const { random, fs } = this;
    const newDirectory = this.pick(this.directories());
    const newName = this.name(newDirectory);
    const target = newDirectory.entries!.get(newName);
    const flags = this.pick([0, 0, 0, RENAME_EXCHANGE, RENAME_NOREPLACE]);
    const exchange = flags === RENAME_EXCHANGE;
    const isWithin = (node: ModelNode | undefined, ancestor: ModelNode): boolean =>
      node !== undefined && (node === ancestor || isWithin(node.parent, ancestor));
    let expected = 'ok';
    if (source === undefined) expected = 'ENOENT';
    else if (target === undefined && exchange) expected = 'ENOENT';
    else if (target !== undefined && flags === RENAME_NOREPLACE) expected = 'EEXIST';
    else if (source.entries && directory !== newDirectory && isWithin(newDirectory, source))
      expected = 'EINVAL';
    else if (target?.entries && directory !== newDirectory && isWithin(directory, target)) {
      expected = exchange ? 'EINVAL' : 'ENOTEMPTY';
    } else if (source !== target && target !== undefined && !exchange) {
      if (source.entries && !target.entries) expected = 'ENOTDIR';
      else if (!source.entries && target.entries) expected = 'EISDIR';
      else if (target.entries && target.entries.size > 0) expected = 'ENOTEMPTY';
    }
    const call = (): void =>
      fs.rename(
        ROOT_CALLER,
        directory.inode,
        Buffer.from(name),
        newDirectory.inode,
        Buffer.from(newName),
        flags,
      );
    if (!this.expect(`rename ${name} to ${newName} (${flags})`, expected, call)) return;
    if (source === target) return;
    void random;
    if (exchange) {
      directory.entries!.set(name, target!);
      target!.parent = directory;
    } else {
      directory.entries!.delete(name);
      if (target !== undefined) target.links--;
    }
    newDirectory.entries!.set(newName, source!);
    source!.parent = newDirectory;
  }

  private link(node: ModelNode | undefined): void {
    if (node === undefined) return;
    const directory = this.pick(this.directories());
    const name = this.name(directory);
    const expected = directory.entries!.has(name) ? 'EEXIST' : node.entries ? 'EPERM' : 'ok';
    const call = (): unknown => this.fs.link(ROOT_CALLER, node.inode, directory.inode, Buffer.from(name));
    if (!this.expect(`link ${name}`, expected, call)) return;
    node.links++;
    directory.entries!.set(name, node);
  }

  private changeContent(node: ModelNode | undefined): void {
    const { fs, random } = this;
    let opened = this.open.length > 0 && random.below(3) === 0 ? this.pick(this.open) : undefined;
    if (opened === undefined) {
      if (node === undefined || node.entries || node.target !== undefined) return;
      opened = { node, handle: fs.open(ROOT_CALLER, node.inode, O_RDWR) };
      this.open.push(opened);
    }
    const what = random.below(10);
    const file = opened.node;
    if (what < 6) this.write(opened);
    else if (what < 8) {
      const size = random.below(3) === 0 ? random.below(2000) : random.below(FILE_MAX);
      fs.setattr(ROOT_CALLER, file.inode, { size }, opened.handle);
      const resized = Buffer.alloc(size);
      file.content.copy(resized, 0, 0, size);
      file.content = resized;
    } else if (what < 9) {
      const at = random.below(FILE_MAX);
      const length = 1 + random.below(20_000);
      fs.fallocate(ROOT_CALLER, opened.handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, length);
      if (at < file.content.length) file.content.fill(0, at, Math.min(file.content.length, at + length));
    } else {
      const at = random.below(FILE_MAX);
      const length = 1 + random.below(10_000);
      const keepSize = random.below(2) === 0;
      fs.fallocate(ROOT_CALLER, opened.handle, keepSize ? FALLOC_FL_KEEP_SIZE : 0, at, length);
      if (!keepSize && at + length > file.content.length) {
        file.content = Buffer.concat([file.content, Buffer.alloc(at + length - file.content.length)]);
      }
    }
    const read = Buffer.alloc(100);
    const at = random.below(FILE_MAX);
    const count = fs.read(opened.handle, at, read, 0, 100);
    const expected = file.content.subarray(at, at + 100);
    if (!read.subarray(0, count).equals(expected))
      throw new Error(`step ${this.steps}: read at ${at} differs`);
    if (random.below(3) > 0) this.closeOne(this.open.indexOf(opened));
  }

  private write(opened: OpenFile): void {
    const { random } = this;
    const file = opened.node;
    const at =
      random.below(3) === 0 ? file.content.length : random.below(random.below(2) === 0 ? 1200 : FILE_MAX);
    const data = random.bytes(1 + random.below(random.below(2) === 0 ? 300 : 20_000));
    this.fs.write(ROOT_CALLER, opened.handle, at, data, 0, data.length, false);
    const size = Math.max(file.content.length, at + data.length);
    if (size > file.content.length) {
      file.content = Buffer.concat([file.content, Buffer.alloc(size - file.content.length)]);
    }
    data.copy(file.content, at);
  }

  private changeXattr(node: ModelNode | undefined): void {
    if (node === undefined || node.target !== undefined) return;
    const name = this.pick(['user.a', 'user.bb', 'trusted.c']);
    const key = Buffer.from(name);
    if (this.random.below(3) === 0) {
      const expected = node.xattrs.has(name) ? 'ok' : 'ENODATA';
      this.expect(`removexattr ${name}`, expected, () => this.fs.removexattr(ROOT_CALLER, node.inode, key));
      node.xattrs.delete(name);
    } else {
      const value = this.random.bytes(this.random.below(this.random.below(2) === 0 ? 50 : 5000));
      this.fs.setxattr(ROOT_CALLER, node.inode, key, value, 0, false);
      node.xattrs.set(name, value);
    }
  }

  /** Closes all handles that are open. */
  closeAll(): void {
    while (this.open.length > 0) this.closeOne(0);
  }
}

/** What of the tree differs from the model. */
export function treeDifferences(fs: FileSystem, root: ModelNode): string[] {
  const found: string[] = [];
  const compare = (node: ModelNode, inode: number, path: string): void => {
    const { mode, size, links } = fs.getattr(ROOT_CALLER, inode);
    if (inode !== node.inode) found.push(`${path}: inode ${inode}, expected ${node.inode}`);
    const names = Buffer.from(fs.listxattr(ROOT_CALLER, inode)).toString().split('\0').filter(Boolean).sort();
    if (names.join() !== [...node.xattrs.keys()].sort().join()) found.push(`${path}: xattrs ${names.join()}`);
    for (const [name, value] of node.xattrs) {
      if (!value.equals(fs.getxattr(ROOT_CALLER, inode, Buffer.from(name))))
        found.push(`${path}: xattr ${name}`);
    }
    if (node.entries !== undefined) {
      if ((mode & S_IFMT) !== S_IFDIR) found.push(`${path} is no directory`);
      const listed = new Map<string, number>();
      const handle = fs.opendir(ROOT_CALLER, inode);
      fs.readdir(handle, 0, (name, child) => {
        const text = Buffer.from(name).toString();
        if (text !== '.' && text !== '..') listed.set(text, child);
        return true;
      });
      fs.releasedir(handle);
      const expected = [...node.entries.keys()].sort().join();
      if ([...listed.keys()].sort().join() !== expected) {
        found.push(`${path} lists ${[...listed.keys()].join()}, expected ${expected}`);
      }
      for (const [name, child] of node.entries) {
        const childInode = listed.get(name);
        if (childInode !== undefined) compare(child, childInode, `${path}/${name}`);
      }
      return;
    }
    if (links !== node.links) found.push(`${path}: ${links} links, expected ${node.links}`);
    if (node.target !== undefined) {
      if (Buffer.from(fs.readlink(ROOT_CALLER, inode)).toString() !== node.target)
        found.push(`${path}: target`);
      return;
    }
    if (size !== node.content.length) found.push(`${path}: size ${size}, expected ${node.content.length}`);
    const handle = fs.open(ROOT_CALLER, inode, 0);
    const content = Buffer.alloc(size);
    fs.read(handle, 0, content, 0, size);
    fs.release(handle);
    if (!content.equals(node.content)) found.push(`${path}: content differs`);
  };
  compare(root, ROOT_INODE, '');
  return found;
}
