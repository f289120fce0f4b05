/**
 * What the programs of the crash laboratory do to a file system: one random operation after the other, on the engine
 * and on the model. Operations are chosen so that they are valid; what invalid ones answer is the conformance suite's
 * matter.
 *
 * Trees stay small (a few dozen entries, files of up to some pages), so that a state is verified in about a millisecond.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  FALLOC_FL_ZERO_RANGE,
  type FileSystem,
  O_RDWR,
  RENAME_EXCHANGE,
  ROOT_CALLER,
  S_IFDIR,
  S_IFREG,
} from '../../src/vfs/file-system.ts';
import type { Random } from '../helpers/random.ts';
import { ModelNode, type ModelPlace, ModelTree } from './crash-model.ts';

const NAMES = ['a', 'b', 'c', 'dd', 'e', 'f-with-a-longer-name', 'g', 'h'];
const XATTRS = ['user.a', 'user.bb', 'trusted.c'];
const ENTRIES_MAX = 28;
const DEPTH_MAX = 3;
const HANDLES_MAX = 4;

/** Mixes numbers into a seed, so that neighbours have nothing in common. */
export function seedFrom(...parts: readonly number[]): number {
  let hash = 0x811c9dc5;
  for (const part of parts) {
    hash = Math.imul(hash ^ part ^ (part / 2 ** 32), 0x85ebca6b);
    hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
    hash ^= hash >>> 16;
  }
  return hash >>> 0;
}

interface OpenFile {
  readonly handle: number;
  readonly node: ModelNode;
}

export class Workload {
  readonly fs: FileSystem;
  tree: ModelTree;
  random: Random;
  private readonly pageSize: number;
  /** Called after each call that may have changed something. */
  private readonly changed: () => void;
  private open: OpenFile[] = [];
  /** Within a transaction, which may be rolled back, no handle is closed. */
  private holding = false;
  /** What was done last, for a trace. */
  last = '';

  constructor(fs: FileSystem, tree: ModelTree, random: Random, pageSize: number, changed: () => void) {
    this.fs = fs;
    this.tree = tree;
    this.random = random;
    this.pageSize = pageSize;
    this.changed = changed;
  }

  private below(limit: number): number {
    return this.random.below(limit);
  }

  private pick<T>(from: readonly T[]): T | undefined {
    return from[this.below(Math.max(1, from.length))];
  }

  /** One random operation. */
  step(): void {
    const places = this.tree.places();
    const what = this.below(100);
    if (places.length > ENTRIES_MAX || what < 10) this.remove(places);
    else if (what < 24) this.create(places);
    else if (what < 30) this.makeDirectory(places);
    else if (what < 58) this.write(places);
    else if (what < 65) this.truncate(places);
    else if (what < 71) this.allocate(places);
    else if (what < 73) this.copy(places);
    else if (what < 82) this.rename(places);
    else if (what < 86) this.link(places);
    else if (what < 88) this.symlink(places);
    else if (what < 92) this.xattr(places);
    else if (what < 95) this.attributes(places);
    else if (what < 97) this.temporaryFile(places);
    else this.close();
  }

  /** A write of this many bytes, which is more than the pages that go straight to the data file. */
  largeWrite(): void {
    const files = this.files(this.tree.places());
    const node = this.pick(files);
    if (node !== undefined)
      this.writeAt(node, this.below(2) * this.pageSize, (8 + this.below(6)) * this.pageSize);
  }

  /** As large as a write can be that goes through the log. */
  largeLoggedWrite(): void {
    const node = this.pick(this.files(this.tree.places()));
    if (node !== undefined) this.writeAt(node, this.pageSize / 2, 8 * this.pageSize);
  }

  /** A place for a new entry. */
  private freePlace(
    places: readonly ModelPlace[],
  ): { directory: ModelNode; name: string; depth: number } | undefined {
    const directories = [{ node: this.tree.root, depth: 0 }, ...places.filter(({ node }) => node.entries)];
    const chosen = this.pick(directories)!;
    const name = this.pick(NAMES)!;
    if (chosen.node.entries!.has(name)) return undefined;
    return { directory: chosen.node, name, depth: chosen.depth + 1 };
  }

  private files(places: readonly ModelPlace[]): ModelNode[] {
    return places.filter(({ node }) => node.isFile).map(({ node }) => node);
  }

