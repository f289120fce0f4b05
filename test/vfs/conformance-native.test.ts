/**
 * The conformance suite on the native file system: a case that fails here is a wrong case. Needs root for the
 * identities, python3 for the calls, and a directory on ext4.
 */
import { mkdtempSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { hasSyscallDriver, SyscallDriver } from '../helpers/syscall-driver.ts';
import { conformanceCases } from './conformance/index.ts';
import { COMMON_FEATURES, type Feature } from './conformance/posix.ts';

const EXT4_MAGIC = 0xef53;
const FEATURES: ReadonlySet<Feature> = new Set([
  ...COMMON_FEATURES,
  'identities',
  'acl',
  'trusted',
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

const canRun = process.getuid?.() === 0 && statfsSync(tmpdir()).type === EXT4_MAGIC && hasSyscallDriver();
const check = canRun ? test.serial : test.serial.skip;

let root = '';
let driver: SyscallDriver;

if (canRun) {
  test.before(() => {
    root = mkdtempSync(join(tmpdir(), 'lsnfs-conformance-'));
    driver = new SyscallDriver(root, { features: FEATURES });
  });
  test.after.always(async () => {
    await driver.stop();
    rmSync(root, { recursive: true, force: true });
  });
}

let number = 0;
for (const { name, needs, run } of conformanceCases) {
  if (!needs.every((feature) => FEATURES.has(feature))) continue;
  check(name, async (t) => {
    const directory = join(root, `case-${number++}`);
    await driver.mkdir(directory, 0o755);
    await driver.chdir(directory);
    await run(driver);
    await driver.chdir(root);
    t.pass();
  });
}
