/** Failing devices, full disks and damaged pages under the store. */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { LsnfsError } from '../../src/errors.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { key, put, read, write } from '../helpers/store-content.ts';

const OPTIONS = { background: 'caller' as const };

function newStore(): { directory: MemoryDirectory; store: Store } {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  return { directory, store: Store.open(directory, OPTIONS) };
}

test('a failed sync turns the store read-only, says why, and reopening recovers what was durable', async (t) => {
  const { directory, store } = newStore();
  put(store, 1, 'durable');
  await store.commit();
  put(store, 2, 'lost');
  directory.fault = (operation) => {
    if (operation === 'sync') throw new LsnfsError('IO', 'the disk is on fire');
  };
  const error = await t.throwsAsync(store.commit());
  t.regex(error.message, /on fire/);
  t.true(store.live.readOnly);
  t.throws(() => store.live.begin(), { code: 'STORE_FAILED', message: /on fire/ });
  t.regex(store.statistics().failure ?? '', /on fire/);
  t.is(store.live.namespace.get(key(1))?.toString(), 'durable', 'reading goes on');
  directory.fault = undefined;
  await t.throwsAsync(store.close());
  const again = Store.open(directory, OPTIONS);
  t.is(again.live.namespace.get(key(1))?.toString(), 'durable');
  put(again, 3, 'on');
  await again.checkpoint();
  t.deepEqual(checkStore(again).problems, []);
  await again.close();
});

test('a write of data that fails midway leaves the state as it was', async (t) => {
  const { directory, store } = newStore();
  const before = Buffer.alloc(100_000, 'a');
  write(store, 5, 0, before);
  put(store, 1, 'kept');
  let writes = 0;
  directory.fault = (operation, name) => {
    if (operation === 'write' && name === 'data' && ++writes === 2) throw new LsnfsError('NO_SPACE', 'full');
  };
  store.live.begin();
  store.live.put(TREE.namespace, key(2), Buffer.from('goes'));
  t.throws(() => store.live.writeData(5, 50, Buffer.alloc(2_000_000, 'b'), 0, 2_000_000), {
    code: 'NO_SPACE',
  });
  let resets = 0;
  store.live.onReset(() => resets++);
  store.live.rollback();
  directory.fault = undefined;
  t.is(resets, 1);
  t.deepEqual(read(store, 5, 0, before.length), before);
  t.is(store.live.namespace.get(key(2)), undefined);
  t.is(store.live.namespace.get(key(1))?.toString(), 'kept');
  put(store, 4, 'on');
  await store.checkpoint();
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});

test('a full disk is ENOSPC, and work goes on once there is room', async (t) => {
  const { directory, store } = newStore();
  put(store, 1, 'first');
  await store.checkpoint();
  directory.capacity = 12 * 1024 * 1024;
  let written = 0;
  const chunk = Buffer.alloc(256 * 1024, 'x');
  const error = t.throws(() => {
    for (;;) {
      try {
        write(store, 7, written, chunk);
      } catch (caught) {
        store.live.rollback();
        throw caught;
      }
      written += chunk.length;
    }
  });
  t.is((error as LsnfsError).code, 'NO_SPACE');
  t.true(written > 0, 'some of it fitted');
  await store.commit();
  await store.checkpoint();
  t.deepEqual(read(store, 7, written - chunk.length, chunk.length), chunk);
  t.is(store.failure, undefined);
  directory.capacity = 200 * 1024 * 1024;
  write(store, 7, written, chunk);
  await store.checkpoint();
  t.deepEqual(read(store, 7, written, chunk.length), chunk);
  t.deepEqual(checkStore(store).problems, []);
  await store.close();
});

test('a corrupt page is an error for what needs it, and nothing else', async (t) => {
  const { directory, store } = newStore();
  for (let i = 0; i < 2000; i++) put(store, i, `value ${i} ${'x'.repeat(50)}`);
  await store.close();
  const first = Store.open(directory, OPTIONS);
  t.true(first.live.namespace.find(key(1000)));
  const { number } = first.live.namespace.page;
  await first.close();
  const data = directory.open('data');
  const byte = Buffer.alloc(1);
  data.read(number * 4096 + 2000, byte, 0, 1);
  byte[0] = byte[0]! ^ 0x10;
  data.write(number * 4096 + 2000, byte, 0, 1);
  data.close();
  const again = Store.open(directory, OPTIONS);
  const error = t.throws(() => again.live.namespace.find(key(1000))) as LsnfsError;
  t.is(error.code, 'CORRUPT_PAGE');
  t.is(error.details.page, number);
  t.is(error.details.offset, number * 4096);
  t.regex(error.message, new RegExp(`page ${number} at offset ${number * 4096}`));
  t.is(again.live.namespace.get(key(1))?.toString(), `value 1 ${'x'.repeat(50)}`);
  put(again, 1, 'changed beside the damage');
  await again.checkpoint();
  t.true(checkStore(again).problems.length > 0, 'the check finds it');
  await again.close();
});

test('a damaged newest control slot falls back to the one before, and loses nothing', async (t) => {
  const { directory, store } = newStore();
  for (let i = 0; i < 300; i++) {
    put(store, i, `value ${i}`);
    if (i % 60 === 59) await store.checkpoint();
  }
  await store.close();
  for (const slot of [0, 1]) {
    const copy = directory.clone();
    const control = copy.open('control');
    control.write(slot * 4096 + 100, Buffer.from([0xff, 0xee]), 0, 2);
    control.close();
    const opened = Store.open(copy, OPTIONS);
    for (let i = 0; i < 300; i++) t.is(opened.live.namespace.get(key(i))?.toString(), `value ${i}`);
    put(opened, 1000, 'on');
    await opened.checkpoint();
    t.deepEqual(checkStore(opened).problems, []);
    await opened.close();
  }
});

test('a snapshot whose checkpoint was cut off by a crash becomes a version at recovery', async (t) => {
  const { directory, store } = newStore();
  put(store, 1, 'then');
  const row = await store.createSnapshot('s', 'why');
  put(store, 1, 'now');
  await store.commit();
  const crashed = directory.clone();
  await store.close();
  const again = Store.open(crashed, OPTIONS);
  t.deepEqual(again.snapshots(), [row]);
  await again.checkpoint();
  t.is(again.versionBefore(row.lsn)?.lsn, row.lsn);
  t.is(again.openState(row.lsn).namespace.get(key(1))?.toString(), 'then');
  t.is(again.live.namespace.get(key(1))?.toString(), 'now');
  await t.throwsAsync(again.createSnapshot('s', ''), { code: 'NAME_TAKEN' });
  await again.deleteSnapshot('s');
  await t.throwsAsync(again.deleteSnapshot('s'), { code: 'NO_SUCH_SNAPSHOT' });
  await again.checkpoint();
  t.deepEqual(checkStore(again).problems, []);
  await again.close();
});
