/** The conformance suite, in process on a fresh file system a case; at the end of each the state is checked. */
import test from 'ava';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { FakeLiveState } from '../helpers/fake-live-state.ts';
import { InProcessPosix } from '../helpers/in-process-posix.ts';
import { conformanceCases } from './conformance/index.ts';
import { COMMON_FEATURES, type Feature } from './conformance/posix.ts';

const FEATURES: ReadonlySet<Feature> = new Set([
  ...COMMON_FEATURES,
  'identities',
  'acl',
  'trusted',
  'largeXattr',
  'renameFlags',
  'tmpfile',
  'fallocate',
  'seekHole',
  'copyFileRange',
  'devices',
  'anyNames',
  'writeErrors',
  'linkMax',
  'atime',
  'reservedNames',
]);

for (const { name, needs, run } of conformanceCases) {
  test(name, async (t) => {
    const state = new FakeLiveState({ rollback: false });
    let seconds = 1_800_000_000;
    const fs = new LiveFileSystem(state, {
      statistics: () => ({
        blockSize: 4096,
        blocks: 1e9,
        blocksFree: 1e9 - state.counters.dataPages,
        blocksAvailable: 1e9 - state.counters.dataPages,
        files: state.counters.inodes,
        filesFree: 1e9,
        nameMax: 255,
      }),
      now: (time) => {
        time.seconds = seconds;
        time.nanoseconds = 123_456_789;
      },
      isSnapshotName: (candidate) => Buffer.from(candidate).toString() === '@taken',
    });
    const posix = new InProcessPosix(fs, FEATURES, () => {
      seconds++;
    });
    t.true(needs.every((feature) => FEATURES.has(feature)));
    await run(posix);
    t.is(posix.openDescriptors, 0, 'a case closes what it opened');
    t.deepEqual(checkFileSystem(state), []);
  });
}
