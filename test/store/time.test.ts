/** Times of states when the system's clock goes backwards. */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { History } from '../../src/history/history.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { Store } from '../../src/store/store.ts';
import type { TreeState } from '../../src/store/tree-state.ts';

test('states are found by time although the clock goes backwards', async (t) => {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  let now = Date.now() * 1000;
  const store = Store.open(directory, { background: 'caller', now: () => now });
  const history = new History(store);
  const key = Buffer.from('\0\0\0\0\0\0\0\x01k', 'latin1');
  const seen: { time: number; lsn: number }[] = [];
  for (let i = 0; i < 60; i++) {
    now += i % 7 === 3 ? -500 : 100;
    store.live.begin();
    store.live.put(TREE.namespace, key, Buffer.from(`value ${i}`));
    store.live.commit();
    seen.push({ time: store.live.timeMicroseconds, lsn: store.live.lsn });
    if (i % 5 === 0) await store.checkpoint();
  }
  await store.checkpoint();
  for (let i = 1; i < seen.length; i++) t.true(seen[i]!.time >= seen[i - 1]!.time);
  for (const { time } of seen) {
    const expected = seen.filter((other) => other.time <= time).at(-1)!;
    const found = history.resolve({ kind: 'time', timeMicroseconds: time });
    const lease = history.open(found.lsn);
    const value = (lease.state as TreeState).namespace.get(key)?.toString();
    t.is(value, `value ${seen.indexOf(expected)}`);
    lease.release();
  }
  await store.close();
});