  private did(what: string): void {
    this.last = what;
    this.changed();
  }

  private create(places: readonly ModelPlace[]): void {
    const place = this.freePlace(places);
    if (place === undefined) {
      this.write(places);
      return;
    }
    const { directory, name } = place;
    const { attributes, handle } = this.fs.create(
      ROOT_CALLER,
      directory.inode,
      Buffer.from(name),
      0o644,
      O_RDWR,
    );
    const node = new ModelNode(attributes.inode, S_IFREG | 0o644);
    directory.entries!.set(name, node);
    this.open.push({ handle, node });
    this.did(`create ${name} as ${node.inode}`);
    if (this.below(3) > 0) this.writeHandle(handle, node, 0, this.length());
    if (this.below(3) > 0) this.close();
    this.closeSome();
  }

  private length(): number {
    const kind = this.below(10);
    if (kind < 4) return 1 + this.below(300);
    if (kind < 8) return 1 + this.below(12_000);
    if (kind < 9) return this.pageSize * (1 + this.below(6));
    return this.pageSize * (8 + this.below(4)) + this.below(2) * this.below(5000);
  }

  /** A handle of the file: one that is open, or a new one. */
  private handleOf(node: ModelNode): number {
    const opened = this.open.find((file) => file.node === node);
    if (opened !== undefined) return opened.handle;
    const handle = this.fs.open(ROOT_CALLER, node.inode, O_RDWR);
    this.open.push({ handle, node });
    return handle;
  }

  private someFile(places: readonly ModelPlace[]): ModelNode | undefined {
    // Also one that has no name any more.
    if (this.open.length > 0 && this.below(4) === 0) return this.pick(this.open)!.node;
    return this.pick(this.files(places));
  }

  private write(places: readonly ModelPlace[]): void {
    const node = this.someFile(places);
    if (node === undefined) return;
    const at = [0, node.content.length, this.pageSize * this.below(6), this.below(30_000)][this.below(4)]!;
    this.writeAt(node, at, this.length());
  }

  private writeAt(node: ModelNode, at: number, length: number): void {
    this.writeHandle(this.handleOf(node), node, at, length);
    this.closeSome();
  }

  private writeHandle(handle: number, node: ModelNode, at: number, length: number): void {
    const data = Buffer.allocUnsafe(length);
    // A few random numbers and a pattern: no two writes alike, and cheap to make.
    const salt = this.random.next();
    for (let i = 0; i < length; i++) data[i] = (salt >>> (8 * (i & 3))) + (i >>> 2) * 7;
    this.fs.write(ROOT_CALLER, handle, at, data, 0, length, false);
    const content = Buffer.alloc(Math.max(node.content.length, at + length));
    node.content.copy(content);
    data.copy(content, at);
    node.content = content;
    this.did(`write ${node.inode} ${at}+${length}`);
  }

  private truncate(places: readonly ModelPlace[]): void {
    const node = this.someFile(places);
    if (node === undefined) return;
    const size = [0, this.below(400), this.below(40_000), this.pageSize * this.below(8)][this.below(4)]!;
    this.fs.setattr(ROOT_CALLER, node.inode, { size });
    node.content = resized(node.content, size);
    this.did(`truncate ${node.inode} to ${size}`);
  }

  private allocate(places: readonly ModelPlace[]): void {
    const node = this.someFile(places);
    if (node === undefined) return;
    const modes = [
      0,
      FALLOC_FL_KEEP_SIZE,
      FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
      FALLOC_FL_ZERO_RANGE,
      FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
    ];
    const mode = this.pick(modes)!;
    const at = this.below(2) === 0 ? this.pageSize * this.below(6) : this.below(30_000);
    const length = 1 + this.below(20_000);
    this.fs.fallocate(ROOT_CALLER, this.handleOf(node), mode, at, length);
    let { content } = node;
    if ((mode & FALLOC_FL_KEEP_SIZE) === 0 && at + length > content.length)
      content = resized(content, at + length);
    if ((mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) !== 0 && at < content.length) {
      content = Buffer.from(content).fill(0, at, Math.min(content.length, at + length));
    }
    node.content = content;
    this.did(`fallocate ${node.inode} ${mode} ${at}+${length}`);
    this.closeSome();
  }

