/** A store with a random history, the states that it had, and what of them must be kept. */
import type { ExecutionContext } from 'ava';
import { inodeKey, TREE } from '../../src/encoding/keys.ts';
import { History, type Lease } from '../../src/history/history.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { isBornInLog } from '../../src/store/reclaim.ts';
import type { Settings } from '../../src/store/settings.ts';
import type { StateReader } from '../../src/store/state.ts';
import { Store } from '../../src/store/store.ts';
import { Random } from './random.ts';
import { KEEP_NOTHING } from './retention-settings.ts';

export const PAGE_SIZE = 4096;
const INODES = 5;
const FILE_PAGES = 60;

/** What a state holds: values by key, and a byte for each block of each file. */
class Model {
  readonly values = new Map<string, string>();
  readonly blocks = new Map<string, number>();

  clone(): Model {
    const copy = new Model();
    for (const [key, value] of this.values) copy.values.set(key, value);
    for (const [block, value] of this.blocks) copy.blocks.set(block, value);
    return copy;
  }

  /** The content of a file becomes what it is in the other. */
  takeBlocks(inode: number, other: Model): void {
    for (let block = 0; block < FILE_PAGES; block++) {
      const key = `${inode}/${block}`;
      const value = other.blocks.get(key);
      if (value === undefined) this.blocks.delete(key);
      else this.blocks.set(key, value);
    }
  }
}

function differences(state: StateReader, model: Model): string[] {
  const found: string[] = [];
  const values = new Map<string, string>();
  for (const { key, value } of state.namespace.entries())
    values.set(key.toString('latin1'), value.toString());
  if (values.size !== model.values.size) found.push(`${values.size} keys, expected ${model.values.size}`);
  for (const [key, value] of model.values) if (values.get(key) !== value) found.push(`key ${key}`);
  const bytes = Buffer.alloc(FILE_PAGES * PAGE_SIZE);
  for (let inode = 1; inode <= INODES; inode++) {
    state.readData(inode, 0, bytes, 0, bytes.length);
    for (let block = 0; block < FILE_PAGES; block++) {
      const expected = model.blocks.get(`${inode}/${block}`) ?? 0;
      const start = block * PAGE_SIZE;
      if (bytes[start] !== expected || bytes[start + PAGE_SIZE - 1] !== expected)
        found.push(`block ${block} of ${inode}`);
    }
  }
  return found;
}

export class KeptHistory {
  readonly random: Random;
  readonly directory = new MemoryDirectory('memory');
  readonly settings: Partial<Settings>;
  store!: Store;
  history!: History;
  model = new Model();
  states = new Map<number, Model>();
  leases: { lease: Lease; model: Model }[] = [];
  seconds = 1_800_000_000;
  private readonly t: ExecutionContext;
  private snapshotNumber = 0;

  constructor(t: ExecutionContext, seed: number, settings: Partial<Settings>) {
    this.t = t;
    this.random = new Random(seed);
    this.settings = settings;
    Store.initialize(this.directory, { segmentSize: 65536, createdAtMicroseconds: this.seconds * 1e6 });
    this.open();
    const { live } = this.store;
    live.begin();
    for (let inode = 1; inode <= INODES; inode++)
      live.put(TREE.inodes, inodeKey(inode), Buffer.from('record'));
    live.commit();
    this.states.set(live.lsn, this.model.clone());
  }

  open(): void {
    this.store = Store.open(this.directory, {
      background: 'caller',
      now: () => this.seconds * 1e6,
      monotonicMs: () => this.seconds * 1000,
      settings: { checkpointIntervalMs: 10, ...this.settings },
    });
    this.history = new History(this.store);
    this.leases = [];
  }

  change(): void {
    const { random, store, model } = this;
    const { live } = store;
    live.begin();
    for (let i = random.below(5); i >= 0; i--) {
      const inode = 1 + random.below(INODES);
      const what = random.below(10);
      const first = random.below(FILE_PAGES);
      const count = 1 + random.below(Math.min(20, FILE_PAGES - first));
      if (what < 3) {
        const key = Buffer.from(`\0\0\0\0\0\0\0\x01key-${random.below(300)}`, 'latin1');
        const value = `value ${random.below(1e9)} ${'-'.repeat(random.below(200))}`;
        live.put(TREE.namespace, key, Buffer.from(value));
        model.values.set(key.toString('latin1'), value);
      } else if (what < 4) {
        const key = Buffer.from(`\0\0\0\0\0\0\0\x01key-${random.below(300)}`, 'latin1');
        live.delete(TREE.namespace, key);
        model.values.delete(key.toString('latin1'));
      } else if (what < 9) {
        // Eight pages and more go past the log.
        const value = 1 + random.below(255);
        live.writeData(
          inode,
          first * PAGE_SIZE,
          Buffer.alloc(count * PAGE_SIZE, value),
          0,
          count * PAGE_SIZE,
        );
        for (let block = first; block < first + count; block++) model.blocks.set(`${inode}/${block}`, value);
      } else {
        live.unmapData(inode, first, count);
        for (let block = first; block < first + count; block++) model.blocks.delete(`${inode}/${block}`);
      }
    }
    live.commit();
    this.states.set(live.lsn, model.clone());
  }

  /** Makes a file with so many pages, which is none that `change` changes. */
  fill(pages: number): void {
    const { live } = this.store;
    live.begin();
    if (pages > 0) live.writeData(INODES + 1, 0, Buffer.alloc(pages * PAGE_SIZE, 7), 0, pages * PAGE_SIZE);
    live.unmapData(INODES + 1, pages, 1 << 20);
    live.commit();
    this.states.set(live.lsn, this.model.clone());
  }

