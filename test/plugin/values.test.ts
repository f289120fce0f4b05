/**
 * Values by path: text takes a short way that remembers directories, bytes take the way of path_resolution(7). Whatever
 * is done to the directories, both say the same.
 */
import test from 'ava';
import { Database, MemoryDirectory, PosixError, type Transaction } from '../../src/index.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';

async function make(): Promise<Database> {
  const directory = new MemoryDirectory();
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  return Database.over(directory);
}

const NAMES = ['a', 'b', 'c', 'ü'];

function pick<Item>(random: Random, items: readonly Item[]): Item {
  return items[random.below(items.length)]!;
}

function somePath(random: Random, depth = 1 + random.below(4)): string {
  return Array.from({ length: depth }, () => `/${pick(random, NAMES)}`).join('');
}

/** What an answer is, or which error. */
function answer(work: () => unknown): unknown {
  try {
    return work();
  } catch (error) {
    if (error instanceof PosixError) return error.code;
    throw error;
  }
}

function step(transaction: Transaction, random: Random, n: number): void {
  const [path, other] = [somePath(random), somePath(random)];
  switch (random.below(10)) {
    case 0:
      transaction.mkdir(path);
      break;
    case 1:
      transaction.symlink(path, random.below(2) === 0 ? other : pick(random, NAMES));
      break;
    case 2:
      transaction.delete(path, { recursive: true });
      break;
    case 3:
    case 4:
      transaction.rename(path, other);
      break;
    default:
      transaction.put(path, `${n}`.repeat(1 + random.below(3) * 600));
  }
}

function compare(database: Database, paths: readonly string[]): string[] {
  const differences: string[] = [];
  for (const path of paths) {
    for (const form of [path, path.slice(1), `${path}/`, `${path}/../${path.slice(1)}`]) {
      const [short, long] = [form, Buffer.from(form)].map((given) =>
        JSON.stringify([
          answer(() => database.get(given)?.toString()),
          answer(() => database.list(given).map(({ name, type, inode }) => [name, type, inode])),
        ]),
      );
      if (short !== long) differences.push(`${form}: ${short} and not ${long}`);
    }
  }
  return differences;
}

test('text and bytes lead to the same values, whatever happens to the directories', async (t) => {
  const random = new Random(seedOf(t, 'values'));
  const database = await make();
  const lsns: number[] = [];
  for (let round = 0; round < 400; round++) {
    const paths = Array.from({ length: 12 }, () => somePath(random));
    // Remembered before, so that it has to be forgotten.
    t.deepEqual(compare(database, paths), []);
    try {
      await database.transaction((transaction) => {
        for (let i = random.below(6); i >= 0; i--) {
          try {
            step(transaction, random, round);
          } catch (error) {
            // What cannot be done is not done.
            if (!(error instanceof PosixError)) throw error;
          }
          answer(() => transaction.get(pick(random, paths)));
        }
        if (random.below(5) === 0) throw new RangeError('rolled back');
      });
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
    }
    if (random.below(20) === 0) lsns.push(database.lsn);
    if (lsns.length > 0 && random.below(40) === 0) await database.restore(pick(random, lsns));
    t.deepEqual(compare(database, paths), [], `round ${round}`);
  }
  await database.close();
});

test('files gives every regular file once, in order, with its content', async (t) => {
  const database = await make();
  const expected = new Map<string, string>();
  const put = (transaction: Transaction, path: string, content: string): void => {
    transaction.put(path, content);
    expected.set(path, content);
  };
  await database.transaction((transaction) => {
    put(transaction, '/b/z', 'last of b');
    put(transaction, '/a', 'first');
    put(transaction, '/b/a/deep', 'x'.repeat(20_000));
    put(transaction, '/c', '');
    transaction.mkdir('/empty');
    transaction.symlink('/link', '/a');
  });
  const all = [...database.files()].map(({ path, content }) => [path, content.toString()]);
  t.deepEqual(
    all,
    ['/a', '/b/a/deep', '/b/z', '/c'].map((path) => [path, expected.get(path)]),
  );
  t.deepEqual(
    [...database.files('b/')].map(({ path }) => path),
    ['/b/a/deep', '/b/z'],
  );
  t.throws(() => database.files('/a'), { code: 'ENOTDIR' });
  t.throws(() => database.files('/none'), { code: 'ENOENT' });
  // Changed while it goes on: what stays is seen.
  const seen: string[] = [];
  for (const { path } of database.files()) {
    seen.push(path);
    if (path === '/a') await database.delete('/b/a', { recursive: true });
    if (path === '/b/z') await database.put('/b/zz', 'new');
  }
  t.deepEqual(seen, ['/a', '/b/z', '/b/zz', '/c']);
  // A past state is walked as it was.
  await database.snapshots.create('now');
  await database.delete('/b', { recursive: true });
  const past = database.at('now');
  t.deepEqual([...past.files()].length, 4);
  past.close();
  await database.close();
});

test('a directory that is made and removed in one transaction leaves nothing', async (t) => {
  const database = await make();
  await database.put('/kept/f', '1');
  await database.transaction((transaction) => {
    transaction.put('/gone/f', '1');
    transaction.put('/kept/g', '2');
    transaction.delete('/gone', { recursive: true });
    transaction.put('/kept/h', '3');
  });
  t.deepEqual(
    database.list('/').map(({ name }) => name),
    ['kept'],
  );
  t.is(database.stat('/kept')?.size, 3 * (1 + 16));
  t.deepEqual(await (await database.check()).damages, []);
  // Too long is too long, however it is said.
  const long = `${'/'.repeat(4090)}kept/f`;
  for (const path of [long, Buffer.from(long)]) t.throws(() => database.get(path), { code: 'ENAMETOOLONG' });
  await t.throwsAsync(database.put(long, 'x'), { code: 'ENAMETOOLONG' });
  // A link is followed, and what it leads to is written.
  await database.transaction((transaction) => transaction.symlink('/link', 'kept/f'));
  await database.put('/link', 'through');
  t.is(database.get('/kept/f')?.toString(), 'through');
  t.is(database.stat('/link')?.type, 'symlink');
  await database.close();
});
