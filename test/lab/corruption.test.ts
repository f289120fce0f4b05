/** A sample of the corruption laboratory; `npm run test:corruption` is the long run. */
import test from 'ava';
import { CONTROL_SLOT_SIZE } from '../../src/encoding/control.ts';
import { CorruptPageError } from '../../src/errors.ts';
import { Random, seedOf, share } from '../helpers/random.ts';
import { type Damage, pagesByKind } from './corruption-damage.ts';
import { everyByte, prepare, recipe, runByte, runCase } from './corruption-run.ts';
import { openDatabase, RECIPES } from './corruption-store.ts';
import { Finding } from './corruption-use.ts';

const CASES = new Map([
  ['closed-4096', 120],
  ['crashed-4096', 120],
  ['crashed-16384', 80],
  ['small-closed', 200],
  ['small-crashed', 200],
]);

for (const one of RECIPES) {
  test(`random damage of the store ${one.name}: the right data or an error that says where`, async (t) => {
    const seed = seedOf(t, one.name);
    const prepared = await prepare(one, seed);
    const outcomes = new Set<string>();
    for (let index = 0; index < share(CASES.get(one.name)!); index++)
      outcomes.add(await runCase(prepared, seed, index));
    t.true(outcomes.size > 1, 'all cases ended alike: the damage does not reach what is read');
  });
}

test('the large store has every kind of page', async (t) => {
  const { laboratory } = await prepare(recipe('closed-4096'), seedOf(t, 'kinds'));
  const trees = ['namespace', 'inodes', 'registry', 'versions', 'lifetimes', 'free'];
  const expected = ['version root', 'catalog root', 'data', ...trees.map((tree) => `leaf of ${tree}`)];
  const kinds = pagesByKind(laboratory.built);
  for (const kind of [...expected, 'branch of namespace', 'branch of inodes', 'branch of registry']) {
    t.true(kinds.has(kind), kind);
  }
  for (const kind of ['branch of lifetimes', 'branch of free']) t.true(kinds.has(kind), kind);
});

test('every byte that has a meaning in the control file, and a sample of all bytes of small stores', async (t) => {
  const seed = seedOf(t, 'bytes');
  const random = new Random(seed);
  for (const name of ['small-closed', 'small-crashed']) {
    const prepared = await prepare(recipe(name), seed);
    for (const place of everyByte(prepared)) {
      const inSlot = place.offset % CONTROL_SLOT_SIZE;
      const meant = place.file === 'control' && (inSlot < 100 || inSlot >= CONTROL_SLOT_SIZE - 4);
      if (meant ? random.below(4) > 0 : random.below(1500) > 0) continue;
      await runByte(prepared, seed, place);
    }
  }
  t.pass();
});

test('a canary: data that is not verified, and a commit that is lost without a word, are found', async (t) => {
  const seed = seedOf(t, 'canary');
  const { laboratory } = await prepare(recipe('small-closed'), seed);
  const { built } = laboratory;
  const rewrite: Damage = {
    what: 'a change that nobody made',
    touched: [],
    apply: (directory) => {
      const device = directory.open('data');
      const data = new Set(pagesByKind(built).get('data'));
      const page = laboratory.pagesOf('/direct').find((number) => data.has(number))!;
      device.write(page * built.pageSize, Buffer.from('wrong'), 0, 5);
    },
  };
  // The damage is undeclared: that a path cannot be read is a finding, as wrong data would be.
  await t.throwsAsync(laboratory.run(rewrite, new Random(seed), false), { instanceOf: Finding });
  const crashed = (await prepare(recipe('small-crashed'), seed)).laboratory;
  const { file, to } = crashed.built.frames.at(-1)!;
  const cut: Damage = {
    what: 'the log is gone, as if it had never been',
    touched: [],
    apply: (directory) => {
      const device = directory.open(file);
      const zeros = Buffer.alloc(to - 12_000);
      device.write(12_000, zeros, 0, zeros.length);
    },
  };
  await t.throwsAsync(crashed.run(cut, new Random(seed), false), { instanceOf: Finding });
});

test('an error names the damaged page and where it lies', async (t) => {
  const { laboratory } = await prepare(recipe('small-closed'), seedOf(t, 'facts'));
  const { built } = laboratory;
  const directory = built.directory.clone();
  const [page] = pagesByKind(built).get('leaf of namespace')!.slice(-1) as [number];
  const device = directory.open('data');
  device.write(page * built.pageSize + 500, Buffer.from([0xaa, 0x55]), 0, 2);
  const database = await openDatabase(directory, () => {});
  const error = t.throws(() => database.list('/'), { instanceOf: CorruptPageError });
  t.is(error?.details.page, page);
  t.is(error?.details.offset, page * built.pageSize);
  await database.store.log.close();
});
