/** The table of pages by number against a Map. */
import test from 'ava';
import { type Page, pageOf } from '../../src/storage/page-space.ts';
import { PageTable } from '../../src/storage/page-table.ts';
import { Random, seedOf } from '../helpers/random.ts';

const FIRST = 2 ** 47;
const NOTHING = Buffer.alloc(0);

test('random additions and deletions, old numbers mostly first', (t) => {
  const random = new Random(seedOf(t, 'page table'));
  const table = new PageTable(FIRST);
  const model = new Map<number, Page>();
  let deletedUpTo = FIRST;
  const compare = (): void => {
    t.is(table.size, model.size);
    const from = FIRST + random.below(table.next - FIRST + 1);
    const to = from + random.below(5000);
    const expected = [...model.keys()].filter((number) => number >= from && number < to);
    t.deepEqual(
      Array.from(table.between(from, to), ({ number }) => number),
      expected,
    );
  };
  for (let round = 0; round < 400; round++) {
    for (let i = random.below(3000); i > 0; i--) {
      const page = pageOf(table.next, 0, 0, NOTHING, 1);
      table.add(page);
      model.set(page.number, page);
    }
    // All but a few of the older ones go, as when a checkpoint is done; and some of the newer ones.
    const end = deletedUpTo + random.below(table.next - deletedUpTo + 1);
    for (; deletedUpTo < end; deletedUpTo++) {
      if (random.below(2000) === 0) continue;
      table.delete(deletedUpTo);
      model.delete(deletedUpTo);
    }
    const old = FIRST + random.below(table.next - FIRST + 1);
    table.delete(old);
    model.delete(old);
    for (let i = 0; i < 50; i++) {
      const number = FIRST - 10 + random.below(table.next - FIRST + 20);
      if (table.get(number) !== model.get(number)) t.fail(`number ${number}`);
    }
    if (round % 20 === 0) compare();
    if (random.below(100) === 0) {
      table.clear();
      model.clear();
      deletedUpTo = table.next;
    }
  }
  compare();
});

test('numbers beyond those given out, as damaged pages have them, lead nowhere', (t) => {
  const table = new PageTable(FIRST);
  for (let i = 0; i < 10; i++) table.add(pageOf(table.next, 0, 0, NOTHING, 1));
  for (const number of [0, FIRST - 1, FIRST + 10, FIRST + 2 ** 32, 2 ** 48 - 1])
    t.is(table.get(number), undefined);
  t.is(table.get(FIRST + 9)?.number, FIRST + 9);
});

test('a page that stays long does not keep the others', (t) => {
  const table = new PageTable(FIRST);
  for (let i = 0; i < 200_000; i++) {
    table.add(pageOf(table.next, 0, 0, NOTHING, 1));
    if (i > 0) table.delete(FIRST + i);
  }
  t.is(table.size, 1);
  t.is(table.get(FIRST)?.number, FIRST);
  table.delete(FIRST);
  t.is(table.size, 0);
});
