import test from 'ava';
import fc from 'fast-check';
import {
  extentKey,
  inodeKey,
  namespaceKey,
  orphanKey,
  TREE,
  type TreeId,
  xattrKey,
} from '../../src/encoding/keys.ts';
import {
  CHECKPOINT_SIZE,
  describeRecord,
  MAP_COUNT_MAXIMUM,
  RECORD,
  RecordReader,
  RecordWriter,
} from '../../src/encoding/record.ts';
import { LsnfsError } from '../../src/errors.ts';
import { seedOf } from '../helpers/random.ts';

type Model =
  | { op: 'put'; tree: TreeId; key: Uint8Array; value: Uint8Array }
  | { op: 'delete'; tree: TreeId; key: Uint8Array }
  | { op: 'write'; inode: number; offset: number; data: Uint8Array }
  | { op: 'map'; inode: number; block: number; page: number; checksums: number[] }
  | { op: 'unmap'; inode: number; block: number; count: number }
  | { op: 'allocate'; inode: number; block: number; count: number }
  | { op: 'nextInode'; value: number }
  | { op: 'snapshot'; name: string; time: number; message: string }
  | { op: 'snapshotDelete'; name: string }
  | { op: 'checkpoint'; lsn: number; time: number; page: number; rootLsn: number; checksum: number }
  | { op: 'restore' | 'restoreFrom'; lsn: number }
  | { op: 'take'; inode: number }
  | { op: 'origin'; uid: number; pid: number };

const number = fc.oneof(fc.maxSafeNat(), fc.nat(1000), fc.constant(Number.MAX_SAFE_INTEGER));
const half = fc.oneof(
  fc.integer({ min: 0, max: 2 ** 31 - 1 }),
  fc.maxSafeNat().map((n) => Math.floor(n / 4)),
);
const u32 = fc.integer({ min: 0, max: 0xffffffff });
const tree = fc.constantFrom(...Object.values(TREE));
const key = fc.uint8Array({ minLength: 1, maxLength: 200 });
const name = fc
  .string({ minLength: 1, maxLength: 60, unit: 'grapheme' })
  .filter((s) => Buffer.byteLength(s) <= 255);
const page = fc.maxSafeNat().map((n) => n % 2 ** 47);

const record: fc.Arbitrary<Model> = fc.oneof(
  fc.record({ op: fc.constant('put' as const), tree, key, value: fc.uint8Array({ maxLength: 3000 }) }),
  fc.record({ op: fc.constant('delete' as const), tree, key }),
  fc.record({
    op: fc.constant('write' as const),
    inode: number,
    offset: half,
    data: fc.uint8Array({ maxLength: 500 }),
  }),
  fc.record({
    op: fc.constant('map' as const),
    inode: number,
    block: half,
    page,
    checksums: fc.array(u32, { minLength: 1, maxLength: MAP_COUNT_MAXIMUM }),
  }),
  fc.record({
    op: fc.constant('unmap' as const),
    inode: number,
    block: half,
    count: fc.oneof(half, fc.constant(Number.POSITIVE_INFINITY)),
  }),
  fc.record({
    op: fc.constant('allocate' as const),
    inode: number,
    block: half,
    count: fc.integer({ min: 1, max: 2 ** 24 }),
  }),
  fc.record({ op: fc.constant('nextInode' as const), value: number }),
  fc.record({
    op: fc.constant('snapshot' as const),
    name,
    time: number,
    message: fc.string({ maxLength: 300 }),
  }),
  fc.record({ op: fc.constant('snapshotDelete' as const), name }),
  fc.record({
    op: fc.constant('checkpoint' as const),
    lsn: number,
    time: number,
    page,
    rootLsn: number,
    checksum: u32,
  }),
  fc.record({ op: fc.constantFrom('restore' as const, 'restoreFrom' as const), lsn: number }),
  fc.record({ op: fc.constant('take' as const), inode: number }),
);
const origin = fc.record({ op: fc.constant('origin' as const), uid: u32, pid: u32 });
/** Who asked is said first, or not at all. */
const transaction = fc
  .tuple(fc.option(origin), fc.array(record, { minLength: 1, maxLength: 20 }))
  .map(([first, rest]): Model[] => (first === null ? rest : [first, ...rest]));

