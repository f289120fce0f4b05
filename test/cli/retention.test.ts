/** What people see of retention: settings, what is kept and why, what can be restored to, what comes free. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { initialize, open } from '../../src/index.ts';
import type { CollectionResult } from '../../src/plugin/collection.ts';
import type { RangeReport, RetentionReport } from '../../src/plugin/retention-report.ts';
import { lsnfs, lsnfsJson, lsnfsOutput } from '../helpers/command-line.ts';
import { mountTest as mounted } from '../helpers/mount-test.ts';
import { MountedStore, storeProblems } from '../helpers/mounted-store.ts';
import { KEEP_NOTHING } from '../helpers/retention-settings.ts';
import { until } from '../helpers/waiting.ts';

function temporaryDirectory(t: ExecutionContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-retention-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

/** A store with two snapshots, of states that hold files of their own. */
async function makeStore(t: ExecutionContext, settings: object): Promise<{ store: string; lsns: number[] }> {
  const store = join(temporaryDirectory(t), 'store');
  await initialize(store, { settings });
  const database = await open(store);
  const lsns: number[] = [];
  for (const name of ['first', 'second']) {
    await database.put(`/${name}`, Buffer.alloc(200_000, name));
    lsns.push((await database.snapshots.create(name)).lsn);
    await database.delete(`/${name}`);
  }
  await database.close();
  return { store, lsns };
}

test('config shows and changes settings, by the names and in the units that people type', async (t) => {
  const { store } = await makeStore(t, {});
  t.is(await lsnfsOutput('config', 'get', store, 'keep_window'), '1h\n');
  t.is(await lsnfsOutput('config', 'set', store, 'keep_window', '7d'), 'keep_window is 7d.\n');
  t.like(await lsnfsJson('config', 'set', store, 'keepSizeBytes', '10GiB'), {
    value: 10 * 2 ** 30,
    saved: null,
  });
  t.like(await lsnfsJson('config', 'get', store, 'keep_size'), { text: '10GiB', default: 'auto' });
  await lsnfsOutput('config', 'set', store, 'minRetentionMs', '1500');
  t.deepEqual(JSON.parse(readFileSync(join(store, 'lsnfs.json'), 'utf8')), {
    keepWindowMs: 7 * 86_400_000,
    keepSizeBytes: 10 * 2 ** 30,
    minRetentionMs: 1500,
  });
  t.is(statSync(join(store, 'lsnfs.json')).mode & 0o777, 0o600);
  t.deepEqual(
    readdirSync(store).filter((name) => name.endsWith('.new')),
    [],
  );
  for (const [key, value, sentence] of [
    ['keep_window', '12x', /^lsnfs: keep_window should be a duration from 0 to 3653d, like .*, not "12x"\n$/],
    ['keep_window', '10', /keep_window should be a duration/],
    ['keep_window', '9999d', /keep_window should be a duration/],
    ['keep_hourly', '-1', /keep_hourly should be a whole number from 0 to 100000, not "-1"/],
    ['gc_io_budget', '0', /gc_io_budget should be a whole number from 1 to 100, not "0"/],
    ['atime', 'never', /atime should be relatime or noatime, not "never"/],
    ['keep_forever', '1', /there is no setting "keep_forever": there are commit_interval, /],
  ] as const) {
    const outcome = await lsnfs('config', 'set', store, key, value);
    t.is(outcome.code, 1);
    t.regex(outcome.stderr, sentence);
  }
  t.is(await lsnfsOutput('config', 'get', store, 'keep_window'), '7d\n');
});

test('config follows no link out of the store', async (t) => {
  const { store } = await makeStore(t, {});
  const outside = join(temporaryDirectory(t), 'outside');
  symlinkSync(outside, join(store, 'lsnfs.json.new'));
  await lsnfsOutput('config', 'set', store, 'keep_last', '3');
  t.throws(() => statSync(outside), { code: 'ENOENT' });
  t.is(await lsnfsOutput('config', 'get', store, 'keep_last'), '3\n');
});

