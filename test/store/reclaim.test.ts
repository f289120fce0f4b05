/**
 * Reclaiming against random histories: whatever is kept reads as it was, and what is in use is exactly what something
 * kept needs: not a page more, not a page less.
 */
import test from 'ava';
import { KeptHistory, PAGE_SIZE, POLICIES } from '../helpers/kept-history.ts';
import { seedOf } from '../helpers/random.ts';

for (const [name, settings] of Object.entries(POLICIES)) {
  test(`random histories, kept by ${name}`, async (t) => {
    const run = new KeptHistory(t, seedOf(t, name), settings);
    for (let round = 0; round < 6; round++) {
      for (let i = 0; i < 60; i++) await run.step();
      await run.settle();
      run.verify();
    }
    for (const { lease } of run.leases.splice(0)) lease.release();
    for (const { name: snapshot } of run.history.snapshots()) await run.history.deleteSnapshot(snapshot);
    run.seconds += 3600;
    await run.settle();
    run.verify();
    // Nothing of the past is left but what the policy keeps: some pages of a few versions.
    const { bytes } = run.store.statistics();
    t.true(run.store.versions().length <= 5);
    t.true(bytes.history <= 300 * PAGE_SIZE, `${bytes.history}`);
    t.true(run.directory.list('wal').length <= 8);
    await run.store.close();
  });
}
