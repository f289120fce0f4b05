/**
 * The conformance suite through a real mount of a real store, by real system calls. Needs root, /dev/fuse and
 * python3. At the end the store is opened again and its file system checked.
 */
import { rmSync } from 'node:fs';
import test from 'ava';
import { type MountHandle, startMount } from '../../fuse/server.ts';
import { initialize } from '../../src/plugin/database.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { canMount, type MountDirectories, mountDirectories, NO_MOUNT_REASON } from '../helpers/mounting.ts';
import { hasSyscallDriver, SyscallDriver } from '../helpers/syscall-driver.ts';
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
]);

const canRun = canMount() && hasSyscallDriver();
const check = canRun ? test.serial : test.serial.skip;
if (!canRun) test(`the mount is not tested: ${NO_MOUNT_REASON ?? 'there is no python3'}`, (t) => t.pass());

let directories: MountDirectories;
let handle: MountHandle | undefined;
let driver: SyscallDriver;
const logged: string[] = [];

if (canRun) {
  test.before(async () => {
    directories = mountDirectories();
    // The store is to be made where nothing is.
    rmSync(directories.store, { recursive: true });
    await initialize(directories.store);
    handle = await startMount({
      store: directories.store,
      mountpoint: directories.mountpoint,
      databaseModule: new URL('../../fuse/mounted-database.js', import.meta.url).href,
      databaseOptions: { store: directories.store, mountpoint: directories.mountpoint },
      allowOther: true,
      log: (message) => logged.push(message),
    });
    driver = new SyscallDriver(directories.mountpoint, { features: FEATURES });
  });
  test.after.always(async () => {
    try {
      await driver.stop();
      await handle?.unmount();
    } finally {
      directories.cleanUp();
    }
  });
}

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
      await driver.chdir(directories.mountpoint);
    }
    t.pass();
  });
}

check('the store is sound afterwards', async (t) => {
  await driver.stop();
  await handle?.unmount();
  handle = undefined;
  t.deepEqual(logged, []);
  const store = Store.open(new FileDirectory(directories.store), { background: 'caller' });
  t.deepEqual(checkFileSystem(store.live), []);
  await store.checkpoint();
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});