function write(writer: RecordWriter, r: Model): void {
  switch (r.op) {
    case 'put':
      writer.put(r.tree, r.key, r.value);
      break;
    case 'delete':
      writer.delete(r.tree, r.key);
      break;
    case 'write':
      writer.write(r.inode, r.offset, r.data, 0, r.data.length);
      break;
    case 'map':
      writer.map(r.inode, r.block, r.page, r.checksums.length, r.checksums);
      break;
    case 'unmap':
      writer.unmap(r.inode, r.block, r.count);
      break;
    case 'allocate':
      writer.allocate(r.inode, r.block, r.count);
      break;
    case 'nextInode':
      writer.nextInode(r.value);
      break;
    case 'snapshot':
      writer.snapshot(r.name, r.time, r.message);
      break;
    case 'snapshotDelete':
      writer.snapshotDelete(r.name);
      break;
    case 'checkpoint':
      writer.checkpoint(r.lsn, r.time, r.page, r.rootLsn, r.checksum);
      break;
    case 'restore':
      writer.restore(r.lsn);
      break;
    case 'restoreFrom':
      writer.restoreFrom(r.lsn);
      break;
    case 'take':
      writer.take(r.inode);
      break;
    case 'origin':
      writer.origin(r.uid, r.pid);
      break;
  }
}

function read(r: RecordReader): Model {
  switch (r.op) {
    case RECORD.put:
      return { op: 'put', tree: r.tree, key: Uint8Array.from(r.key), value: Uint8Array.from(r.value) };
    case RECORD.delete:
      return { op: 'delete', tree: r.tree, key: Uint8Array.from(r.key) };
    case RECORD.write:
      return { op: 'write', inode: r.inode, offset: r.offset, data: Uint8Array.from(r.value) };
    case RECORD.map: {
      const checksums = Array.from({ length: r.count }, (_, i) => r.checksum(i));
      return { op: 'map', inode: r.inode, block: r.block, page: r.page, checksums };
    }
    case RECORD.unmap:
      return { op: 'unmap', inode: r.inode, block: r.block, count: r.count };
    case RECORD.allocate:
      return { op: 'allocate', inode: r.inode, block: r.block, count: r.count };
    case RECORD.nextInode:
      return { op: 'nextInode', value: r.nextInode };
    case RECORD.snapshot:
      return { op: 'snapshot', name: r.name, time: r.timeMicroseconds, message: r.message };
    case RECORD.snapshotDelete:
      return { op: 'snapshotDelete', name: r.name };
    case RECORD.checkpoint: {
      const { lsn, timeMicroseconds: time, rootPage, rootLsn, rootChecksum: checksum } = r;
      return { op: 'checkpoint', lsn, time, page: rootPage, rootLsn, checksum };
    }
    case RECORD.restore:
      return { op: 'restore', lsn: r.lsn };
    case RECORD.restoreFrom:
      return { op: 'restoreFrom', lsn: r.lsn };
    case RECORD.take:
      return { op: 'take', inode: r.inode };
    case RECORD.origin:
      return { op: 'origin', uid: r.uid, pid: r.pid };
  }
}

test('records come back as they were written', (t) => {
  const writer = new RecordWriter(16);
  const reader = new RecordReader();
  fc.assert(
    fc.property(transaction, (records) => {
      writer.reset();
      for (const r of records) write(writer, r);
      if (writer.count !== records.length) return false;
      reader.open(writer.bytes, writer.length);
      const found: Model[] = [];
      while (reader.next()) {
        found.push(read(reader));
        if (describeRecord(reader).includes('\n')) return false;
      }
      t.deepEqual(found, records);
      return reader.recordEnd === writer.length;
    }),
    { numRuns: 200, seed: seedOf(t, 'records') },
  );
});

