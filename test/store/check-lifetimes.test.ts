/** The index of lifetimes by page, against a sorted list. */
import test from 'ava';
import { LifetimeIndex } from '../../src/store/check-lifetimes.ts';
import { Random, seedOf } from '../helpers/random.ts';

test('rows that come by death are found by page, however many there are', (t) => {
  const random = new Random(seedOf(t, 'lifetimes'));
  for (const count of [0, 1, 4096, 4097, 20_000]) {
    const pages = Array.from({ length: count }, (_, i) => i * 5 + 1);
    for (let i = count - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [pages[i], pages[j]] = [pages[j]!, pages[i]!];
    }
    const index = new LifetimeIndex();
    const rows = pages.map((page, i) => ({ page, count: 1 + random.below(5), birth: i, death: i + 1 }));
    for (const row of rows) index.add(row);
    for (const _step of index.sort());
    rows.sort((a, b) => a.page - b.page);
    t.is(index.size, count);
    t.deepEqual(
      rows.map((_, i) => index.row(i)),
      rows,
    );
    for (let i = 0; i < 200 && count > 0; i++) {
      const page = random.below(count * 5 + 10);
      const length = 1 + random.below(12);
      const expected = rows.filter((row) => row.page < page + length && row.page + row.count > page);
      t.deepEqual(index.within(page, length), expected);
    }
  }
});

test('rows of pages that died more than once are all found', (t) => {
  const random = new Random(seedOf(t, 'lives'));
  const index = new LifetimeIndex();
  const rows = Array.from({ length: 600 }, (_, i) => ({
    page: 1 + random.below(400),
    count: 1 + random.below(20),
    birth: i,
    death: i + 1,
  }));
  for (const row of rows) index.add(row);
  for (const _step of index.sort());
  for (let page = 0; page < 430; page++) {
    const expected = rows.filter((row) => row.page < page + 3 && row.page + row.count > page);
    t.deepEqual(
      index.within(page, 3).sort((a, b) => a.death - b.death),
      expected,
    );
  }
});
