/**
 * POSIX by real processes of real users: each case of `conformance/system/*.py` on ext4, which proves the case, and
 * on a mount. Two processes of Python run them all, before the tests report. Needs root, /dev/fuse and python3; ext4
 * comes from the temporary directory or from an image in it.
 *
 * A case that declares a difference passes on ext4, is expected to fail on the mount, and is explained in docs/MOUNT.md. The long
 * command runs them on the binding fuse-native as well (as `npm run test:posix -- --binding fuse-native` does).
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { compareFileSystems, hasExt4, projectDirectory } from '../helpers/compare-file-systems.ts';
import { IS_LONG, mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { canMount } from '../helpers/mounting.ts';
import { NO_NATIVE_REASON } from '../helpers/native-binding.ts';
import { seedOf } from '../helpers/random.ts';
import { hasSyscallDriver } from '../helpers/syscall-driver.ts';
import {
  ALL_LOSSES,
  listSystemCases,
  nativeFault,
  runSystemCases,
  type SystemRun,
} from '../helpers/system-cases.ts';

/** Calls of the comparison: some 1,500 of them succeed. */
const COMPARED_CALLS = IS_LONG ? 10_000 : 4000;
/** All cases of one file system, each of which has less; then the programs are ended. */
const RUN_MS = IS_LONG ? 3_600_000 : 280_000;

/** Whether the cases can be proved: ext4 is in the temporary directory, or comes from an image on a loop device. */
const canProve = hasExt4() || spawnSync('losetup', ['-f'], { stdio: 'ignore' }).status === 0;
const canRun = canMount() && hasSyscallDriver();
sayWhySkipped();

const run: SystemRun = { long: IS_LONG, timeoutMs: RUN_MS };
const cases = canRun ? await listSystemCases(run) : [];
let native: Map<string, string> | undefined;
let mounted: Map<string, string>;
let throughLibfuse: Map<string, string> | undefined;

/** Hooks have no teardown of their own. */
const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => teardowns.push(work) };

if (canRun) {
  test.before(async (t) => {
    t.timeout(RUN_MS + 60_000);
    const directory = mkdtempSync(join(tmpdir(), 'lsnfs-posix-'));
    owner.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const where = await MountedStore.createUnmounted(owner);
    await where.mount('--allow-other');
    const place = join(where.mountpoint, 'cases');
    await where.shell('mkdir cases');
    [native, mounted] = await Promise.all([
      canProve ? runSystemCases('native', directory, run) : undefined,
      runSystemCases('mount', place, run),
    ]);
    if (!IS_LONG || NO_NATIVE_REASON !== undefined) return;
    const other = await MountedStore.createUnmounted(owner);
    await other.mount('--allow-other', '--binding', 'fuse-native');
    await other.shell('mkdir cases');
    const lacks = ALL_LOSSES;
    throughLibfuse = await runSystemCases('mount', join(other.mountpoint, 'cases'), { ...run, lacks });
  });
}

test.after.always(async () => {
  for (const work of teardowns.reverse()) await work();
});

for (const one of cases) {
  const { name, rule, difference, only } = one;
  mountTest(`${name}: ${rule}`, (t) => {
    if (native !== undefined && only === null) t.is(native.get(name), '', 'on ext4');
    const message = mounted.get(name);
    if (difference === null) t.is(message, '', 'on the mount');
    else if (message === '') t.log('this kernel makes no difference');
    else t.truthy(message, 'on the mount');
    if (throughLibfuse !== undefined)
      t.is(nativeFault(one, throughLibfuse.get(name)), undefined, 'through fuse-native');
  });
}

mountTest('docs/MOUNT.md has every difference from ext4, and no other', (t) => {
  const text = readFileSync(join(projectDirectory(), 'docs/MOUNT.md'), 'utf8');
  const section = /^## Differences from ext4$([\s\S]*?)(?=^## |(?![\s\S]))/m.exec(text)?.[1] ?? '';
  const described = [...section.matchAll(/^\| ([^|]*[^| ]) +\|/gm)].map((match) => match[1]!);
  const declared = new Set(cases.flatMap(({ difference }) => difference ?? []));
  const rows = described.filter((row) => row !== 'difference' && !row.startsWith('-'));
  // Those of the long command are declared there alone.
  const expected = IS_LONG ? rows : rows.filter((row) => row !== 'link counts of large directories');
  t.deepEqual([...declared].sort(), expected.sort());
});

const compareTest = canRun && hasExt4() ? mountTest : test.serial.skip;
compareTest('random calls of several users have the same results on ext4 and on a mount', async (t) => {
  const seed = seedOf(t, 'random calls');
  const where = await MountedStore.createUnmounted(t);
  await where.mount('--allow-other');
  t.regex(await compareFileSystems(t, where, { seed, steps: COMPARED_CALLS }), /successful$/);
});
