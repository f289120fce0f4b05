/** Free space against a plain set of pages. */
import test from 'ava';
import { FreeSpace } from '../../src/storage/free-space.ts';
import { Random, seedOf } from '../helpers/random.ts';

/** The pages that are free below the frontier, one by one. */
function freePages(space: FreeSpace): Set<number> {
  const pages = new Set<number>();
  for (const { page, count } of space.freeWithin(0, space.frontier)) {
    for (let i = 0; i < count; i++) pages.add(page + i);
  }
  return pages;
}

test('random allocations, releases, claims and quarantines', (t) => {
  const random = new Random(seedOf(t, 'free space'));
  const space = new FreeSpace(100);
  const used: { page: number; count: number }[] = [{ page: 0, count: 100 }];
  const taken = new Set<number>(Array.from({ length: 100 }, (_, i) => i));
  const take = (page: number, count: number): void => {
    for (let i = page; i < page + count; i++) {
      t.false(taken.has(i), `page ${i} is given out twice`);
      taken.add(i);
    }
    used.push({ page, count });
  };
  let checkpoint = 1;
  for (let round = 0; round < 3000; round++) {
    const what = random.below(10);
    const count = 1 + random.below(20);
    if (what < 4) take(space.allocate(count), count);
    else if (what === 4) {
      const run = space.allocateUpTo(count);
      t.true(run.count >= 1 && run.count <= count);
      take(run.page, run.count);
    } else if (what === 5) {
      const mark = space.liveMark;
      const before = freePages(space);
      const { frontier } = space;
      for (let i = 0; i < 3; i++) space.allocateLive(count);
      space.releaseLive(mark);
      const after = freePages(space);
      for (let page = frontier; page < space.frontier; page++) before.add(page);
      t.deepEqual([...after].sort(), [...before].sort(), 'what is released is as it was');
    } else if (what === 6) {
      const page = space.frontier - random.below(10) + random.below(30);
      const wanted = Array.from({ length: count }, (_, i) => page + i);
      const possible = wanted.every((number) => !taken.has(number));
      if (possible) {
        t.true(space.claim(page, count));
        take(page, count);
      }
    } else if (used.length > 1) {
      const index = random.below(used.length);
      const run = used[index]!;
      used.splice(index, 1);
      if (what === 9) {
        space.quarantine(run.page, run.count, checkpoint);
        const before = space.freePages;
        space.releaseQuarantined(checkpoint);
        t.is(space.freePages, before, 'the same checkpoint does not release it');
        space.releaseQuarantined(++checkpoint);
      } else space.free(run.page, run.count);
      for (let i = run.page; i < run.page + run.count; i++) taken.delete(i);
    }
    if (round % 100 === 0) {
      const free = freePages(space);
      t.is(free.size, space.freePages);
      for (let page = 0; page < space.frontier; page++)
        t.not(free.has(page), taken.has(page), `page ${page}`);
    }
  }
});

test('freeing twice and claiming what is in use are refused', (t) => {
  const space = new FreeSpace(50);
  space.free(10, 5);
  t.throws(() => space.free(12, 1), { message: /freed twice/ });
  t.throws(() => space.free(8, 3), { message: /freed twice/ });
  t.throws(() => space.free(49, 2), { message: /beyond/ });
  t.false(space.claim(9, 2));
  t.false(space.claim(13, 5));
  t.true(space.claim(11, 2));
  t.deepEqual([...freePages(space)], [10, 13, 14]);
});

test('many runs that come free together are what they are one by one, and refused likewise', (t) => {
  const random = new Random(seedOf(t, 'merged runs'));
  for (let round = 0; round < 30; round++) {
    const together = new FreeSpace(5000);
    const single = new FreeSpace(5000);
    const rest: number[] = [];
    for (let page = 0; page < 5000; page++) {
      const what = random.below(3);
      if (what === 0) for (const space of [together, single]) space.free(page, 1);
      else if (what === 1) rest.push(page);
    }
    for (let i = rest.length - 1; i > 0; i--) {
      const j = random.below(i + 1);
      [rest[i], rest[j]] = [rest[j]!, rest[i]!];
    }
    for (const page of rest) {
      together.quarantine(page, 1, 1);
      single.free(page, 1);
    }
    together.releaseQuarantined(2);
    t.deepEqual([...together.freeWithin(0, 5000)], [...single.freeWithin(0, 5000)]);
    t.is(together.freePages, single.freePages);
    t.is(together.quarantinedPages, 0);
    for (const page of rest.slice(0, 200)) together.quarantine(page, 1, 3);
    t.throws(() => together.releaseQuarantined(4), { message: /freed twice/ });
  }
});
