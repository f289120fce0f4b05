/**
 * A store's history as it should be, kept beside the store while changes are made.
 *
 * The scribe makes a change on the live file system and on a model in memory, and files what the model holds under
 * the LSN at which the change ended. One operation of the VFS is one transaction, and what else the log holds
 * (checkpoints) changes nothing, so the model knows every state that a recovery may find. States share what did not
 * change: an inode of the model is never altered, only replaced.
 */
import { LsnfsError } from '../../src/errors.ts';
import type { Database } from '../../src/plugin/database.ts';
import {
  type Attributes,
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_RDWR,
  ROOT_CALLER,
  ROOT_INODE,
} from '../../src/vfs/file-system.ts';
import type { LiveFileSystem } from '../../src/vfs/live-file-system.ts';

export interface ModelInode {
  /** What stat says: all of it, times and blocks included. */
  readonly attributes: Attributes;
  /** Of a regular file. */
  readonly content: Buffer | undefined;
  /** Of a symbolic link. */
  readonly target: string | undefined;
  /** Of a directory: name → inode. */
  readonly entries: ReadonlyMap<string, number> | undefined;
  readonly xattrs: ReadonlyMap<string, Buffer>;
}

export interface ModelState {
  readonly lsn: number;
  readonly inodes: ReadonlyMap<number, ModelInode>;
  /** Snapshots: name → LSN. */
  readonly snapshots: ReadonlyMap<string, number>;
}

/** The state that a recovery up to `lsn` shows. States are in order of LSN. */
export function stateAt(states: readonly ModelState[], lsn: number): ModelState {
  let low = 0;
  let high = states.length - 1;
  while (low < high) {
    const middle = (low + high + 1) >> 1;
    if (states[middle]!.lsn <= lsn) low = middle;
    else high = middle - 1;
  }
  return states[low]!;
}

const bytesOf = (text: string): Buffer => Buffer.from(text, 'utf8');

function copyAttributes(a: Attributes): Attributes {
  return {
    inode: a.inode,
    mode: a.mode,
    links: a.links,
    uid: a.uid,
    gid: a.gid,
    device: a.device,
    size: a.size,
    blocks: a.blocks,
    blockSize: a.blockSize,
    accessSeconds: a.accessSeconds,
    accessNanoseconds: a.accessNanoseconds,
    modifySeconds: a.modifySeconds,
    modifyNanoseconds: a.modifyNanoseconds,
    changeSeconds: a.changeSeconds,
    changeNanoseconds: a.changeNanoseconds,
    birthSeconds: a.birthSeconds,
    birthNanoseconds: a.birthNanoseconds,
  };
}

/** Whether two descriptions of an inode are the same; the name of the first field that is not, or undefined. */
export function differingAttribute(a: Attributes, b: Attributes): string | undefined {
  const expected = copyAttributes(a);
  for (const key of Object.keys(expected) as (keyof Attributes)[]) if (a[key] !== b[key]) return key;
  return undefined;
}

interface Place {
  readonly parent: number;
  readonly name: string;
  readonly inode: number | undefined;
}

export class Scribe {
  readonly database: Database;
  readonly states: ModelState[];
  private readonly fs: LiveFileSystem;
  private inodes: Map<number, ModelInode>;
  private snapshotLsns: Map<string, number>;

  /** Goes on from `start`; without it, from the empty root directory that the database has. */
  constructor(database: Database, start?: ModelState) {
    this.database = database;
    this.fs = database.volume.live;
    this.inodes = new Map(start?.inodes);
    this.snapshotLsns = new Map(start?.snapshots);
    this.states = start === undefined ? [] : [start];
    if (start === undefined) {
      this.set(ROOT_INODE, { content: undefined, target: undefined, entries: new Map(), xattrs: new Map() });
      this.file();
    }
  }

  /** The model's present state. */
  get state(): ModelState {
    return this.states[this.states.length - 1]!;
  }

  private set(inode: number, parts: Omit<ModelInode, 'attributes'>): void {
    this.inodes.set(inode, { ...parts, attributes: copyAttributes(this.fs.getattr(ROOT_CALLER, inode)) });
  }

  private change(inode: number, parts: Partial<Omit<ModelInode, 'attributes'>>): void {
    this.set(inode, { ...this.inodes.get(inode)!, ...parts });
  }

  private file(): void {
    this.states.push({
      lsn: this.database.lsn,
      inodes: new Map(this.inodes),
      snapshots: new Map(this.snapshotLsns),
    });
  }

  /** Where a path ends, by the model. */
  private place(path: string): Place {
    const names = path.split('/').filter((name) => name !== '');
    const name = names.pop()!;
    let parent = ROOT_INODE;
    for (const directory of names) parent = this.inodes.get(parent)!.entries!.get(directory)!;
    return { parent, name, inode: this.inodes.get(parent)!.entries!.get(name) };
  }

  private inode(path: string): number {
    return this.place(path).inode!;
  }

  private setEntry(parent: number, name: string, inode: number | undefined): void {
    const entries = new Map(this.inodes.get(parent)!.entries);
    if (inode === undefined) entries.delete(name);
    else entries.set(name, inode);
    this.change(parent, { entries });
  }

  private add(
    path: string,
    make: (parent: number, name: Buffer) => number,
    parts: Partial<ModelInode>,
  ): void {
    const { parent, name } = this.place(path);
    const inode = make(parent, bytesOf(name));
    this.set(inode, {
      content: undefined,
      target: undefined,
      entries: undefined,
      xattrs: new Map(),
      ...parts,
    });
    this.setEntry(parent, name, inode);
    this.file();
  }

