/**
 * The conformance suite in process on a real store. The store is checkpointed in small steps while the cases run;
 * after each case it is checked, closed, opened again, and checked again.
 */
import test from 'ava';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import { InProcessPosix } from '../helpers/in-process-posix.ts';
import { Clock, vfsOptions } from '../helpers/vfs-fixture.ts';
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
  'atime',
]);
const SEGMENT_SIZE = 4 * 1024 * 1024;

for (const { name, needs, run } of conformanceCases) {
  if (!needs.every((feature) => FEATURES.has(feature))) continue;
  test.serial(name, async (t) => {
    const directory = new MemoryDirectory('memory');
    Store.initialize(directory, { segmentSize: SEGMENT_SIZE });
    const options = { background: 'caller' as const };
    let store = Store.open(directory, options);
    const clock = new Clock();
    const fs = new LiveFileSystem(store.live, vfsOptions(clock));
    const posix = new InProcessPosix(fs, FEATURES, () => {
      clock.seconds++;
      store.backgroundStep(0);
    });
    await run(posix);
    t.is(posix.openDescriptors, 0, 'a case closes what it opened');
    t.deepEqual(checkFileSystem(store.live), []);
    await store.checkpoint();
    t.deepEqual(checkStore(store).problems, []);
    await store.close();
    store = Store.open(directory, options);
    t.deepEqual(checkFileSystem(store.live), []);
    t.deepEqual(checkStore(store).problems, []);
    await store.close();
  });
}
