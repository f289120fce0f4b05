/**
 * The conformance suite through a mount of the binding fuse-native, by real system calls. Needs root, /dev/fuse, python3,
 * and fuse-native with its library. A case that needs what the binding lacks must fail: otherwise it lacks less than it says.
 */
import { join } from 'node:path';
import test from 'ava';
import { MountedStore } from '../helpers/mounted-store.ts';
import { canMount, NO_MOUNT_REASON } from '../helpers/mounting.ts';
import { hasSyscallDriver, SyscallDriver } from '../helpers/syscall-driver.ts';
import { conformanceCases } from './conformance/index.ts';
import type { Feature } from './conformance/posix.ts';

const FEATURES: ReadonlySet<Feature> = new Set([
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
]);

const canRun = canMount() && hasSyscallDriver();
const check = canRun ? test.serial : test.serial.skip;
if (!canRun) test(`the mount is not tested: ${NO_MOUNT_REASON ?? 'there is no python3'}`, (t) => t.pass());

let mounted: MountedStore;
let driver: SyscallDriver;
/** Hooks have no teardown of their own. */
const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => teardowns.push(work) };

if (canRun) {
  test.before(async () => {
    mounted = await MountedStore.createUnmounted(owner);
    await mounted.mount('--allow-other', '--binding', 'fuse-native');
    driver = new SyscallDriver(mounted.mountpoint, { features: FEATURES });
    owner.teardown(() => driver.stop());
  });
}

test.after.always(async () => {
  for (const work of teardowns.reverse()) await work();
});

let number = 0;
for (const { name, needs, run } of conformanceCases) {
  if (!needs.every((feature) => FEATURES.has(feature))) continue;
  check(name, async (t) => {
    const directory = `case-${number++}`;
    await driver.mkdir(directory, 0o755);
    await driver.chdir(directory);
    try {
      await run(driver);
    } finally {
      await driver.chdir(mounted.mountpoint);
    }
    t.pass();
  });
}
void join;
