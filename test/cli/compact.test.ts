/** `lsnfs compact`: a store of which half is free gets shorter, closed and mounted; what a snapshot holds is named. */
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { initialize, open } from '../../src/index.ts';
import type { CompactionReport } from '../../src/plugin/compaction-job.ts';
import { lsnfsJson, lsnfsOutput } from '../helpers/command-line.ts';
import { mountTest as mounted } from '../helpers/mount-test.ts';
import { MountedStore, storeProblems } from '../helpers/mounted-store.ts';
import { KEEP_NOTHING } from '../helpers/retention-settings.ts';

const FILES = 24;
const FILE_BYTES = 400_000;

/** A store whose odd files have been deleted. */
async function makeStore(t: ExecutionContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-compact-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const store = join(directory, 'store');
  await initialize(store, { settings: KEEP_NOTHING });
  const database = await open(store);
  for (let i = 0; i < FILES; i++) await database.put(`/f${i}`, Buffer.alloc(FILE_BYTES, i));
  await database.snapshots.create('all');
  for (let i = 1; i < FILES; i += 2) await database.delete(`/f${i}`);
  await database.close();
  return store;
}

test('a closed store: a snapshot holds everything in its place until it is deleted', async (t) => {
  const store = await makeStore(t);
  const data = join(store, 'data');
  const pinned = (await lsnfsJson('compact', store)) as CompactionReport;
  t.like(pinned, { applied: true, pages: 0 });
  t.deepEqual(
    pinned.pinned.by.map(({ reasons }) => reasons),
    [['snapshot all']],
  );
  t.true(pinned.pinned.bytes > 0);
  t.regex(
    await lsnfsOutput('compact', store),
    /^Nothing was moved\.\nNot to be moved: .*:\n {2}LSN \d+: snapshot all: /,
  );
  await lsnfsOutput('snapshot', 'delete', store, 'all');
  await lsnfsJson('gc', store, '--full-speed');
  const before = statSync(data).size;
  const dry = (await lsnfsJson('compact', store, '--dry-run')) as CompactionReport;
  t.false(dry.applied);
  t.true(dry.pages > 0 && dry.fileBytes < before);
  t.is(statSync(data).size, before);
  const done = (await lsnfsJson('compact', store, '--full-speed')) as CompactionReport;
  t.true(done.pages > 0 && done.waiting === null && done.left === 0, JSON.stringify(done));
  t.is(done.pinned.pages, 0);
  t.is(statSync(data).size, done.fileBytes);
  t.true(done.fileBytes < before * 0.75, `${before} to ${done.fileBytes}`);
  t.is(await lsnfsOutput('compact', store), 'Nothing was moved.\n');
  t.deepEqual(await storeProblems(store), []);
  const database = await open(store, { readOnly: true });
  for (let i = 0; i < FILES; i += 2)
    t.true((await database.get(`/f${i}`))?.equals(Buffer.alloc(FILE_BYTES, i)), `f${i}`);
  await database.close();
});

mounted('a mounted store, while programs write', async (t) => {
  const place = await MountedStore.create(t);
  const { store, mountpoint } = place;
  for (const [key, value] of Object.entries(KEEP_NOTHING))
    await lsnfsOutput('config', 'set', mountpoint, key, String(value));
  await place.shell(
    `for i in $(seq ${FILES}); do head -c ${FILE_BYTES} /dev/urandom > f$i; done; sha256sum f*[02468] > ${place.base}/sums; sync .; rm f*[13579]`,
  );
  await lsnfsOutput('gc', mountpoint, '--full-speed');
  const before = statSync(join(store, 'data')).size;
  const writer = place.shell('for i in $(seq 100); do echo $i > w$((i % 7)); done; cat w*');
  const done = await place.json<CompactionReport>('compact', mountpoint, '--full-speed');
  t.is((await writer).split('\n').length, 8);
  t.true(done.pages > 0, JSON.stringify(done));
  await place.shell(`sha256sum -c --quiet ${place.base}/sums`);
  await place.json('gc', mountpoint, '--full-speed');
  t.true(
    statSync(join(store, 'data')).size < before * 0.8,
    `${before} to ${statSync(join(store, 'data')).size}`,
  );
});
