/**
 * The store against a plain map: random transactions, checkpoints, rollbacks and restarts; then the state after each
 * transaction, read back by its LSN, must be what the map was then.
 */
import test from 'ava';
import { TREE } from '../../src/encoding/keys.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import type { StateReader } from '../../src/store/state.ts';
import { Store } from '../../src/store/store.ts';
import { Random, seedOf } from '../helpers/random.ts';

const SEGMENT_SIZE = 1024 * 1024;

/** What a state should hold: values by key, and the bytes of files that have data in extents. */
class Model {
  readonly values = new Map<string, string>();
  readonly files = new Map<number, Buffer>();

  clone(): Model {
    const copy = new Model();
    for (const [key, value] of this.values) copy.values.set(key, value);
    for (const [inode, bytes] of this.files) copy.files.set(inode, Buffer.from(bytes));
    return copy;
  }

  write(inode: number, offset: number, bytes: Uint8Array): void {
    let file = this.files.get(inode) ?? Buffer.alloc(0);
    if (file.length < offset + bytes.length) {
      file = Buffer.concat([file, Buffer.alloc(offset + bytes.length - file.length)]);
    }
    file.set(bytes, offset);
    this.files.set(inode, file);
  }

  unmap(inode: number, from: number, to: number): void {
    const file = this.files.get(inode);
    file?.fill(0, Math.min(from, file.length), Math.min(to, file.length));
  }
}

function differences(state: StateReader, model: Model): string[] {
  const found: string[] = [];
  const values = new Map<string, string>();
  for (const { key, value } of state.namespace.entries())
    values.set(key.toString('latin1'), value.toString('latin1'));
  if (values.size !== model.values.size) found.push(`${values.size} keys, expected ${model.values.size}`);
  for (const [key, value] of model.values) {
    if (values.get(key) !== value) found.push(`key ${key}: ${values.get(key)}, expected ${value}`);
  }
  for (const [inode, bytes] of model.files) {
    const read = Buffer.alloc(bytes.length + 5000);
    state.readData(inode, 0, read, 0, read.length);
    if (!read.subarray(0, bytes.length).equals(bytes)) {
      let at = 0;
      while (read[at] === bytes[at]) at++;
      found.push(`file ${inode} differs at ${at} of ${bytes.length}`);
    }
    if (read.subarray(bytes.length).some((byte) => byte !== 0))
      found.push(`file ${inode} goes on beyond its end`);
  }
  return found;
}

for (const pageSize of [4096, 8192] as const) {
  test(`every transaction's state reads as it was, page size ${pageSize}`, async (t) => {
    const random = new Random(seedOf(t, `store ${pageSize}`));
    const directory = new MemoryDirectory('memory');
    Store.initialize(directory, { pageSize, segmentSize: SEGMENT_SIZE });
    const options = { background: 'caller' as const };
    let store = Store.open(directory, options);
    let model = new Model();
    const history: { lsn: number; model: Model }[] = [];

    const change = (keep = true): void => {
      const { live } = store;
      live.begin();
      for (let i = random.below(6); i >= 0; i--) {
        const inode = 1 + random.below(6);
        const what = random.below(10);
        if (what < 4) {
          const key = Buffer.from(`\0\0\0\0\0\0\0\x01key-${random.below(400)}`, 'latin1');
          const value = random.bytes(random.below(300));
          live.put(TREE.namespace, key, value);
          model.values.set(key.toString('latin1'), value.toString('latin1'));
        } else if (what < 6) {
          const key = Buffer.from(`\0\0\0\0\0\0\0\x01key-${random.below(400)}`, 'latin1');
          const existed = live.delete(TREE.namespace, key);
          t.is(existed, model.values.delete(key.toString('latin1')));
        } else if (what < 9) {
          const offset = random.below(4) === 0 ? random.below(100) * pageSize : random.below(300_000);
          const length = random.below(3) === 0 ? random.below(200_000) : random.below(9000);
          const bytes = random.bytes(length);
          live.writeData(inode, offset, bytes, 0, length);
          model.write(inode, offset, bytes);
        } else {
          const first = random.below(80);
          const count = random.below(3) === 0 ? Number.POSITIVE_INFINITY : 1 + random.below(30);
          live.unmapData(inode, first, count);
          model.unmap(inode, first * pageSize, (first + count) * pageSize);
        }
      }
      if (keep) live.commit();
      else live.rollback();
    };

    for (let round = 0; round < 160; round++) {
      const what = random.below(20);
      if (what < 14) {
        change();
        history.push({ lsn: store.live.lsn, model: model.clone() });
      } else if (what < 16) {
        const before = model.clone();
        store.live.beginTransaction();
        for (let i = random.below(4); i >= 0; i--) change();
        if (random.below(2) === 0) {
          history.push({ lsn: store.live.commitTransaction(), model: model.clone() });
        } else {
          store.live.rollbackTransaction();
          model = before;
        }
      } else if (what === 16 && random.below(2) === 0) {
        // A change that fails midway: the live state is rebuilt from the last checkpoint and the log.
        const before = model.clone();
        change(false);
        model = before;
      } else if (what < 18) {
        for (let i = random.below(8); i >= 0; i--) store.backgroundStep(0);
      } else if (what === 18) {
        await store.checkpoint();
        t.deepEqual(checkStore(store).problems, []);
      } else {
        await store.commit();
        if (random.below(2) === 0) await store.close();
        else await store.log.close();
        store = Store.open(directory, options);
      }
      if (round % 10 === 0) t.deepEqual(differences(store.live, model), [], `round ${round}`);
    }
    t.deepEqual(differences(store.live, model), []);
    await store.checkpoint();
    for (const { lsn, model: expected } of history) {
      t.deepEqual(differences(store.openState(lsn), expected), [], `state at ${lsn}`);
    }
    t.deepEqual(checkStore(store).problems, []);
    await store.close();
  });
}
