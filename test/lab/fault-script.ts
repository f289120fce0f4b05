/**
 * The program of the laboratory of failing disks: the same operations in the same order each time, in four sessions. They are chosen
 * to reach every place of the engine that touches the disk: segments being crossed and made, large writes past the log,
 * checkpoints in steps with changes in between, snapshots, rollbacks, orphans, the past, recovery with much to replay.
 */
import {
  FALLOC_FL_KEEP_SIZE,
  FALLOC_FL_PUNCH_HOLE,
  O_RDWR,
  RENAME_EXCHANGE,
  ROOT_CALLER,
  ROOT_INODE,
} from '../../src/vfs/file-system.ts';
import type { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { Unmet } from './fault-model.ts';
import type { FaultRun } from './faults.ts';

const PAGE = 4096;

/** Bytes that say where they belong. */
function bytes(length: number, salt: number): Buffer {
  const content = Buffer.allocUnsafe(length);
  for (let i = 0; i < length; i++) content[i] = (salt * 31 + (i >>> 8) * 7 + i) & 0xff;
  return content;
}

function find(fs: LiveFileSystem, path: string): number {
  let inode = ROOT_INODE;
  for (const name of path.split('/').slice(1)) {
    const found = name === '' ? undefined : fs.lookup(ROOT_CALLER, inode, Buffer.from(name));
    if (name !== '' && found === undefined) throw new Error(`the model has ${path}, and the store has not`);
    inode = found?.inode ?? inode;
  }
  return inode;
}

function split(path: string): { parent: string; name: Buffer } {
  const slash = path.lastIndexOf('/');
  return { parent: path.slice(0, slash), name: Buffer.from(path.slice(slash + 1)) };
}

function withHandle(fs: LiveFileSystem, path: string, work: (handle: number, inode: number) => void): void {
  const inode = find(fs, path);
  const handle = fs.open(ROOT_CALLER, inode, O_RDWR);
  try {
    work(handle, inode);
  } finally {
    fs.release(handle);
  }
}

/** The changes, each one transaction of the file system. */
class Hand {
  readonly run: FaultRun;

  constructor(run: FaultRun) {
    this.run = run;
  }

  mkdir(path: string): Promise<void> {
    const { parent, name } = split(path);
    const make = (fs: LiveFileSystem): unknown => fs.mkdir(ROOT_CALLER, find(fs, parent), name, 0o755);
    return this.run.change(`mkdir ${path}`, (model) => model.mkdir(path), make);
  }

  create(path: string): Promise<void> {
    const { parent, name } = split(path);
    const make = (fs: LiveFileSystem): void => {
      const { handle } = fs.create(ROOT_CALLER, find(fs, parent), name, 0o644, O_RDWR);
      fs.release(handle);
    };
    return this.run.change(`create ${path}`, (model) => model.create(path), make);
  }

  write(path: string, at: number, content: Buffer): Promise<void> {
    const write = (fs: LiveFileSystem): void =>
      withHandle(fs, path, (handle) => {
        fs.write(ROOT_CALLER, handle, at, content, 0, content.length, false);
      });
    return this.run.change(
      `write ${path} ${at}+${content.length}`,
      (model) => model.write(path, at, content),
      write,
    );
  }

  async file(path: string, content: Buffer): Promise<void> {
    await this.create(path);
    await this.write(path, 0, content);
  }

  truncate(path: string, size: number): Promise<void> {
    const cut = (fs: LiveFileSystem): unknown => fs.setattr(ROOT_CALLER, find(fs, path), { size });
    return this.run.change(`truncate ${path} to ${size}`, (model) => model.truncate(path, size), cut);
  }

  chmod(path: string, mode: number): Promise<void> {
    const change = (fs: LiveFileSystem): unknown => fs.setattr(ROOT_CALLER, find(fs, path), { mode });
    return this.run.change(`chmod ${path}`, (model) => model.chmod(path, mode), change);
  }

  punch(path: string, at: number, length: number): Promise<void> {
    const mode = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
    const punch = (fs: LiveFileSystem): void =>
      withHandle(fs, path, (handle) => fs.fallocate(ROOT_CALLER, handle, mode, at, length));
    return this.run.change(`punch ${path}`, (model) => model.zero(path, at, length), punch);
  }

  symlink(path: string, target: string): Promise<void> {
    const { parent, name } = split(path);
    const make = (fs: LiveFileSystem): unknown =>
      fs.symlink(ROOT_CALLER, find(fs, parent), name, Buffer.from(target));
    return this.run.change(`symlink ${path}`, (model) => model.symlink(path, target), make);
  }

  link(from: string, to: string): Promise<void> {
    const { parent, name } = split(to);
    const make = (fs: LiveFileSystem): unknown =>
      fs.link(ROOT_CALLER, find(fs, from), find(fs, parent), name);
    return this.run.change(`link ${from} as ${to}`, (model) => model.link(from, to), make);
  }

  unlink(path: string): Promise<void> {
    const { parent, name } = split(path);
    const remove = (fs: LiveFileSystem): void => fs.unlink(ROOT_CALLER, find(fs, parent), name);
    return this.run.change(`unlink ${path}`, (model) => model.remove(path), remove);
  }

  rename(from: string, to: string, exchange = false): Promise<void> {
    const [source, target] = [split(from), split(to)];
    const move = (fs: LiveFileSystem): void => {
      const flags = exchange ? RENAME_EXCHANGE : 0;
      fs.rename(
        ROOT_CALLER,
        find(fs, source.parent),
        source.name,
        find(fs, target.parent),
        target.name,
        flags,
      );
    };
    return this.run.change(`rename ${from} to ${to}`, (model) => model.rename(from, to, exchange), move);
  }

  setxattr(path: string, name: string, value: string): Promise<void> {
    const set = (fs: LiveFileSystem): void =>
      fs.setxattr(ROOT_CALLER, find(fs, path), Buffer.from(name), Buffer.from(value, 'latin1'), 0, false);
    return this.run.change(`setxattr ${path}`, (model) => model.setxattr(path, name, value), set);
  }

  /** Removes a file that is open, writes to it, and closes it. */
  async orphan(path: string): Promise<void> {
    if (!this.run.model.has(path)) return;
    let handle = 0;
    await this.run.use(`open ${path}`, (fs) => {
      handle = fs.open(ROOT_CALLER, find(fs, path), O_RDWR);
    });
    await this.unlink(path);
    if (handle === 0) return;
    const content = bytes(10 * PAGE, 99);
    await this.run.change(
      'write an orphan',
      (model) => {
        if (model.has(path)) throw new Unmet('it has its name still');
      },
      (fs) => fs.write(ROOT_CALLER, handle, 0, content, 0, content.length, false),
    );
    await this.run.release('close an orphan', handle);
  }
}

async function firstSession(run: FaultRun, hand: Hand): Promise<void> {
  for (const directory of ['/a', '/b', '/b/c']) await hand.mkdir(directory);
  for (let i = 0; i < 12; i++) await hand.file(`/a/small-${i}`, bytes(100 + 60 * i, i));
  await run.commit();
  await hand.file('/b/logged', bytes(20_000, 20));
  await hand.file('/b/direct', bytes(11 * PAGE + 300, 21));
  await hand.write('/b/direct', 2 * PAGE, bytes(9 * PAGE, 22));
  await run.overlap(async () => {
    await hand.rename('/a/small-1', '/b/c/moved');
    await hand.rename('/a/small-2', '/a/small-3', true);
  });
  await hand.symlink('/b/link', 'x'.repeat(3000));
  await hand.link('/a/small-4', '/b/c/second');
  await hand.setxattr('/b/logged', 'user.long', 'v'.repeat(3000));
  await run.snapshot('first');
  await run.checkpointInSteps(async (step) => {
    if (step === 0) await hand.write('/b/logged', 5000, bytes(9000, 23));
    else if (step === 1) await hand.file('/a/amid', bytes(8 * PAGE, 24));
    else if (step < 4) await hand.chmod('/a/small-5', 0o600 + step);
  });
  await run.transaction(
    'a transaction',
    (model) => {
      model.mkdir('/t');
      model.create('/t/one');
      model.write('/t/one', 0, bytes(9 * PAGE, 30));
      model.create('/t/two');
      model.write('/t/two', 0, bytes(500, 31));
    },
    (transaction) => {
      transaction.put('/t/one', bytes(9 * PAGE, 30));
      transaction.put('/t/two', bytes(500, 31));
    },
  );
  await run.transaction(
    'a transaction that is rolled back',
    () => {},
    (transaction) => {
      transaction.put('/t/three', bytes(12 * PAGE, 32));
      transaction.delete('/b', { recursive: true });
    },
    true,
  );
  await hand.orphan('/a/amid');
  await run.readAll();
  await run.readPast(3);
  await run.readPast(20);
}

async function secondSession(run: FaultRun, hand: Hand): Promise<void> {
  await hand.truncate('/b/direct', 5 * PAGE + 10);
  await hand.punch('/b/direct', PAGE, 2 * PAGE);
  await run.readAll();
  await run.checkpoint();
  // Over two segments, without anybody waiting.
  for (let i = 0; i < 8; i++) await hand.file(`/b/c/fill-${i}`, bytes(5 * PAGE + i, 40 + i));
  await run.commit();
  await run.deleteSnapshot('first');
  await hand.write('/b/logged', 0, bytes(16 * PAGE, 50));
  await run.snapshot('second');
  await run.snapshot('third');
  await hand.unlink('/b/c/fill-3');
  await run.checkpoint();
  await run.readPast(12);
  for (let i = 0; i < 4; i++) await hand.write('/b/direct', i * 3 * PAGE, bytes(8 * PAGE, 60 + i));
  await run.commit();
  await run.snapshot('fourth');
  await hand.write('/b/c/moved', 10, bytes(3000, 70));
  // Left to the next process: not known to be durable.
}

async function thirdSession(run: FaultRun, hand: Hand): Promise<void> {
  await run.readAll();
  await run.readPast(1);
  await run.transaction(
    'many changes at once',
    (model) => {
      model.mkdir('/many');
      for (let i = 0; i < 30; i++) {
        model.create(`/many/${i}`);
        model.write(`/many/${i}`, 0, bytes(900, i));
      }
    },
    (transaction) => {
      for (let i = 0; i < 30; i++) transaction.put(`/many/${i}`, bytes(900, i));
    },
  );
  await hand.orphan('/many/7');
  await run.checkpointInSteps(async () => {});
  await run.checkpointInSteps(async () => {});
  await hand.write('/b/direct', 0, bytes(20 * PAGE, 80));
  await hand.mkdir('/last');
}

/** The whole program: sessions that end by closing, by the death of the process, and by closing again. */
export async function program(run: FaultRun): Promise<void> {
  const hand = new Hand(run);
  await run.initialize();
  await run.open();
  await firstSession(run, hand);
  await run.close();
  await run.open();
  await secondSession(run, hand);
  await run.kill();
  await run.open();
  await thirdSession(run, hand);
  await run.close();
  await run.open();
  await run.readAll();
  run.heal();
  await run.close();
}

/**
 * A program in a hurry: changes come faster than checkpoints are written, so that who makes them works on those, amid
 * an operation.
 */
export async function hurry(run: FaultRun): Promise<void> {
  const hand = new Hand(run);
  await run.initialize();
  await run.open();
  await hand.mkdir('/h');
  for (let i = 0; i < 150; i++) await hand.file(`/h/${i}`, bytes(7 * PAGE, i));
  await run.snapshot('in-a-hurry');
  for (let i = 0; i < 6; i++) await hand.unlink(`/h/${i}`);
  await run.checkpoint();
  await run.close();
  await run.open();
  await run.readAll();
  run.heal();
  await run.close();
}