  private copy(places: readonly ModelPlace[]): void {
    const source = this.someFile(places);
    const target = this.someFile(places);
    if (source === undefined || target === undefined || source === target) return;
    const at = this.pageSize * this.below(3);
    const to = this.pageSize * this.below(3);
    const from = this.handleOf(source);
    const into = this.handleOf(target);
    const count = this.fs.copyFileRange(ROOT_CALLER, from, at, into, to, 1 + this.below(60_000));
    if (count > 0) {
      const content = resized(target.content, Math.max(target.content.length, to + count));
      source.content.copy(content, to, at, at + count);
      target.content = content;
    }
    this.did(`copy ${source.inode} ${at} to ${target.inode} ${to}+${count}`);
    this.closeSome();
  }

  private closeSome(): void {
    while (!this.holding && this.open.length > HANDLES_MAX) this.close();
  }

  private close(): void {
    if (this.holding) return;
    const [closed] = this.open.splice(this.below(Math.max(1, this.open.length)), 1);
    if (closed === undefined) return;
    this.fs.release(closed.handle);
    this.did(`close ${closed.node.inode}`);
  }

  private makeDirectory(places: readonly ModelPlace[]): void {
    const place = this.freePlace(places);
    if (place === undefined || place.depth > DEPTH_MAX) return;
    const { directory, name } = place;
    const { inode } = this.fs.mkdir(ROOT_CALLER, directory.inode, Buffer.from(name), 0o755);
    directory.entries!.set(name, new ModelNode(inode, S_IFDIR | 0o755));
    this.did(`mkdir ${name} as ${inode}`);
  }

  private remove(places: readonly ModelPlace[]): void {
    const place = this.pick(places.filter(({ node }) => (node.entries?.size ?? 0) === 0));
    if (place === undefined) return;
    const { directory, name, node } = place;
    const key = Buffer.from(name);
    if (node.entries !== undefined) this.fs.rmdir(ROOT_CALLER, directory.inode, key);
    else {
      // Sometimes it stays open, and becomes an orphan.
      if (node.isFile && this.below(3) === 0 && this.open.length < HANDLES_MAX) this.handleOf(node);
      this.fs.unlink(ROOT_CALLER, directory.inode, key);
      node.links--;
    }
    directory.entries!.delete(name);
    this.did(`remove ${name}, ${node.inode}`);
  }

  private rename(places: readonly ModelPlace[]): void {
    const source = this.pick(places);
    if (source === undefined) return;
    const { directory, name, node } = source;
    const leaves = places.filter((place) => place.node.entries === undefined && place.node !== node);
    const target = node.entries === undefined && this.below(2) === 0 ? this.pick(leaves) : undefined;
    if (target !== undefined) {
      const exchange = this.below(2) === 0;
      const flags = exchange ? RENAME_EXCHANGE : 0;
      const [from, to] = [Buffer.from(name), Buffer.from(target.name)];
      this.fs.rename(ROOT_CALLER, directory.inode, from, target.directory.inode, to, flags);
      if (exchange) directory.entries!.set(name, target.node);
      else {
        directory.entries!.delete(name);
        target.node.links--;
      }
      target.directory.entries!.set(target.name, node);
      this.did(
        `rename ${name}, ${node.inode}, ${exchange ? 'with' : 'over'} ${target.name}, ${target.node.inode}`,
      );
      return;
    }
    // A directory only within its own, so that no path gets too deep and none into itself.
    const place =
      node.entries === undefined
        ? this.freePlace(places)
        : { directory, name: NAMES.find((free) => !directory.entries!.has(free)) };
    if (place?.name === undefined) return;
    const [from, to] = [Buffer.from(name), Buffer.from(place.name)];
    this.fs.rename(ROOT_CALLER, directory.inode, from, place.directory.inode, to, 0);
    directory.entries!.delete(name);
    place.directory.entries!.set(place.name, node);
    this.did(`rename ${name}, ${node.inode}, to ${place.name}`);
  }

  private link(places: readonly ModelPlace[]): void {
    const node = this.pick(this.files(places));
    const place = this.freePlace(places);
    if (node === undefined || place === undefined) return;
    this.fs.link(ROOT_CALLER, node.inode, place.directory.inode, Buffer.from(place.name));
    node.links++;
    place.directory.entries!.set(place.name, node);
    this.did(`link ${node.inode} as ${place.name}`);
  }

