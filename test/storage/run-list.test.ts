/** Runs in pieces against one sorted array. */
import test from 'ava';
import { type PageRun, RunList } from '../../src/storage/run-list.ts';
import { Random, seedOf } from '../helpers/random.ts';

function all(list: RunList): PageRun[] {
  const found: PageRun[] = [];
  for (const place = list.seek(0); place.run !== undefined; place.next()) found.push(place.run);
  return found;
}

test('random insertions and removals, of some thousand runs and of none', (t) => {
  const random = new Random(seedOf(t, 'run list'));
  const list = new RunList();
  let model: PageRun[] = [];
  // Grows and shrinks in turn, so that pieces are split, joined and taken away.
  for (let round = 0; round < 40_000; round++) {
    const isGrowing = Math.floor(round / 8000) % 2 === 0;
    const page = random.below(1_000_000);
    const at = model.findIndex((run) => run.page >= page);
    const index = at < 0 ? model.length : at;
    const place = list.seek(page);
    if (place.run !== model[index] || place.before !== model[index - 1]) t.fail(`round ${round}`);
    if (random.below(10) < (isGrowing ? 9 : 1)) {
      if (model[index]?.page === page) continue;
      const run = { page, count: 1 };
      list.insert(place, run);
      model.splice(index, 0, run);
    } else if (place.run !== undefined) {
      list.remove(place);
      model.splice(index, 1);
    }
    if (round % 1000 === 0) t.deepEqual(all(list), model);
  }
  t.true(model.length > 1000, 'pieces were split');
  t.is(list.length, model.length);
  t.is(list.first, model[0]);
  t.is(list.last, model.at(-1));
  const backwards: PageRun[] = [];
  for (const place = list.seek(Number.POSITIVE_INFINITY); place.before !== undefined; ) {
    place.previous();
    backwards.push(place.run!);
  }
  t.deepEqual(backwards, [...model].reverse());
  while (list.first !== undefined) list.remove(list.seek(0));
  t.deepEqual(all(list), []);
  t.is(list.length, 0);
  model = Array.from({ length: 2000 }, (_, i) => ({ page: i * 2, count: 1 }));
  for (const run of model) {
    if (run.page % 3 === 0) list.append(run);
    else list.insert(list.seek(run.page), run);
  }
  t.deepEqual(all(list), model, 'runs in order, into a list that was emptied');
});
