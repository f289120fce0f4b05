/** The public API: values by path, transactions, past states, snapshots, plugins. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  Database,
  initialize,
  type LsnfsError,
  MemoryDirectory,
  open,
  type Transaction,
  type View,
} from '../../src/index.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';

/** A new store below a temporary directory that goes with the test. */
async function newStore(t: ExecutionContext): Promise<string> {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-database-'));
  t.teardown(() => rmSync(directory, { recursive: true, force: true }));
  const path = join(directory, 'store');
  await initialize(path, { segmentSize: 1024 * 1024 });
  return path;
}

/** Verifies the whole store and closes it. */
async function closeVerified(t: ExecutionContext, database: Database): Promise<void> {
  t.deepEqual((await database.check()).problems, []);
  await database.close();
}

/** Every file below a directory with its content. */
function contents(view: View | Database, directory = ''): Map<string, string> {
  const found = new Map<string, string>();
  for (const entry of view.list(directory)) {
    const path = `${directory}/${entry.name}`;
    if (entry.type === 'directory') for (const [name, value] of contents(view, path)) found.set(name, value);
    else found.set(path, view.read(path).toString('latin1'));
  }
  return found;
}

test('values by path: put makes parents, get, stat, list and delete', async (t) => {
  const database = await open(await newStore(t));
  const { lsn } = await database.put('/a/b/c', 'hello');
  t.is(database.store.durableLsn, lsn);
  t.is(database.get('/a/b/c')?.toString(), 'hello');
  t.is(database.get('a/b/c')?.toString(), 'hello', 'a leading slash changes nothing');
  t.is(database.get('/a/x'), undefined);
  t.is(database.get('/x/y/z'), undefined);
  t.throws(() => database.get('/a'), { code: 'EISDIR', message: /\/a/ });
  t.throws(() => database.read('/a/x'), { code: 'ENOENT', message: /\/a\/x/ });
  t.is(database.read('/a/b/c', { offset: 1, length: 3 }).toString(), 'ell');
  t.is(database.stat('/a/b/c')?.size, 5);
  t.is(database.stat('/a/b')?.type, 'directory');
  t.is(database.stat('/nothing'), undefined);
  await database.put('/a/b/c', Buffer.alloc(100_000, 7));
  await database.put('/a/b/c', 'shorter');
  t.is(database.get('/a/b/c')?.toString(), 'shorter');
  await database.put(Buffer.from('/a/\xff\xfe', 'latin1'), 'bytes');
  t.deepEqual(
    database.list('/a').map(({ nameBytes, type }) => [nameBytes.toString('latin1'), type]),
    [
      ['b', 'directory'],
      ['\xff\xfe', 'file'],
    ],
  );
  await t.throwsAsync(database.put('/a/b', 'x'), { code: 'EISDIR' });
  await t.throwsAsync(database.put('/a/b/c/d', 'x'), { code: 'ENOTDIR' });
  await t.throwsAsync(database.put(`/${'n'.repeat(256)}`, 'x'), { code: 'ENAMETOOLONG' });
  await t.throwsAsync(database.delete('/a'), { code: 'ENOTEMPTY' });
  t.false((await database.delete('/a/nothing')).deleted);
  t.true((await database.delete('/a', { recursive: true })).deleted);
  t.deepEqual(database.list(), []);
  await closeVerified(t, database);
});

test('a listing has every name as it is, whatever its bytes', async (t) => {
  const database = await open(await newStore(t));
  const names: Buffer[] = [];
  for (let i = 0; i < 300; i++) {
    const number = String(i).padStart(3, '0');
    const tail = [
      Buffer.alloc(i % 250, 'n'),
      Buffer.from('é\u{1f600}'),
      Buffer.from('\ufffd'),
      Buffer.from([0xff, 0xe2, 0x82]),
      Buffer.alloc(0),
    ][i % 5]!;
    names.push(Buffer.concat([Buffer.from(number), tail]));
  }
  await database.transaction((transaction) => {
    transaction.mkdir('/d');
    for (const name of names) transaction.put(Buffer.concat([Buffer.from('/d/'), name]), 'x');
  });
  const listed = database.list('/d');
  t.deepEqual(
    listed.map(({ nameBytes }) => nameBytes.toString('hex')),
    names.map((name) => name.toString('hex')),
  );
  t.deepEqual(
    listed.map(({ name }) => name),
    names.map((name) => name.toString()),
  );
  await closeVerified(t, database);
});