  private symlink(places: readonly ModelPlace[]): void {
    const place = this.freePlace(places);
    if (place === undefined) return;
    const target = 'x'.repeat(1 + this.below(this.below(2) === 0 ? 40 : 4000));
    const { directory, name } = place;
    const { inode, mode } = this.fs.symlink(
      ROOT_CALLER,
      directory.inode,
      Buffer.from(name),
      Buffer.from(target),
    );
    const node = new ModelNode(inode, mode);
    node.target = target;
    directory.entries!.set(name, node);
    this.did(`symlink ${name} as ${inode}`);
  }

  private xattr(places: readonly ModelPlace[]): void {
    const node = this.pick(places.filter((place) => place.node.isFile || place.node.entries))?.node;
    if (node === undefined) return;
    const name = this.pick(XATTRS)!;
    const xattrs = new Map(node.xattrs);
    if (xattrs.has(name) && this.below(2) === 0) {
      this.fs.removexattr(ROOT_CALLER, node.inode, Buffer.from(name));
      xattrs.delete(name);
    } else {
      const value = this.random.bytes(this.below(this.below(3) > 0 ? 50 : 5000));
      this.fs.setxattr(ROOT_CALLER, node.inode, Buffer.from(name), value, 0, false);
      xattrs.set(name, value);
    }
    node.xattrs = xattrs;
    this.did(`xattr ${name} of ${node.inode}`);
  }

  private attributes(places: readonly ModelPlace[]): void {
    const node = this.pick(places.filter((place) => place.node.isFile || place.node.entries))?.node;
    if (node === undefined) return;
    if (this.below(2) === 0) {
      const mode = [0o600, 0o640, 0o755, 0o777][this.below(4)]!;
      this.fs.setattr(ROOT_CALLER, node.inode, { mode });
      node.mode = (node.mode & ~0o7777) | mode;
      this.did(`chmod ${node.inode} ${mode.toString(8)}`);
    } else {
      const time = { seconds: this.random.next(), nanoseconds: this.below(1_000_000_000) };
      this.fs.setattr(ROOT_CALLER, node.inode, { access: time, modify: time });
      this.did(`utimens ${node.inode}`);
    }
  }

  private temporaryFile(places: readonly ModelPlace[]): void {
    if (this.open.length >= HANDLES_MAX) {
      this.close();
      return;
    }
    const { attributes, handle } = this.fs.tmpfile(ROOT_CALLER, this.tree.root.inode, 0o600, O_RDWR);
    const node = new ModelNode(attributes.inode, S_IFREG | 0o600);
    node.links = 0;
    this.open.push({ handle, node });
    this.did(`tmpfile ${node.inode}`);
    this.writeHandle(handle, node, 0, this.length());
    const place = this.freePlace(places);
    if (place === undefined) return;
    this.fs.link(ROOT_CALLER, node.inode, place.directory.inode, Buffer.from(place.name));
    node.links = 1;
    place.directory.entries!.set(place.name, node);
    this.did(`link ${node.inode} as ${place.name}`);
  }

  /** Begins what may be rolled back. Returns what ends it. */
  beginTransaction(): (keep: boolean) => void {
    const seen = new Map<ModelNode, ModelNode>();
    const root = this.tree.root.clone(seen);
    const open = this.open.map(({ handle, node }) => ({ handle, node: node.clone(seen) }));
    this.holding = true;
    return (keep) => {
      this.holding = false;
      if (keep) return;
      const opened = this.open.slice(open.length);
      this.tree = new ModelTree(root);
      this.open = open;
      for (const { handle } of opened) this.fs.release(handle);
    };
  }

  /** The file system was restored: the model is what it shows now, with what is open and has no name any more. */
  restored(): void {
    this.tree = ModelTree.of(this.fs);
    const named = new Map(this.tree.places().map(({ node }) => [node.inode, node]));
    this.open = this.open.map(({ handle, node }) => {
      const now = named.get(node.inode) ?? node;
      if (now === node) node.links = 0;
      return { handle, node: now };
    });
  }

  /** Closes what is open. */
  closeAll(): void {
    while (this.open.length > 0) this.close();
  }
}

function resized(content: Buffer, size: number): Buffer {
  const copy = Buffer.alloc(size);
  content.copy(copy, 0, 0, Math.min(size, content.length));
  return copy;
}