test('retention, range and gc tell what is kept, and let the rest go', async (t) => {
  const { store, lsns } = await makeStore(t, { ...KEEP_NOTHING, keepHourly: 1 });
  const [first, second] = lsns as [number, number];
  const dry = (await lsnfsJson('retention', store, '--dry-run')) as RetentionReport;
  t.false(dry.applied);
  t.deepEqual(dry.kept[0]!.reasons, ['snapshot first']);
  t.true(dry.kept.find(({ lsn }) => lsn === second)!.reasons.includes('snapshot second'));
  const newest = dry.kept.at(-1)!.reasons;
  t.deepEqual(newest.slice(0, 2), ['newest', 'window begins']);
  t.regex(newest[2]!, /^hourly \d{4}-\d{2}-\d{2}T\d{2}$/);
  t.deepEqual(await lsnfsJson('retention', store, '--dry-run'), dry, 'a dry run changes nothing');
  const { dropped, kept } = (await lsnfsJson('retention', store)) as RetentionReport;
  t.deepEqual(
    kept.map(({ names }) => names),
    [['first'], ['second'], []],
  );
  t.deepEqual(
    dropped.map(({ lsn }) => lsn),
    dry.dropped.map(({ lsn }) => lsn),
  );
  const range = (await lsnfsJson('range', store)) as RangeReport;
  t.deepEqual(
    range.versions.map(({ lsn, names }) => [lsn, ...names]),
    [
      [first, 'first'],
      [second, 'second'],
    ],
  );
  t.deepEqual(range.gaps, [
    { after: first, before: second },
    { after: second, before: range.from.lsn },
  ]);
  t.true(range.from.lsn <= range.to.lsn && range.to.lsn > second);
  const nothing = (await lsnfsJson('gc', store, '--full-speed')) as CollectionResult;
  t.is(nothing.oldest.lsn, first);
  t.deepEqual(nothing.oldest.reasons, ['snapshot first']);
  const usedPages = async (): Promise<number> => {
    const { pages } = (await lsnfsJson('status', store)) as { pages: { total: number; free: number } };
    return pages.total - pages.free;
  };
  const before = await usedPages();
  await lsnfsOutput('snapshot', 'delete', store, 'first');
  const expected = (await lsnfsJson('gc', store, '--dry-run')) as CollectionResult;
  t.false(expected.applied);
  const done = (await lsnfsJson('gc', store, '--full-speed')) as CollectionResult;
  t.true(done.applied);
  // A command that takes long reclaims in the background, so that less is left for the next.
  const freed = before - (await usedPages());
  t.true(freed >= 200_000 / 4096, JSON.stringify({ freed, expected, done }));
  t.is(done.oldest.lsn, second);
  t.regex(
    await lsnfsOutput('range', store),
    /^Every state from LSN \d+ .*\nBefore that 1 single version, .*\n.*NAMES\n.*second\n2 versions in all\.\n$/,
  );
  const beyond = await lsnfs('ls', store, `@lsn-${first}`);
  t.is(beyond.code, 1);
  t.regex(
    beyond.stderr,
    new RegExp(
      `states from ${range.from.lsn <= first ? '' : '\\d+'} to \\d+ can be opened, the nearest is ${second}`,
    ),
  );
  t.deepEqual(await storeProblems(store), []);
});