test('a transaction takes effect as a whole, or not at all', async (t) => {
  const path = await newStore(t);
  let database = await open(path);
  await database.put('/kept', 'before');
  await t.throwsAsync(
    database.transaction((transaction) => {
      transaction.put('/kept', 'after');
      transaction.put('/large', Buffer.alloc(300_000, 1));
      transaction.mkdir('/d/e/f');
      transaction.rename('/kept', '/d/moved');
      t.is(transaction.get('/d/moved')?.toString(), 'after', 'a transaction reads its own writes');
      throw new Error('changed my mind');
    }),
    { message: 'changed my mind' },
  );
  t.deepEqual([...contents(database)], [['/kept', 'before']]);
  await t.throwsAsync(
    database.transaction(async (transaction) => transaction.put('/kept', 'async')),
    { code: 'INVALID_INPUT', message: /synchronous/ },
  );
  let escaped: Transaction | undefined;
  const { lsn, result } = await database.transaction((transaction) => {
    escaped = transaction;
    for (let i = 0; i < 500; i++) transaction.put(`/many/${i}`, `value ${i}`);
    transaction.symlink('/link', 'many/7');
    return 'done';
  });
  t.is(result, 'done');
  t.is(lsn, database.lsn);
  t.throws(() => escaped?.put('/late', 'x'), { code: 'INVALID_INPUT' });
  t.is(database.get('/link')?.toString(), 'value 7');
  await t.throwsAsync(
    database.transaction((transaction) => {
      transaction.delete('/many', { recursive: true });
      transaction.put('/many/7/below-a-file-that-is-gone', 'x');
      transaction.mkdir(`/${'x'.repeat(300)}`);
    }),
    { code: 'ENAMETOOLONG' },
  );
  t.is(database.list('/many').length, 500);
  await database.close();
  database = await open(path);
  t.is(database.list('/many').length, 500);
  t.is(database.get('/kept')?.toString(), 'before');
  await closeVerified(t, database);
});

for (const sync of [true, false]) {
  const title = sync ? 'transactions' : 'transactions that wait for nothing,';
  test(`${title} one after the other leave no more dirty than some times what starts a checkpoint`, async (t) => {
    const database = await open(await newStore(t), { settings: { checkpointDirtyBytes: 1024 * 1024 } });
    const { pages } = database.store.live;
    let most = 0;
    for (let first = 0; first < 20_000; first += 1000) {
      await database.transaction(
        (transaction) => {
          for (let i = first; i < first + 1000; i++) transaction.put(`${i % 100}/${i}`, 'content'.repeat(30));
        },
        { sync },
      );
      most = Math.max(most, pages.dirtyCount * pages.pageSize);
    }
    // Three times as much, what one transaction changes, and what changed while the checkpoint waited for the disk.
    t.true(most < 6 * 1024 * 1024, `${most} bytes were dirty`);
    await closeVerified(t, database);
  });
}

test('past states by LSN, time and name, and targets that cannot be opened', async (t) => {
  const path = await newStore(t);
  let database = await open(path);
  const first = await database.put('/f', 'one');
  const moment = new Date();
  await new Promise((resolve) => setTimeout(resolve, 20));
  const snapshot = await database.snapshots.create('before', { message: 'why' });
  t.regex(snapshot.createdAt, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3,6}Z$/);
  const second = await database.put('/f', 'two');
  t.deepEqual(database.snapshots.list(), [snapshot]);
  await database.close();
  database = await open(path);
  for (const target of [first.lsn, `lsn-${first.lsn}`, `@lsn-${first.lsn}`, moment, 'before', '@before']) {
    const view = database.at(target);
    t.is(view.get('/f')?.toString(), 'one', String(target));
    view.close();
  }
  t.is(database.at(first.lsn + 1).lsn, first.lsn, 'between two transactions: the one before');
  t.is(database.at('latest').get('/f')?.toString(), 'two');
  t.is(database.at(second.lsn).get('/f')?.toString(), 'two');
  t.deepEqual(database.at(64).list(), []);
  const future = t.throws(() => database.at(10 ** 12)) as LsnfsError;
  t.is(future.code, 'NO_SUCH_STATE');
  t.is(future.details.nearest, database.store.durableLsn);
  t.regex(future.message, /states from 64 to \d+ can be opened/);
  t.is((t.throws(() => database.at(1)) as LsnfsError).details.nearest, 64);
  t.throws(() => database.at('2001-01-01'), { code: 'NO_SUCH_STATE' });
  t.throws(() => database.at('nobody'), { code: 'NO_SUCH_SNAPSHOT' });
  t.throws(() => database.at('lsn-x'), { code: 'INVALID_INPUT' });
  for (const [name, code] of [
    ['before', 'NAME_TAKEN'],
    ['lsn-7', 'NAME_RESERVED'],
    ['latest', 'NAME_RESERVED'],
    ['2026-11-22', 'NAME_RESERVED'],
    ['a/b', 'INVALID_INPUT'],
    ['', 'INVALID_INPUT'],
    ['n'.repeat(300), 'INVALID_INPUT'],
  ] as const) {
    await t.throwsAsync(database.snapshots.create(name), { code }, name);
  }
  await database.put('/@taken', 'an ordinary name');
  await t.throwsAsync(database.snapshots.create('taken'), { code: 'NAME_TAKEN' });
  await t.throwsAsync(database.put('/@before', 'x'), { code: 'NAME_TAKEN' });
  await t.throwsAsync(database.put('/@lsn-9', 'x'), { code: 'NAME_RESERVED' });
  const pinned = database.at('before');
  await database.snapshots.delete('before');
  t.is(pinned.get('/f')?.toString(), 'one', 'a state that is open stays open');
  pinned.close();
  t.throws(() => database.at('before'), { code: 'NO_SUCH_SNAPSHOT' });
  await closeVerified(t, database);
});

