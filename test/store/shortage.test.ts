/** A checkpoint that lacks room, or a descriptor, is delayed: the store goes on, and nothing is lost. */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { LsnfsError } from '../../src/errors.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';

const OPTIONS = { background: 'caller' as const };

function key(number: number): Buffer {
  return Buffer.from(`\0\0\0\0\0\0\0\x01${String(number).padStart(6, '0')}`, 'latin1');
}

function fill(store: Store, from: number, value: string): void {
  for (let number = from; number < from + 500; number++) {
    store.live.begin();
    store.live.put(TREE.namespace, key(number), Buffer.from(value));
    store.live.commit();
  }
  store.live.begin();
  store.live.writeData(7, from * 4096, Buffer.alloc(20_000, value), 0, 20_000);
  store.live.commit();
}

function expectAll(t: { is(a: unknown, b: unknown): void }, store: Store, values: readonly string[]): void {
  values.forEach((value, index) => {
    for (let number = index * 500; number < index * 500 + 500; number += 33) {
      t.is(store.live.namespace.get(key(number))?.toString(), value);
    }
    const bytes = Buffer.alloc(20_000);
    store.live.readData(7, index * 500 * 4096, bytes, 0, bytes.length);
    t.is(bytes.compare(Buffer.alloc(20_000, value)), 0);
  });
}

test('a checkpoint that meets a full disk at any of its writes is done later, with all that was done', async (t) => {
  for (let failing = 0; ; failing++) {
    const directory = new MemoryDirectory('memory');
    Store.initialize(directory, { segmentSize: 1024 * 1024 });
    const warnings: string[] = [];
    const store = Store.open(directory, { ...OPTIONS, warn: (message) => warnings.push(message) });
    fill(store, 0, 'a');
    await store.checkpoint();
    fill(store, 500, 'b');
    await store.createSnapshot('kept', '');
    fill(store, 1000, 'c');
    let writes = 0;
    directory.fault = (operation, name) => {
      if (operation === 'write' && name === 'data' && writes++ >= failing) {
        throw new LsnfsError('NO_SPACE', 'something else has filled the disk');
      }
    };
    const outcome = await store.checkpoint().then(
      () => undefined,
      (error: unknown) => error as LsnfsError,
    );
    if (outcome === undefined) {
      t.true(failing > 2, 'each write was made to fail once');
      await store.close();
      return;
    }
    t.is(outcome.code, 'NO_SPACE');
    t.is(store.failure, undefined);
    t.is(warnings.length, 1, 'it is told once');
    t.is(store.statistics().delayed, outcome.message);
    expectAll(t, store, ['a', 'b', 'c']);
    fill(store, 1500, 'd');
    await store.commit();
    // As the disk is now: what a crash would leave.
    const killed = Store.open(directory.clone(), OPTIONS);
    expectAll(t, killed, ['a', 'b', 'c', 'd']);
    await killed.close();
    directory.fault = undefined;
    await store.checkpoint();
    t.is(store.statistics().delayed, null);
    expectAll(t, store, ['a', 'b', 'c', 'd']);
    t.deepEqual(checkStore(store).problems, []);
    t.is(store.snapshot('kept')?.lsn, store.openState(store.snapshot('kept')!.lsn).lsn);
    await store.close();
    const again = Store.open(directory, OPTIONS);
    t.is(again.recovered.transactions, 0);
    expectAll(t, again, ['a', 'b', 'c', 'd']);
    t.deepEqual(checkStore(again).problems, []);
    await again.close();
  }
});

test('a store that is closed on a full disk has the rest in its log', async (t) => {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  const store = Store.open(directory, OPTIONS);
  fill(store, 0, 'a');
  directory.fault = (operation, name) => {
    if (operation === 'write' && name === 'data') throw new LsnfsError('NO_SPACE', 'full');
  };
  await store.close();
  directory.fault = undefined;
  const again = Store.open(directory, OPTIONS);
  t.true(again.recovered.transactions > 0);
  expectAll(t, again, ['a']);
  await again.checkpoint();
  t.deepEqual(checkStore(again).problems, []);
  await again.close();
});