  mkdir(path: string): void {
    const make = (parent: number, name: Buffer): number =>
      this.fs.mkdir(ROOT_CALLER, parent, name, 0o750).inode;
    this.add(path, make, { entries: new Map() });
  }

  symlink(path: string, target: string): void {
    const make = (parent: number, name: Buffer): number =>
      this.fs.symlink(ROOT_CALLER, parent, name, bytesOf(target)).inode;
    this.add(path, make, { target });
  }

  /** Makes a file, and gives it its content in a second operation. */
  create(path: string, content: Buffer): void {
    let handle = 0;
    const make = (parent: number, name: Buffer): number => {
      const made = this.fs.create(ROOT_CALLER, parent, name, 0o640, O_RDWR);
      handle = made.handle;
      return made.attributes.inode;
    };
    this.add(path, make, { content: Buffer.alloc(0) });
    this.fs.release(handle);
    if (content.length > 0) this.write(path, 0, content);
  }

  private withHandle(inode: number, work: (handle: number) => void): void {
    const handle = this.fs.open(ROOT_CALLER, inode, O_RDWR);
    try {
      work(handle);
    } finally {
      this.fs.release(handle);
    }
  }

  write(path: string, offset: number, data: Buffer): void {
    const inode = this.inode(path);
    this.withHandle(inode, (handle) => {
      this.fs.write(ROOT_CALLER, handle, offset, data, 0, data.length, false);
    });
    const old = this.inodes.get(inode)!.content!;
    const content = Buffer.alloc(Math.max(old.length, offset + data.length));
    old.copy(content);
    data.copy(content, offset);
    this.change(inode, { content });
    this.file();
  }

  truncate(path: string, size: number): void {
    const inode = this.inode(path);
    this.fs.setattr(ROOT_CALLER, inode, { size });
    const content = Buffer.alloc(size);
    this.inodes.get(inode)!.content!.copy(content, 0, 0, size);
    this.change(inode, { content });
    this.file();
  }

  punch(path: string, offset: number, length: number): void {
    const inode = this.inode(path);
    this.withHandle(inode, (handle) => {
      this.fs.fallocate(ROOT_CALLER, handle, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length);
    });
    const content = Buffer.from(this.inodes.get(inode)!.content!);
    content.fill(0, Math.min(offset, content.length), Math.min(offset + length, content.length));
    this.change(inode, { content });
    this.file();
  }

  allocate(path: string, offset: number, length: number, keepSize: boolean): void {
    const inode = this.inode(path);
    this.withHandle(inode, (handle) => {
      this.fs.fallocate(ROOT_CALLER, handle, keepSize ? FALLOC_FL_KEEP_SIZE : 0, offset, length);
    });
    const old = this.inodes.get(inode)!.content!;
    const content = Buffer.alloc(keepSize ? old.length : Math.max(old.length, offset + length));
    old.copy(content);
    this.change(inode, { content });
    this.file();
  }

  link(path: string, to: string): void {
    const inode = this.inode(path);
    const { parent, name } = this.place(to);
    this.fs.link(ROOT_CALLER, inode, parent, bytesOf(name));
    this.change(inode, {});
    this.setEntry(parent, name, inode);
    this.file();
  }

  /** Removes a name; with `keepOpen` the inode stays, an orphan. */
  unlink(path: string, keepOpen = false): void {
    const { parent, name, inode } = this.place(path);
    if (keepOpen) this.fs.open(ROOT_CALLER, inode!, O_RDWR);
    this.fs.unlink(ROOT_CALLER, parent, bytesOf(name));
    if (this.inodes.get(inode!)!.attributes.links > 1) this.change(inode!, {});
    else this.inodes.delete(inode!);
    this.setEntry(parent, name, undefined);
    this.file();
  }

  rename(from: string, to: string): void {
    const source = this.place(from);
    const target = this.place(to);
    const [name, newName] = [bytesOf(source.name), bytesOf(target.name)];
    this.fs.rename(ROOT_CALLER, source.parent, name, target.parent, newName, 0);
    if (target.inode !== undefined) {
      if (this.inodes.get(target.inode)!.attributes.links > 1) this.change(target.inode, {});
      else this.inodes.delete(target.inode);
    }
    this.change(source.inode!, {});
    this.setEntry(source.parent, source.name, undefined);
    this.setEntry(target.parent, target.name, source.inode);
    this.file();
  }

  setXattr(path: string, name: string, value: Buffer): void {
    const inode = this.inode(path);
    this.fs.setxattr(ROOT_CALLER, inode, bytesOf(name), value, 0, false);
    this.change(inode, { xattrs: new Map([...this.inodes.get(inode)!.xattrs, [name, value]]) });
    this.file();
  }

  async snapshot(name: string): Promise<void> {
    const { lsn } = await this.database.snapshots.create(name, { message: `what ${name} holds` });
    this.snapshotLsns.set(name, lsn);
    this.file();
  }

  async deleteSnapshot(name: string): Promise<void> {
    await this.database.snapshots.delete(name);
    this.snapshotLsns.delete(name);
    this.file();
  }

  /** Does what may fail for the damage of the store: then the model stays as it was. Returns the error. */
  async attempt(work: () => void | Promise<void>): Promise<LsnfsError | undefined> {
    const { inodes, snapshotLsns } = this;
    const states = this.states.length;
    this.inodes = new Map(inodes);
    this.snapshotLsns = new Map(snapshotLsns);
    try {
      await work();
      return undefined;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      // Of several operations those before the failing one have been filed.
      const last = this.states.length > states ? this.state : undefined;
      this.inodes = new Map(last?.inodes ?? inodes);
      this.snapshotLsns = new Map(last?.snapshots ?? snapshotLsns);
      return error;
    }
  }
}