test('a store is opened once; read-only takes no change', async (t) => {
  const path = await newStore(t);
  const database = await open(path);
  await database.put('/f', 'x');
  const error = (await t.throwsAsync(open(path))) as LsnfsError;
  t.is(error.code, 'STORE_IN_USE');
  t.is(error.details.pid, process.pid);
  await database.close();
  const reader = await open(path, { readOnly: true });
  t.is(reader.get('/f')?.toString(), 'x');
  await t.throwsAsync(reader.put('/g', 'y'), { code: 'READ_ONLY' });
  await t.throwsAsync(reader.snapshots.create('s'), { code: 'READ_ONLY' });
  await reader.close();
  await t.throwsAsync(initialize(path), { code: 'STORE_EXISTS' });
  await t.throwsAsync(open(join(path, 'wal')), { code: 'NO_STORE' });
  await t.throwsAsync(open(join(path, 'nothing')), { code: 'NO_STORE' });
});

test('random transactions against a map: every state reads as the map was then', async (t) => {
  const random = new Random(seedOf(t, 'database'));
  const path = await newStore(t);
  const options = { settings: { checkpointIntervalMs: 10 } };
  let database = await open(path, options);
  let model = new Map<string, string>();
  const history: { lsn: number; model: Map<string, string> }[] = [];
  const name = (): string => `/${random.below(4)}/${random.below(4)}/f${random.below(12)}`;
  for (let round = 0; round < 60; round++) {
    const next = new Map(model);
    const fails = random.below(5) === 0;
    try {
      const { lsn } = await database.transaction((transaction) => {
        for (let i = random.below(8); i >= 0; i--) {
          const file = name();
          if (random.below(3) > 0) {
            const value = random.bytes(random.below(10) === 0 ? random.below(150_000) : random.below(2000));
            transaction.put(file, value);
            next.set(file, value.toString('latin1'));
          } else {
            t.is(transaction.delete(file), next.delete(file));
          }
        }
        if (fails) throw new Error('on purpose');
      });
      model = next;
      history.push({ lsn, model });
    } catch (error) {
      t.is((error as Error).message, 'on purpose');
    }
    if (random.below(12) === 0) {
      await database.close();
      database = await open(path, options);
    }
    t.deepEqual(contents(database), new Map([...model].sort()), `round ${round}`);
  }
  for (const { lsn, model: expected } of history) {
    const view = database.at(lsn);
    t.deepEqual(contents(view), new Map([...expected].sort()), `state at ${lsn}`);
    view.close();
  }
  await closeVerified(t, database);
});

test('the same database in memory, for programs and tests that need no disk', async (t) => {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory);
  const database = await Database.over(directory);
  await database.put('/f', 'x');
  t.is(database.at('latest').get('/f')?.toString(), 'x');
  await closeVerified(t, database);
});

test('plugins are loaded, hear of commits and snapshots, and are stopped', async (t) => {
  const path = await newStore(t);
  const module = join(path, '..', 'plugin.mjs');
  writeFileSync(
    module,
    `export const heard = [];
     export default (database) => ({
       commit: (event) => { heard.push(['commit', event.lsn]); },
       snapshot: (event) => { heard.push(['snapshot', event.name]); throw new Error('a hook that fails'); },
       stop: () => { heard.push(['stop', database.path]); },
     });`,
  );
  const warnings: string[] = [];
  const database = await open(path, {
    settings: { plugins: [module] },
    warn: (message) => warnings.push(message),
  });
  const { lsn } = await database.put('/f', 'x');
  await database.snapshots.create('s');
  await database.close();
  const { heard } = (await import(module)) as { heard: unknown[] };
  t.deepEqual(heard, [
    ['commit', lsn],
    ['snapshot', 's'],
    ['stop', path],
  ]);
  t.is(warnings.length, 1);
  t.regex(warnings[0]!, /a hook that fails/);
  await t.throwsAsync(open(path, { settings: { plugins: [join(path, 'nothing.mjs')] } }), {
    message: /nothing\.mjs cannot be loaded/,
  });
  await (await open(path)).close();
});
