/**
 * Restoring against listings: on random histories, everything or some paths become what a listing said at the time, the
 * rest stays, the state before can be restored likewise, and all of it survives recovery.
 */
import test, { type ExecutionContext } from 'ava';
import { Database } from '../../src/plugin/database.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { Store } from '../../src/store/store.ts';
import {
  type FileSystem,
  O_RDONLY,
  O_RDWR,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/vfs/file-system.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { linesOf, verify } from '../helpers/verifying.ts';

interface Listed {
  readonly inode: number;
  readonly isDirectory: boolean;
  readonly links: number;
  /** All that is to be the same but for the number of links. */
  readonly facts: string;
  /** Without times, and without the size of a directory. */
  readonly lasting: string;
}

type Listing = Map<string, Listed>;

function contentOf(fs: FileSystem, inode: number, size: number): Buffer {
  const handle = fs.open(ROOT_CALLER, inode, O_RDONLY);
  const content = Buffer.alloc(size);
  fs.read(handle, 0, content, 0, size);
  fs.release(handle);
  return content;
}

function listing(fs: FileSystem): Listing {
  const found: Listing = new Map();
  const visit = (inode: number, path: string): void => {
    const a = { ...fs.getattr(ROOT_CALLER, inode) };
    const type = a.mode & S_IFMT;
    const xattrs = Buffer.from(fs.listxattr(ROOT_CALLER, inode))
      .toString()
      .split('\0')
      .filter(Boolean)
      .sort();
    const values = xattrs.map((name) => [
      name,
      Buffer.from(fs.getxattr(ROOT_CALLER, inode, Buffer.from(name))).toString('hex'),
    ]);
    const content =
      type === S_IFREG
        ? contentOf(fs, inode, a.size).toString('latin1')
        : type === S_IFLNK
          ? Buffer.from(fs.readlink(ROOT_CALLER, inode)).toString('latin1')
          : '';
    const isDirectory = type === S_IFDIR;
    const lasting = [a.mode, a.uid, a.gid, isDirectory ? 0 : a.size, values, content, a.birthSeconds];
    const times = [a.modifySeconds, a.modifyNanoseconds, a.changeSeconds, a.changeNanoseconds, a.size];
    found.set(path, {
      inode,
      isDirectory,
      links: a.links,
      facts: JSON.stringify([...lasting, ...times]),
      lasting: JSON.stringify(lasting),
    });
    if (!isDirectory) return;
    const children: [string, number][] = [];
    const handle = fs.opendir(ROOT_CALLER, inode);
    fs.readdir(handle, 0, (name, child) => {
      const text = Buffer.from(name).toString();
      if (text !== '.' && text !== '..') children.push([text, child]);
      return true;
    });
    fs.releasedir(handle);
    for (const [name, child] of children) visit(child, `${path}/${name}`);
  };
  visit(ROOT_INODE, '');
  return found;
}

/** A database with random histories. */
class Run {
  readonly random: Random;
  readonly directory = new MemoryDirectory('memory');
  database!: Database;
  readonly moments: { lsn: number; files: Listing }[] = [];
  readonly t: ExecutionContext;

  constructor(t: ExecutionContext, seed: number) {
    this.t = t;
    this.random = new Random(seed);
  }

  async open(): Promise<void> {
    this.database = await Database.over(
      this.directory,
      { settings: { plugins: [] }, warn: (message) => this.t.log(message) },
      { mountpoint: null, background: 'caller' },
    );
  }

  get fs() {
    return this.database.volume.live;
  }

  private pick<Value>(values: readonly Value[]): Value {
    return values[this.random.below(values.length)]!;
  }

  change(): void {
    const { fs, random } = this;
    const files = listing(fs);
    const paths = [...files.keys()];
    const directories = paths.filter((path) => files.get(path)!.isDirectory);
    const others = paths.filter((path) => !files.get(path)!.isDirectory);
    const directory = files.get(this.pick(directories))!.inode;
    const name = Buffer.from(`n${random.below(6)}`);
    const existing = fs.lookup(ROOT_CALLER, directory, name)?.inode;
    const path = this.pick(paths.length > 1 ? paths.slice(1) : paths);
    const place = this.placeOf(files, path);
    switch (random.below(11)) {
      case 0:
      case 1:
        if (existing === undefined) fs.mkdir(ROOT_CALLER, directory, name, 0o755);
        break;
      case 2:
      case 3:
      case 4:
        this.write(directory, name);
        break;
      case 5:
        if (path !== '') this.remove(files, path);
        break;
      case 6:
      case 7: {
        // A directory is not moved into itself, nor anything onto what is not empty or of another kind.
        if (path === '') break;
        try {
          fs.rename(ROOT_CALLER, place.parent, place.name, directory, name, random.below(4) === 0 ? 2 : 0);
        } catch (error) {
          this.t.true(error instanceof Error && 'errno' in error, String(error));
        }
        break;
      }
      case 8:
        if (others.length > 0 && existing === undefined) {
          fs.link(ROOT_CALLER, files.get(this.pick(others))!.inode, directory, name);
        }
        break;
      case 9:
        if (existing === undefined)
          fs.symlink(ROOT_CALLER, directory, name, Buffer.from(`to ${random.below(99)}`));
        break;
      default: {
        const { inode } = files.get(path)!;
        fs.setattr(ROOT_CALLER, inode, { uid: random.below(5) });
        const value = random.bytes(1 + random.below(2000));
        fs.setxattr(ROOT_CALLER, inode, Buffer.from('trusted.x'), value, 0, false);
      }
    }
  }

  private placeOf(files: Listing, path: string): { parent: number; name: Buffer } {
    const slash = path.lastIndexOf('/');
    const parent = path === '' ? ROOT_INODE : files.get(path.slice(0, slash))!.inode;
    return { parent, name: Buffer.from(path.slice(slash + 1)) };
  }

  /** Makes or changes a regular file. */
  private write(directory: number, name: Buffer): void {
    const { fs, random } = this;
    const found = fs.lookup(ROOT_CALLER, directory, name);
    if (found !== undefined && (found.mode & S_IFMT) !== S_IFREG) return;
    const handle =
      found === undefined
        ? fs.create(ROOT_CALLER, directory, name, S_IFREG | 0o644, O_RDWR).handle
        : fs.open(ROOT_CALLER, found.inode, O_RDWR);
    const size = this.pick([10, 900, 5000, 40_000, 90_000]);
    const bytes = random.bytes(1 + random.below(size));
    fs.write(
      ROOT_CALLER,
      handle,
      random.below(3) === 0 ? random.below(60_000) : 0,
      bytes,
      0,
      bytes.length,
      false,
    );
    if (random.below(6) === 0)
      fs.setattr(ROOT_CALLER, fs.lookup(ROOT_CALLER, directory, name)!.inode, { size: random.below(50_000) });
    fs.release(handle);
  }

  private remove(files: Listing, path: string): void {
    const below = [...files.keys()].filter((other) => other === path || other.startsWith(`${path}/`));
    for (const one of below.reverse()) {
      const { parent, name } = this.placeOf(files, one);
      if (files.get(one)!.isDirectory) this.fs.rmdir(ROOT_CALLER, parent, name);
      else this.fs.unlink(ROOT_CALLER, parent, name);
    }
  }

  async remember(): Promise<void> {
    const { lsn } = await this.database.commit();
    this.moments.push({ lsn, files: listing(this.fs) });
  }

  async pause(): Promise<void> {
    const { store } = this.database;
    switch (this.random.below(4)) {
      case 0:
        await store.checkpoint();
        break;
      case 1:
        for (let i = this.random.below(30); i > 0; i--) store.backgroundStep(0);
        break;
      case 2:
        await this.restart();
        break;
      default:
    }
  }

  async restart(): Promise<void> {
    const files = listing(this.fs);
    await this.database.commit();
    if (this.random.below(2) === 0) await this.database.close();
    else await this.database.store.log.close();
    await this.open();
    this.t.deepEqual(listing(this.fs), files, 'after a restart');
  }

  async restoreAll(): Promise<void> {
    const { t, database } = this;
    const { lsn, files } = this.pick(this.moments);
    const now = listing(this.fs);
    const result = await database.restore(lsn);
    t.deepEqual(listing(this.fs), files, `restored to ${lsn}`);
    t.is([...(await database.diff(lsn))].length, 0, 'nothing differs');
    if (!result.applied) return;
    this.moments.push({ lsn: result.before!.lsn, files: now }, { lsn: result.lsn, files });
  }

  /** What the listings say must be there afterwards. */
  async restorePaths(): Promise<void> {
    const { t, database, random } = this;
    const moment = this.pick(this.moments);
    const then = moment.files;
    const now = listing(this.fs);
    const candidates = [...then.keys(), ...now.keys()];
    const paths = Array.from({ length: 1 + random.below(2) }, () => this.pick(candidates) || '/');
    const isInside = (path: string): boolean =>
      paths.some((goal) => goal === '/' || path === goal || path.startsWith(`${goal}/`));
    let result: Awaited<ReturnType<Database['restore']>>;
    try {
      result = await database.restore(moment.lsn, { paths });
    } catch (error) {
      // What is a directory above a path in the one state may be a file in the other.
      t.true(error instanceof Error && /ENOTDIR|not a directory/i.test(`${error.message}`), String(error));
      return;
    }
    const after = listing(this.fs);
    const what = `${paths.join(' and ')} restored to ${moment.lsn}`;
    for (const [path, file] of then) {
      if (!isInside(path)) continue;
      // A name that the file has elsewhere now was not restored: its content may be another file's, its facts are not.
      t.is(after.get(path)?.facts, file.facts, `${what}: ${path}`);
    }
    for (const path of after.keys())
      if (isInside(path)) t.true(then.has(path), `${what}: ${path} is too much`);
    const taken = new Set([...then].filter(([path]) => isInside(path)).map(([, { inode }]) => inode));
    for (const [path, file] of now) {
      if (isInside(path)) continue;
      const found = after.get(path);
      t.is(found?.inode, file.inode, `${what}: ${path} is another`);
      // A file with one name inside is restored under all its names; a directory holds other names now.
      if (!taken.has(file.inode)) t.is(found?.lasting, file.lasting, `${what}: ${path}`);
    }
    for (const [path, { isDirectory }] of after) {
      const isParent = isDirectory && paths.some((goal) => goal.startsWith(`${path}/`));
      if (!now.has(path) && !isInside(path)) t.true(isParent, `${what}: ${path} came from nowhere`);
    }
    if (!result.applied) return;
    this.moments.push({ lsn: result.before!.lsn, files: now }, { lsn: result.lsn, files: after });
    // Again, which makes new copies of what lives elsewhere, and changes nothing else.
    const left = paths.filter((path) => path === '/' || then.has(path));
    if (left.length === 0 || random.below(3) > 0) return;
    await database.restore(moment.lsn, { paths: left });
    for (const [path, file] of listing(this.fs))
      t.is(file.lasting, after.get(path)?.lasting ?? '', `${what}: twice`);
  }

  async verify(): Promise<void> {
    await this.database.store.checkpoint();
    this.t.deepEqual(linesOf(verify(this.directory)), []);
  }
}

test('everything, and paths, are what they were, on random histories', async (t) => {
  const run = new Run(t, seedOf(t, 'restore'));
  Store.initialize(run.directory, { segmentSize: 1 << 20 });
  await run.open();
  await run.remember();
  for (let round = 0; round < 20; round++) {
    for (let i = 3 + run.random.below(20); i > 0; i--) run.change();
    await run.remember();
    if (run.random.below(2) === 0) await run.pause();
    for (let i = run.random.below(3); i > 0; i--) {
      if (run.random.below(2) === 0) await run.restoreAll();
      else await run.restorePaths();
      if (run.random.below(3) === 0) await run.pause();
    }
    if (round % 7 === 6) await run.verify();
  }
  await run.verify();
  await run.database.close();
});

test('two names of a file come back in two directories that are gone', async (t) => {
  const run = new Run(t, 1);
  Store.initialize(run.directory, { segmentSize: 1 << 20 });
  await run.open();
  const { fs } = run;
  const [one, other] = ['one', 'other'].map(
    (name) => fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from(name), 0o755).inode,
  );
  const name = Buffer.from('same');
  const { attributes, handle } = fs.create(ROOT_CALLER, one!, name, S_IFREG | 0o644, O_RDWR);
  fs.release(handle);
  fs.link(ROOT_CALLER, attributes.inode, other!, name);
  await run.remember();
  const [{ lsn, files }] = run.moments as [(typeof run.moments)[0]];
  for (const path of ['one', 'other']) await run.database.delete(`/${path}`, { recursive: true });
  await run.database.restore(lsn, { paths: ['/one/same', '/other/same'] });
  const after = listing(fs);
  t.deepEqual([...after.keys()].sort(), [...files.keys()].sort());
  t.is(after.get('/one/same')!.facts, files.get('/one/same')!.facts);
  t.is(after.get('/one/same')!.inode, after.get('/other/same')!.inode);
  t.is(after.get('/one/same')!.links, 2);
  await run.verify();
  await run.database.close();
});