test('a payload that is cut off anywhere is an error, at records it ends', (t) => {
  const writer = new RecordWriter();
  const boundaries = new Set([0]);
  writer.put(TREE.inodes, inodeKey(5), Buffer.from('value'));
  boundaries.add(writer.length);
  writer.delete(TREE.namespace, namespaceKey(1, Buffer.from('name')));
  boundaries.add(writer.length);
  writer.write(5, 100, Buffer.from('data'), 1, 2);
  boundaries.add(writer.length);
  writer.map(5, 1, 77, 3, [1, 2, 3]);
  boundaries.add(writer.length);
  writer.snapshot('name', 5, 'message');
  boundaries.add(writer.length);
  writer.checkpoint(1, 2, 3, 4, 5);
  const reader = new RecordReader();
  const all = (length: number): void => {
    reader.open(writer.bytes, length);
    while (reader.next());
  };
  for (let length = 0; length < writer.length; length++) {
    if (boundaries.has(length)) t.notThrows(() => all(length));
    else t.throws(() => all(length), { instanceOf: LsnfsError, code: 'CORRUPT_RECORD' }, `${length}`);
  }
});

test('changed bytes give other records or an error, never anything else', (t) => {
  const seed = seedOf(t, 'records');
  const reader = new RecordReader();
  let errors = 0;
  fc.assert(
    fc.property(
      fc.array(record, { minLength: 1, maxLength: 5 }),
      fc.array(fc.tuple(fc.nat(), fc.nat(255)), { minLength: 1, maxLength: 4 }),
      (records, changes) => {
        const writer = new RecordWriter();
        for (const r of records) write(writer, r);
        for (const [at, value] of changes) writer.bytes[at % writer.length] = value;
        reader.open(writer.bytes, writer.length);
        try {
          while (reader.next()) {
            read(reader);
            describeRecord(reader);
            if (reader.recordEnd > writer.length) return false;
          }
        } catch (error) {
          if (!(error instanceof LsnfsError) || error.code !== 'CORRUPT_RECORD') throw error;
          errors++;
        }
        return true;
      },
    ),
    { numRuns: 2000, seed },
  );
  t.true(errors > 0);
});

test('impossible records are refused', (t) => {
  const check = (change: (writer: RecordWriter) => void): void => {
    const writer = new RecordWriter();
    change(writer);
    const reader = new RecordReader(writer.bytes, writer.length);
    t.throws(() => reader.next(), { code: 'CORRUPT_RECORD' });
  };
  const patch = (writer: RecordWriter, at: number, ...bytes: number[]): void => {
    writer.bytes.set(bytes, at);
  };
  check((w) => {
    w.nextInode(1);
    patch(w, 0, 0);
  });
  check((w) => {
    w.nextInode(1);
    patch(w, 0, 200);
  });
  check((w) => {
    w.nextInode(1);
    patch(w, 7, 0x20); // 2^53
  });
  check((w) => {
    w.put(TREE.inodes, Buffer.from('k'), Buffer.from('v'));
    patch(w, 1, 0);
  });
  check((w) => {
    w.put(TREE.inodes, Buffer.from('k'), Buffer.from('v'));
    patch(w, 2, 0, 0); // no key
  });
  check((w) => {
    w.map(1, 1, 1, 1, [1]);
    patch(w, 23, 0, 0); // no pages
  });
  check((w) => {
    w.map(1, 1, 2 ** 48 - 1, 1, [1]);
    w.map(1, 1, 1, 1, [1]);
    patch(w, 23, 2, 0); // beyond the last page
  });
  check((w) => {
    w.allocate(1, Number.MAX_SAFE_INTEGER, 1);
  });
  check((w) => {
    w.snapshot('name', 1, '');
    patch(w, 13, 0xff); // not UTF-8
  });
});

