/**
 * A pass-through to a directory as a program would write it on fuse-native: `node passthrough.js BELOW MOUNTPOINT`. Says
 * "mounted", and serves until its input ends. It is what the mount benchmark compares with; nothing else uses it.
 */
import * as fs from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';

type Answer = (code: number, ...results: unknown[]) => void;
type Fuse = new (
  mountpoint: string,
  handlers: object,
  options: object,
) => { mount(done: (error: Error | null) => void): void; unmount(done: (error: Error | null) => void): void };

const [below, mountpoint] = process.argv.slice(2) as [string, string];
const require = createRequire(import.meta.url);
const Native = require('fuse-native') as Fuse;
const at = (path: string): string => join(below, path);

/** Answers with a negative errno when the call fails. */
function answered(answer: Answer, work: () => readonly unknown[]): void {
  let results: readonly unknown[];
  try {
    results = work();
  } catch (error) {
    answer((error as NodeJS.ErrnoException & { errno: number }).errno);
    return;
  }
  answer(0, ...results);
}

/** Of the calls that answer with a count instead. */
function counted(answer: Answer, work: () => number): void {
  try {
    answer(work());
  } catch (error) {
    answer((error as NodeJS.ErrnoException & { errno: number }).errno);
  }
}

const handlers = {
  init: (answer: Answer) => answer(0),
  getattr: (path: string, answer: Answer) => answered(answer, () => [fs.lstatSync(at(path))]),
  fgetattr: (_path: string, file: number, answer: Answer) => answered(answer, () => [fs.fstatSync(file)]),
  readdir: (path: string, answer: Answer) => answered(answer, () => [fs.readdirSync(at(path))]),
  readlink: (path: string, answer: Answer) => answered(answer, () => [fs.readlinkSync(at(path))]),
  open: (path: string, flags: number, answer: Answer) =>
    answered(answer, () => [fs.openSync(at(path), flags & ~fs.constants.O_DIRECT)]),
  create: (path: string, mode: number, answer: Answer) =>
    answered(answer, () => [fs.openSync(at(path), 'w+', mode)]),
  read: (_path: string, file: number, target: Buffer, length: number, position: number, answer: Answer) =>
    counted(answer, () => fs.readSync(file, target, 0, length, position)),
  write: (_path: string, file: number, source: Buffer, length: number, position: number, answer: Answer) =>
    counted(answer, () => fs.writeSync(file, source, 0, length, position)),
  release: (_path: string, file: number, answer: Answer) => answered(answer, () => [fs.closeSync(file)]),
  // The package gives the flag and the descriptor in another order than it says.
  fsync: (_path: string, one: number, other: number, answer: Answer) =>
    fs.fsync(Math.max(Number(one), Number(other)), (error) => answer(error === null ? 0 : -5)),
  truncate: (path: string, size: number, answer: Answer) =>
    answered(answer, () => [fs.truncateSync(at(path), size)]),
  ftruncate: (_path: string, file: number, size: number, answer: Answer) =>
    answered(answer, () => [fs.ftruncateSync(file, size)]),
  unlink: (path: string, answer: Answer) => answered(answer, () => [fs.unlinkSync(at(path))]),
  mkdir: (path: string, mode: number, answer: Answer) =>
    answered(answer, () => [fs.mkdirSync(at(path), mode)]),
  rmdir: (path: string, answer: Answer) => answered(answer, () => [fs.rmdirSync(at(path))]),
  rename: (from: string, to: string, answer: Answer) =>
    answered(answer, () => [fs.renameSync(at(from), at(to))]),
  link: (from: string, to: string, answer: Answer) => answered(answer, () => [fs.linkSync(at(from), at(to))]),
  symlink: (target: string, path: string, answer: Answer) =>
    answered(answer, () => [fs.symlinkSync(target, at(path))]),
  chmod: (path: string, mode: number, answer: Answer) =>
    answered(answer, () => [fs.chmodSync(at(path), mode & 0o7777)]),
  chown: (path: string, uid: number, gid: number, answer: Answer) =>
    answered(answer, () => [fs.lchownSync(at(path), uid, gid)]),
  utimens: (path: string, accessed: number, modified: number, answer: Answer) =>
    answered(answer, () => [fs.utimesSync(at(path), accessed / 1000, modified / 1000)]),
  statfs: (_path: string, answer: Answer) =>
    answered(answer, () => {
      const { bsize, blocks, bfree, bavail, files, ffree } = fs.statfsSync(below);
      return [
        {
          bsize,
          frsize: bsize,
          blocks,
          bfree,
          bavail,
          files,
          ffree,
          favail: ffree,
          fsid: 1,
          flag: 0,
          namemax: 255,
        },
      ];
    }),
};

const fuse = new Native(mountpoint, handlers, {
  bigWrites: true,
  maxRead: 131_072,
  allowOther: true,
  timeout: false,
});
fuse.mount((error) => {
  if (error !== null && error !== undefined) {
    process.stderr.write(`${error.message}\n`);
    process.exit(1);
  }
  process.stdout.write('mounted\n');
});
process.stdin.resume().on('end', () => {
  fuse.unmount((error) => process.exit(error === null || error === undefined ? 0 : 1));
});
