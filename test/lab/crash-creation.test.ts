/** A store that was being made when the power failed is there whole, or says that it is not. */
import test from 'ava';
import { LsnfsError } from '../../src/errors.ts';
import { SimulatedDisk } from '../../src/storage/simulated-disk.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';
import { initializeOn, LabClock } from './crash-machine.ts';

const CUTS = 60;

test('a power cut at any operation of init leaves a store or none, never half of one', (t) => {
  const random = new Random(seedOf(t, 'creation'));
  const below = (limit: number): number => random.below(limit);
  const disk = new SimulatedDisk();
  const seen: Record<string, number> = {};
  const crash = (): void => {
    for (let i = 0; i < CUTS; i++) {
      const cut = disk.powerCut(below);
      try {
        const store = Store.open(cut, { readOnly: true });
        t.is(store.live.lsn, store.horizonLsn);
        seen.whole = (seen.whole ?? 0) + 1;
      } catch (error) {
        const { code } = error as LsnfsError;
        if (!(error instanceof LsnfsError) || (code !== 'NO_STORE' && code !== 'STORE_INCOMPLETE'))
          throw error;
        seen[code] = (seen[code] ?? 0) + 1;
      }
    }
  };
  disk.watch = crash;
  initializeOn(disk, { pageSize: 4096, segmentSize: 65_536 }, new LabClock());
  disk.watch = undefined;
  crash();
  t.true(seen.whole! >= CUTS && seen.STORE_INCOMPLETE! > 0 && seen.NO_STORE! > 0, JSON.stringify(seen));
});