test('an all-ones count reaches to the end of the file', (t) => {
  const writer = new RecordWriter();
  writer.unmap(3, 4, Number.POSITIVE_INFINITY);
  t.deepEqual([...writer.bytes.subarray(17, 25)], new Array(8).fill(255));
  const reader = new RecordReader(writer.bytes, writer.length);
  t.true(reader.next());
  t.is(reader.count, Number.POSITIVE_INFINITY);
});

test('the writer takes back what follows a mark, and gives a giant buffer back', (t) => {
  const writer = new RecordWriter();
  writer.nextInode(1);
  const { length, count } = writer;
  writer.write(1, 0, new Uint8Array(10_000_000), 0, 10_000_000);
  t.true(writer.bytes.length > 10_000_000);
  writer.truncate(length, count);
  writer.nextInode(2);
  const reader = new RecordReader(writer.bytes, writer.length);
  t.true(reader.next() && reader.next());
  t.is(reader.nextInode, 2);
  t.false(reader.next());
  writer.reset();
  t.true(writer.bytes.length < 1_000_000);
});

test('who asked is said at the beginning of a transaction, or it is damaged', (t) => {
  const writer = new RecordWriter();
  writer.nextInode(2);
  writer.origin(1000, 77);
  const reader = new RecordReader(writer.bytes, writer.length);
  t.true(reader.next());
  t.throws(() => reader.next(), { code: 'CORRUPT_RECORD', message: /who asked/ });
});

test('records as text', (t) => {
  const writer = new RecordWriter();
  writer.origin(1000, 4711);
  writer.put(TREE.namespace, namespaceKey(1, Buffer.from('etc\n')), Buffer.alloc(9));
  writer.put(TREE.inodes, inodeKey(7), Buffer.alloc(100));
  writer.delete(TREE.inodes, extentKey(7, 12));
  writer.put(TREE.inodes, xattrKey(7, Buffer.from('user.x'), 0), Buffer.alloc(3));
  writer.delete(TREE.inodes, orphanKey(7));
  writer.delete(TREE.namespace, namespaceKey(1, Uint8Array.of(0xff, 0xfe)));
  writer.write(7, 4096, Buffer.alloc(10), 0, 10);
  writer.map(7, 1, 900, 2, [1, 2]);
  writer.unmap(7, 1, Number.POSITIVE_INFINITY);
  writer.allocate(7, 1, 1);
  writer.nextInode(8);
  writer.snapshot('before', 1_764_000_000_123_456, 'a "message"');
  writer.snapshotDelete('before');
  writer.checkpoint(640, 1_764_000_000_000_001, 5, 600, 77);
  const reader = new RecordReader(writer.bytes, writer.length);
  const lines: string[] = [];
  while (reader.next()) lines.push(describeRecord(reader));
  t.deepEqual(lines, [
    'ORIGIN uid 1000 process 4711',
    'PUT namespace 1/"etc\\n" = 9 bytes',
    'PUT inodes 7 = 100 bytes',
    'DELETE inodes 7 block 12',
    'PUT inodes 7 xattr "user.x" = 3 bytes',
    'DELETE inodes orphan 7',
    'DELETE namespace 1/0xfffe',
    'WRITE inode 7 offset 4096 length 10',
    'MAP inode 7 blocks 1..2 = pages 900..901',
    'UNMAP inode 7 blocks 1..end',
    'ALLOCATE inode 7 blocks 1',
    'NEXT_INODE 8',
    'SNAPSHOT "before" at 2025-11-24T16:00:00.123456Z message "a \\"message\\""',
    'SNAPSHOT_DELETE "before"',
    'CHECKPOINT lsn 640 at 2025-11-24T16:00:00.000001Z root page 5 lsn 600 checksum 77',
  ]);
  t.is(CHECKPOINT_SIZE, 35);
});