  async step(): Promise<void> {
    const { random, store, history } = this;
    this.seconds += random.below(4);
    const what = random.below(27);
    if (what < 12) this.change();
    else if (what < 15) for (let i = random.below(12); i >= 0; i--) store.backgroundStep(0);
    else if (what < 17) await store.checkpoint();
    else if (what === 17) {
      await history.createSnapshot(`snapshot-${this.snapshotNumber++}`, '');
      this.states.set(store.live.lsn, this.model.clone());
    } else if (what === 18) {
      const names = history.snapshots();
      if (names.length > 0) {
        await history.deleteSnapshot(names[random.below(names.length)]!.name);
        this.states.set(store.live.lsn, this.model.clone());
      }
    } else if (what < 21) {
      await store.commit();
      this.openLease();
    } else if (what < 23) {
      this.leases.splice(random.below(this.leases.length + 1), 1)[0]?.lease.release();
    } else if (what === 23) await this.restart();
    else await this.restore();
  }

  /** Restores everything, or some of the files, to what a state was that can be opened. */
  private async restore(): Promise<void> {
    const { random, store, history } = this;
    await store.commit();
    const { oldest, newest } = history.range();
    const versions = new Set(store.versions().map(({ lsn }) => lsn));
    const lsns = [...this.states.keys()].filter(
      (lsn) => (lsn >= oldest && lsn <= newest) || versions.has(lsn),
    );
    const lsn = lsns[random.below(lsns.length)];
    if (lsn === undefined) return;
    const target = this.states.get(lsn)!;
    const isWhole = random.below(2) === 0;
    const before = this.model.clone();
    const taken = Array.from({ length: INODES }, (_, i) => i + 1).filter(() => random.below(3) === 0);
    const { live } = store;
    const restored = await store.restore(`before-${this.snapshotNumber++}`, '', () => {
      live.begin();
      if (isWhole) {
        live.restoreTo(lsn);
        this.model = target.clone();
        live.restoreFrom(live.lsn);
      } else live.restoreFrom(lsn);
      for (const inode of taken) {
        live.takeInode(inode);
        this.model.takeBlocks(inode, isWhole ? before : target);
      }
      live.commit();
    });
    this.states.set(restored.before.lsn, before);
    this.states.set(restored.lsn, this.model.clone());
  }

  private openLease(): void {
    const { oldest, newest } = this.history.range();
    const lsns = [...this.states.keys()].filter((lsn) => lsn >= oldest && lsn <= newest);
    const lsn = lsns[this.random.below(lsns.length)];
    if (lsn === undefined) return;
    this.leases.push({ lease: this.history.open(lsn), model: this.states.get(lsn)! });
  }

  private async restart(): Promise<void> {
    const { store, random } = this;
    await store.commit();
    if (random.below(2) === 0) await store.close();
    else await store.log.close();
    this.open();
  }

  /** Lets retention and reclaiming come to their end. */
  async settle(): Promise<void> {
    for (let i = 0; i < 4; i++) {
      this.seconds += 40;
      await this.store.checkpoint();
      for (let steps = 0; this.store.backgroundStep(0) !== 'idle'; steps++) {
        this.t.true(steps < 100_000, 'it comes to an end');
        this.seconds += 1;
        await new Promise((resolve) => setImmediate(resolve));
      }
    }
    await this.store.checkpoint();
  }

  /** Everything kept is as it was, and everything in use is needed. */
  verify(): void {
    const { t, store, history } = this;
    t.deepEqual(checkStore(store).problems, []);
    t.deepEqual(differences(store.live, this.model), []);
    for (const { lease, model } of this.leases) t.deepEqual(differences(lease.state, model), [], 'a lease');
    const { catalog } = store.inspect();
    const versions = store.versions().map(({ lsn }) => lsn);
    const { oldest, newest } = history.range();
    for (const lsn of versions) {
      const model = this.modelAt(lsn);
      t.deepEqual(differences(store.openState(lsn), model), [], `the version at ${lsn}`);
    }
    for (const [lsn, model] of this.states) {
      if (lsn < oldest || lsn > newest) continue;
      if (this.random.below(8) === 0) t.deepEqual(differences(store.openState(lsn), model), [], `${lsn}`);
    }
    for (const { name, lsn } of history.snapshots()) {
      t.is(history.resolve(name).lsn, lsn);
      t.true(lsn >= oldest || versions.includes(lsn), name);
    }
    const points = [...versions, ...store.pinned];
    for (const row of catalog.lifetimeRows()) {
      const isHeld = points.some((point) => row.birth <= point && point < row.death);
      const isInLog = isBornInLog(row.birth) && row.death > store.horizonLsn;
      t.true(
        isHeld || isInLog,
        `pages ${row.page}+${row.count}, [${row.birth}, ${row.death}), are of no use`,
      );
    }
  }

  /** The model of the newest state at or before an LSN: checkpoint records are transactions too. */
  private modelAt(lsn: number): Model {
    let found = new Model();
    let best = -1;
    for (const [at, model] of this.states) {
      if (at <= lsn && at > best) {
        best = at;
        found = model;
      }
    }
    return found;
  }
}

/** What is kept, by a name for each. */
export const POLICIES: Record<string, Partial<Settings>> = {
  'a window': { ...KEEP_NOTHING, keepWindowMs: 30_000 },
  'no window': KEEP_NOTHING,
  'a window and the last few': { ...KEEP_NOTHING, keepWindowMs: 20_000, keepLast: 4, keepHourly: 2 },
};
