/**
 * POSIX by real processes of real users: each case of `conformance/system/*.py` on ext4, which proves the case, and
 * on a mount. Two processes of Python run them all, before the tests report. Needs root, /dev/fuse and python3; ext4
 * comes from the temporary directory or from an image in it.
 *
 * A case that declares a difference passes on ext4, is expected to fail on the mount, and is explained in docs/MOUNT.md.
 */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import {
  compareFileSystems,
  hasExt4,
  projectDirectory,
  SYSTEM_CASES,
} from '../helpers/compare-file-systems.ts';
import { IS_LONG, mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { canMount } from '../helpers/mounting.ts';
import { seedOf } from '../helpers/random.ts';
import { hasSyscallDriver } from '../helpers/syscall-driver.ts';

/** Calls of the comparison: some 1,500 of them succeed. */
const COMPARED_CALLS = IS_LONG ? 10_000 : 4000;
/** All cases of one file system, each of which has less; then the programs are ended. */
const RUN_MS = IS_LONG ? 3_600_000 : 280_000;

interface Case {
  readonly name: string;
  readonly rule: string;
  readonly difference: string | null;
  readonly only: 'mount' | null;
}

interface Outcome {
  readonly name: string;
  /** What does not hold, or "". */
  readonly message: string;
}

const options = IS_LONG ? ['--long'] : [];

/** Runs a program of the cases; each line of its output is one value. Everything that it started ends with it. */
function python<Value>(program: string, ...words: string[]): Promise<Value[]> {
  // timeout(1) has a process group of its own, and ends all of it.
  const command = ['-s', 'KILL', String(RUN_MS / 1000), 'python3', join(SYSTEM_CASES, program), ...words];
  const child = spawn('timeout', command, {
    stdio: ['ignore', 'pipe', 'pipe'],
    env: { ...process.env, PYTHONDONTWRITEBYTECODE: '1', LC_ALL: 'C.UTF-8' },
  });
  let output = '';
  let errors = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text;
  });
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors += text;
  });
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (code) => {
      if (code !== 0)
        reject(new Error(`${program} ${words.join(' ')} ended with ${code}: ${errors}${output}`));
      else
        resolve(
          output
            .split('\n')
            .filter(Boolean)
            .map((line) => JSON.parse(line) as Value),
        );
    });
  });
}

/** Whether the cases can be proved: ext4 is in the temporary directory, or comes from an image on a loop device. */
const canProve = hasExt4() || spawnSync('losetup', ['-f'], { stdio: 'ignore' }).status === 0;
const canRun = canMount() && hasSyscallDriver();
sayWhySkipped();

const cases = canRun ? await python<Case>('run.py', 'list', ...options) : [];
const native = new Map<string, string>();
const mounted = new Map<string, string>();

/** Hooks have no teardown of their own. */
const teardowns: (() => unknown)[] = [];
const owner = { teardown: (work: () => unknown) => teardowns.push(work) };

async function collect(
  what: 'native' | 'mount',
  directory: string,
  into: Map<string, string>,
): Promise<void> {
  for (const { name, message } of await python<Outcome>('run.py', what, directory, ...options))
    into.set(name, message);
}

if (canRun) {
  test.before(async (t) => {
    t.timeout(RUN_MS + 60_000);
    const directory = mkdtempSync(join(tmpdir(), 'lsnfs-posix-'));
    owner.teardown(() => rmSync(directory, { recursive: true, force: true }));
    const where = await MountedStore.createUnmounted(owner);
    await where.mount('--allow-other');
    const place = join(where.mountpoint, 'cases');
    await where.shell('mkdir cases');
    await Promise.all([
      canProve ? collect('native', directory, native) : undefined,
      collect('mount', place, mounted),
    ]);
  });
}

test.after.always(async () => {
  for (const work of teardowns.reverse()) await work();
});

for (const { name, rule, difference, only } of cases) {
  mountTest(`${name}: ${rule}`, (t) => {
    if (canProve && only === null) t.is(native.get(name), '', 'on ext4');
    const message = mounted.get(name);
    if (difference === null) t.is(message, '', 'on the mount');
    else if (message === '') t.log('this kernel makes no difference');
    else t.truthy(message, 'on the mount');
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
