/** What tests of the VFS share: options with a clock that they move, and a file system over a fake state. */

import type { StateReader } from '../../src/store/state.ts';
import type { VfsOptions } from '../../src/vfs/core.ts';
import { type FileSystemStatistics, ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { FakeLiveState, type FakeOptions } from './fake-live-state.ts';

export class Clock {
  seconds = 1_800_000_000;
  nanoseconds = 123_456_789;
}

/** What statfs says of a file system with nothing in it. */
export function emptyStatistics(blocks: number, blockSize = 4096): FileSystemStatistics {
  return {
    blockSize,
    blocks,
    blocksFree: blocks,
    blocksAvailable: blocks,
    files: blocks,
    filesFree: blocks,
    nameMax: 255,
  };
}

export function vfsOptions(clock: Clock, options: Partial<VfsOptions> = {}): VfsOptions {
  return {
    statistics: () => emptyStatistics(1e9),
    now: (time) => {
      time.seconds = clock.seconds;
      time.nanoseconds = clock.nanoseconds;
    },
    ...options,
  };
}

export interface Fixture {
  readonly state: FakeLiveState;
  readonly fs: LiveFileSystem;
  readonly clock: Clock;
}

export function makeFixture(options: Partial<VfsOptions> = {}, fake: FakeOptions = {}): Fixture {
  const state = new FakeLiveState(fake);
  const clock = new Clock();
  return { state, fs: new LiveFileSystem(state, vfsOptions(clock, options)), clock };
}

/** Creates a file below the root with this content. Returns its inode number. */
export function makeFile(
  fs: LiveFileSystem,
  name: string,
  content: Buffer | string,
  parent = ROOT_INODE,
): number {
  const data = Buffer.from(content);
  const { attributes, handle } = fs.create(ROOT_CALLER, parent, Buffer.from(name), 0o644, 2);
  const { inode } = attributes;
  if (data.length > 0) fs.write(ROOT_CALLER, handle, 0, data, 0, data.length, false);
  fs.release(handle);
  return inode;
}

/** Every key and value of a state, as text. */
export function dump(state: StateReader): string[] {
  const lines: string[] = [];
  for (const tree of [state.namespace, state.inodes]) {
    for (const { key, value } of tree.entries())
      lines.push(`${key.toString('hex')} ${value.toString('hex')}`);
  }
  lines.push(JSON.stringify({ inodes: state.counters.inodes, dataPages: state.counters.dataPages }));
  return lines;
}
