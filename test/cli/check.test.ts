/** `lsnfs check` and `lsnfs scrub` as people run them, on closed and on mounted stores. */
import {
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { extentKey } from '../../src/encoding/keys.ts';
import { type CheckReport, initialize, open, type ScrubSummary } from '../../src/index.ts';
import { connectToStore } from '../../src/plugin/control-client.ts';
import type { CheckPage } from '../../src/plugin/operations.ts';
import { lsnfs } from '../helpers/command-line.ts';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { Random } from '../helpers/random.ts';

sayWhySkipped();

const PAGE = 4096;

/** Inverts a bit of the data file. */
function flipData(store: string, offset: number): void {
  const descriptor = openSync(join(store, 'data'), 'r+');
  try {
    const byte = Buffer.alloc(1);
    readSync(descriptor, byte, 0, 1, offset);
    byte[0] = byte[0]! ^ 0x20;
    writeSync(descriptor, byte, 0, 1, offset);
  } finally {
    closeSync(descriptor);
  }
}

/** The first page of a file's data; of a store that is closed. */
async function firstPage(store: string, path: string): Promise<number> {
  const database = await open(store, { readOnly: true });
  try {
    const { live } = database.store;
    live.inodes.find(extentKey(database.stat(path)!.inode, 0));
    return live.inodes.page.bytes.readUIntLE(live.inodes.valueStart, 6);
  } finally {
    await database.close();
  }
}

async function makeStore(t: ExecutionContext): Promise<string> {
  const base = mkdtempSync(join(realpathSync(tmpdir()), 'lsnfs-check-'));
  t.teardown(() => rmSync(base, { recursive: true, force: true }));
  const store = join(base, 'store');
  await initialize(store, { segmentSize: 1024 * 1024 });
  const database = await open(store);
  await database.put('/docs/report.bin', new Random(3).bytes(100_000));
  await database.snapshots.create('before');
  await database.put('/docs/other', 'small');
  await database.close();
  return store;
}

test('a closed store: what was verified, damage with paths and versions, and exit status 4', async (t) => {
  const store = await makeStore(t);
  const sound = await lsnfs('check', store);
  t.like(sound, { code: 0, stderr: '' });
  t.regex(sound.stdout, /^Checked .*\/store: \d+ versions, LSN 64 to \d+; .* read\.\n/);
  t.regex(sound.stdout, /No damage was found\.\n$/);
  const shown = await lsnfs('check', store, '--progress', '--quiet');
  t.is(shown.stdout, '');
  t.regex(shown.stderr, /^checking .*read/);

  const page = await firstPage(store, '/docs/report.bin');
  flipData(store, (page + 2) * PAGE + 50);
  const damaged = await lsnfs('check', store);
  t.is(damaged.code, 4);
  t.regex(damaged.stderr, /^lsnfs: 1 damage found in .*\/store\n$/);
  t.regex(damaged.stdout, new RegExp(`1\\. data at offset ${(page + 2) * PAGE}: block 2 of inode \\d+`));
  t.regex(damaged.stdout, / {3}hits the live state; \d+ versions: LSN \d+ .*; snapshots @before\n/);
  t.regex(damaged.stdout, / {3}\/docs\/report\.bin \(bytes 8192 to 12287\)\n/);
  const json = await lsnfs('check', store, '--json');
  t.is(json.code, 4);
  const report = JSON.parse(json.stdout) as CheckReport & { store: string };
  t.is(report.store, store);
  t.is(report.damageCount, 1);
  t.like(report.damages[0], {
    file: 'data',
    page: page + 2,
    live: true,
    paths: ['/docs/report.bin'],
    snapshots: ['before'],
  });

  const scrub = await lsnfs('scrub', store, '--rate', '1G');
  t.is(scrub.code, 4);
  t.regex(scrub.stdout, /^Scrubbed .*\n(.*\n)*.*\/docs\/report\.bin/);
  t.regex((await lsnfs('status', store)).stdout, /Scrub: +last 20\d\d-.*, 1 damage found\n/);
  flipData(store, (page + 2) * PAGE + 50);
  t.is((await lsnfs('scrub', store)).code, 0);
  t.regex((await lsnfs('scrub', store, '--stop')).stdout, /^No scrub is running\.\n$/);
});

test('what cannot be checked, and wrong usage', async (t) => {
  const store = await makeStore(t);
  t.like(await lsnfs('check', join(store, 'nothing')), { code: 1, stdout: '' });
  t.like(await lsnfs('check', join(store, 'wal')), { code: 1, stdout: '' });
  t.is((await lsnfs('check')).code, 2);
  t.is((await lsnfs('scrub', store, '--rate', 'fast')).code, 2);
  t.is((await lsnfs('scrub', store, '--rate', '1K')).code, 2);
  t.is((await lsnfs('scrub', store, '--stop', '--wait')).code, 2);
  rmSync(join(store, 'control'));
  const lost = await lsnfs('check', store);
  t.is(lost.code, 4);
  t.regex(lost.stdout, /control at offset 0: slot 0/);
  t.regex(lost.stdout, /found in the log/);
  for (const name of readdirSync(join(store, 'wal'))) rmSync(join(store, 'wal', name));
  t.is((await lsnfs('check', store)).code, 4);
});

mountTest('a mounted store is checked and scrubbed by its daemon', async (t) => {
  const mounted = await MountedStore.create(t, { settings: { checkpointIntervalMs: 50 } });
  const { store, mountpoint } = mounted;
  await mounted.shell('mkdir d && head -c 300000 /dev/urandom > d/data && sync d/data');
  await mounted.snapshot('one');
  // A writer goes on during all of it.
  const writing = mounted.run(
    'for i in $(seq 400); do echo $i > d/n$((i % 20)); rm -f d/n$(((i + 7) % 20)); done',
  );
  const sound = await lsnfs('check', mountpoint, '--progress');
  t.is(sound.code, 0, sound.stdout + sound.stderr);
  t.regex(sound.stdout, /No damage was found/);
  const scrub = await lsnfs('scrub', mountpoint, '--wait', '--rate', '1G');
  t.is(scrub.code, 0, scrub.stdout + scrub.stderr);
  t.is((await writing).code, 0);

  // Who goes away ends the check; the daemon goes on.
  for (let i = 0; i < 8; i++) {
    const client = await connectToStore(store);
    const page = (await client!.request('check')) as CheckPage;
    t.is(page.report, null);
    client!.close();
  }
  await mounted.unmount();
  const page = (await firstPage(store, '/d/data')) + 1;
  await mounted.mount();
  flipData(store, page * PAGE + 1);
  const damaged = await lsnfs('check', mountpoint, '--json');
  t.is(damaged.code, 4);
  const report = JSON.parse(damaged.stdout) as CheckReport;
  t.deepEqual(
    report.damages.map(({ page: at, paths, live }) => ({ at, paths, live })),
    [{ at: page, paths: ['/d/data'], live: true }],
  );
  t.deepEqual(report.damages[0]!.snapshots, ['one']);
  const started = await lsnfs('scrub', mountpoint, '--rate', '64K');
  t.is(started.code, 0);
  t.regex(started.stdout, /^Scrubbing at up to 64\.0 KiB a second/);
  await t.throwsAsync(mounted.ask('scrub', { action: 'start' }), { message: /a scrub is running already/ });
  t.regex(
    (await lsnfs('status', mountpoint)).stdout,
    /Scrub: +scrubbing .*; the last ended .*, no damage found\n/,
  );
  t.regex((await lsnfs('scrub', mountpoint, '--stop')).stdout, /^Stopped the scrub\.\n$/);
  const found = await lsnfs('scrub', mountpoint, '--wait', '--rate', '1G');
  t.is(found.code, 4);
  t.regex(found.stdout, /\/d\/data/);
  t.regex(mounted.log, new RegExp(`scrub found damage: data at ${page * PAGE}: block 1`));
  const { scrub: last } = (await mounted.ask('status', {})) as { scrub: ScrubSummary };
  t.is(last.last?.damageCount, 1);
  flipData(store, page * PAGE + 1);
});