test('snapshots are held, renamed and released', async (t) => {
  const { store, lsns } = await makeStore(t, {});
  t.is(await lsnfsOutput('snapshot', 'hold', store, 'first', 'audit'), 'Snapshot first is held by audit.\n');
  t.like(await lsnfsJson('snapshot', 'rename', store, 'first', 'kept'), { name: 'kept', lsn: lsns[0] });
  t.regex(await lsnfsOutput('snapshot', 'list', store), /^NAME .* HELD BY .*\nkept .* audit\nsecond /);
  const refused = await lsnfs('snapshot', 'delete', store, 'kept');
  t.is(refused.code, 1);
  t.is(refused.stderr, 'lsnfs: the snapshot "kept" is held by "audit": release it first\n');
  t.is(
    await lsnfsOutput('snapshot', 'release', store, 'kept', 'audit'),
    'Snapshot kept is held by nobody.\n',
  );
  await lsnfsOutput('snapshot', 'delete', store, 'kept');
});

mounted(
  'a running mount: settings change at once, old versions go, open ones stay, space comes back',
  async (t) => {
    const place = await MountedStore.create(t);
    const { store, mountpoint } = place;
    const empty = (await place.json<{ pages: { total: number; free: number } }>('status', mountpoint)).pages;
    for (const [key, value] of Object.entries(KEEP_NOTHING))
      await lsnfsOutput('config', 'set', mountpoint, key, String(value));
    t.like(await lsnfsJson('config', 'set', mountpoint, 'cache_size', '8MiB'), {
      atNextOpening: true,
      saved: '8MiB',
    });
    await place.shell('mkdir d; echo deep > d/f; head -c 4000000 /dev/urandom > big');
    await place.snapshot('checkpoint');
    const lsn = await place.commit();
    // A program that has its working directory in the past, until it is told to go on.
    const holder = place.shell(
      `cd @lsn-${lsn}/d; touch ${place.base}/ready; until [ -e ${place.base}/go ]; do sleep 0.1; done; cat f ../d/f; cmp ../big ${place.base}/big`,
    );
    await place.shell(`cp big ${place.base}/big; while [ ! -e ${place.base}/ready ]; do sleep 0.05; done`);
    await place.shell('rm -r d big; echo new > new');
    await lsnfsOutput('snapshot', 'delete', mountpoint, 'checkpoint');
    const held = await place.json<
      CollectionResult & { open: { lsn: number; by: string[]; processes: { pid: number; path: string }[] }[] }
    >('gc', mountpoint, '--full-speed');
    t.like(held.open, [{ lsn, by: [`@lsn-${lsn}`] }]);
    t.true(
      held.open[0]!.processes.some(({ path }) => path.endsWith(`@lsn-${lsn}/d`)),
      JSON.stringify(held.open),
    );
    t.deepEqual(held.oldest.reasons, [`open by @lsn-${lsn}`]);
    await place.shell(`touch ${place.base}/go`);
    t.is(await holder, 'deep\ndeep\n');
    await place.shell('rm new');
    // The kernel lets go of what the program had a moment after it has ended.
    await until('nobody has the past open', async () => {
      const freed = await place.json<CollectionResult & { open: unknown[] }>(
        'gc',
        mountpoint,
        '--full-speed',
      );
      return freed.open.length === 0;
    });
    const beyond = await place.run(`ls @lsn-${lsn}`);
    t.not(beyond.code, 0);
    t.regex(beyond.stderr, /No such file or directory/);
    const told = await lsnfs('ls', mountpoint, `@lsn-${lsn}`);
    t.regex(
      told.stderr,
      new RegExp(`LSN ${lsn} is before every state .*: states from \\d+ to \\d+ can be opened`),
    );
    const { pages } = await place.json<{ pages: { total: number; free: number } }>('status', mountpoint);
    const used = pages.total - pages.free;
    t.true(
      used <= empty.total - empty.free + 8,
      `${used} pages in use, ${empty.total - empty.free} at first`,
    );
    const questions = [
      ['range'],
      ['retention', '--dry-run'],
      ['gc', '--dry-run'],
      ['config', 'get'],
    ] as const;
    for (const [command, ...rest] of questions) {
      const words = command === 'config' ? [command, 'get', store] : [command, store, ...rest];
      t.is((await lsnfs(...words)).code, 0, words.join(' '));
    }
  },
);
