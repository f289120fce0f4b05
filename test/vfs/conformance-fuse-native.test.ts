/**
 * The conformance suite through a mount of the binding fuse-native, by real system calls. Needs root, /dev/fuse, python3,
 * and fuse-native with its library. A case that needs what the binding lacks must fail: otherwise it lacks less than it says.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { NATIVE_LOSSES, type NativeLoss } from '../../fuse/native/capabilities.ts';
import { projectDirectory } from '../helpers/compare-file-systems.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { NO_NATIVE_REASON } from '../helpers/native-binding.ts';
import { hasSyscallDriver, SyscallDriver } from '../helpers/syscall-driver.ts';
import { listSystemCases } from '../helpers/system-cases.ts';
import { ConformanceFailure, codeOf } from './conformance/case.ts';
import { conformanceCases } from './conformance/index.ts';
import type { Feature } from './conformance/posix.ts';

/** What the mount has, and what only the binding lacks. */
const FEATURES: ReadonlySet<Feature> = new Set([
  'identities',
  'largeXattr',
  'copyFileRange',
  'devices',
  'writeErrors',
]);

function isLoss(feature: Feature): feature is Feature & NativeLoss {
  return Object.hasOwn(NATIVE_LOSSES, feature);
}

const reason = NO_NATIVE_REASON ?? (hasSyscallDriver() ? undefined : 'there is no python3');
const check = reason === undefined ? test.serial : test.serial.skip;
if (reason !== undefined) test(`the binding fuse-native is not tested: ${reason}`, (t) => t.pass());

let mounted: MountedStore;
let driver: SyscallDriver;
/** Hooks have no teardown of their own. */
const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => teardowns.push(work) };

if (reason === undefined) {
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
  const losses = needs.filter(isLoss);
  if (!needs.every((feature) => FEATURES.has(feature) || isLoss(feature))) continue;
  const title =
    losses.length === 0 ? name : `${name} (not so: ${losses.map((loss) => NATIVE_LOSSES[loss]).join('; ')})`;
  check(title, async (t) => {
    const directory = `case-${number++}`;
    await driver.mkdir(directory, 0o755);
    await driver.chdir(directory);
    try {
      if (losses.length === 0) await run(driver);
      else t.true(await failsToRun(() => run(driver)), `the binding does not lack ${losses.join(', ')} here`);
    } finally {
      await driver.chdir(mounted.mountpoint);
    }
    t.pass();
  });
}

/** Whether a case fails, by a rule that does not hold or by an error of a call. */
async function failsToRun(run: () => Promise<void>): Promise<boolean> {
  try {
    return (await codeOf(run)) !== undefined;
  } catch (error) {
    if (error instanceof ConformanceFailure) return true;
    throw error;
  }
}

/** How many of the names there are of each area, as "content 3, names 2". */
function countAreas(names: readonly string[]): string {
  const counts = new Map<string, number>();
  for (const name of names) {
    const [area = ''] = name.split(/[.:]/);
    counts.set(area, (counts.get(area) ?? 0) + 1);
  }
  return [...counts].map(([area, count]) => `${area} ${count}`).join(', ');
}

const documentTest = hasSyscallDriver() ? test : test.skip;
documentTest('docs/MOUNT.md has what the binding lacks, with the cases that need it', async (t) => {
  const systemCases = await listSystemCases({ long: false, timeoutMs: 60_000 });
  const expected = Object.keys(NATIVE_LOSSES).map((loss) => {
    const names = [
      ...conformanceCases.filter(({ needs }) => (needs as string[]).includes(loss)),
      ...systemCases.filter(({ needs }) => needs.includes(loss)),
    ].map(({ name }) => name);
    return `\`${loss}\`: ${countAreas(names)}`;
  });
  const text = readFileSync(join(projectDirectory(), 'docs/MOUNT.md'), 'utf8');
  const section = /^## The two bindings$([\s\S]*?)(?=^## )/m.exec(text)?.[1] ?? '';
  const rows = [...section.matchAll(/^\| (`\w+`) \|.*\| ([^|]*[^| ]) +\|$/gm)];
  t.deepEqual(
    rows.map(([, loss, cases]) => `${loss}: ${cases}`),
    expected,
  );
});
