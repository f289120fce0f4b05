/** Parsers of single pieces of a store: control blocks, frames, roots, rows, records, settings, and names of states. */
import { getU32 } from '../../src/encoding/bytes.ts';
import {
  decodeFreeRun,
  decodeLifetime,
  decodeSnapshotRow,
  decodeVersionRow,
  encodeFreeRun,
  encodeLifetime,
  encodeSnapshotRow,
  encodeVersionRow,
  freeKey,
  lifetimeKey,
  versionKey,
} from '../../src/encoding/catalog.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import { CONTROL_CHECKSUM, chooseControl, encodeControl } from '../../src/encoding/control.ts';
import { direntInode, direntType, encodeDirent } from '../../src/encoding/dirent.ts';
import { decodeExtent, encodeExtent } from '../../src/encoding/extent.ts';
import {
  checkSegmentHeader,
  encodeFrameHeader,
  encodeSegmentHeader,
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_LENGTH,
  FrameReader,
  frameSeed,
  SEGMENT_CHECKSUM,
} from '../../src/encoding/frame.ts';
import { decodeInode, encodeInode, FLAG_INLINE, InodeRecord } from '../../src/encoding/inode.ts';
import { xattrKey } from '../../src/encoding/keys.ts';
import { sealPage } from '../../src/encoding/page.ts';
import { describeRecord, RecordReader, RecordWriter } from '../../src/encoding/record.ts';
import {
  decodeCatalogRoot,
  decodeVersionRoot,
  encodeCatalogRoot,
  encodeVersionRoot,
} from '../../src/encoding/root.ts';
import { xattrKeyNameEnd } from '../../src/encoding/xattr.ts';
import { formatTime, parseTarget, parseTypedTarget } from '../../src/history/targets.ts';
import { DEFAULT_SETTINGS, parseSettings } from '../../src/store/settings.ts';
import { type FuzzParser, find, StepLimit } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

/** A parser without a state of its own. */
function stateless(name: string, share: number, step: (mutator: Mutator) => void): FuzzParser {
  return { name, batch: 1, share, start: () => ({ step }) };
}

const STORE_ID = Buffer.from('0123456789abcdef');

function exactAndNotNegative(value: object, where: string): void {
  for (const [name, field] of Object.entries(value)) {
    if (typeof field === 'number' && !(Number.isSafeInteger(field) && field >= 0))
      find(`${where}: ${name} is ${field}`);
    if (typeof field === 'object' && field !== null && !(field instanceof Uint8Array)) {
      exactAndNotNegative(field, `${where}.${name}`);
    }
  }
}

const control = stateless('control', 6, (mutator) => {
  const slot = (sequence: number): Buffer =>
    encodeControl({
      sequence,
      storeId: STORE_ID,
      pageSize: 4096,
      segmentSize: 1 << 20,
      createdAtMicroseconds: 1e15,
      cleanShutdown: mutator.chance(2),
      checkpoint: {
        lsn: 64,
        position: 64,
        timeMicroseconds: 1e15,
        rootPage: 2,
        rootLsn: 64,
        rootChecksum: 7,
      },
    });
  const file = Buffer.concat([slot(4), slot(5)]);
  for (const from of [0, 4096]) {
    if (mutator.chance(3)) continue;
    mutator.scribble(file, from, from + 104);
    if (!mutator.chance(3))
      file.writeUInt32LE(crc32(file, from, from + CONTROL_CHECKSUM), from + CONTROL_CHECKSUM);
  }
  const { control: chosen } = chooseControl(mutator.chance(5) ? mutator.mutate(file) : file);
  exactAndNotNegative(chosen, 'control');
});

const roots = stateless('roots', 4, (mutator) => {
  const bytes = Buffer.alloc(4096);
  const tree = { number: 3, lsn: 64, checksum: 5, pageCount: 1 };
  const isCatalog = mutator.chance(2);
  if (isCatalog) {
    encodeCatalogRoot(bytes, {
      lsn: 64,
      timeMicroseconds: 1e15,
      version: tree,
      versions: tree,
      lifetimes: tree,
      free: tree,
      lives: tree,
      frontier: 100,
      horizonLsn: 64,
      horizonTimeMicroseconds: 1e15,
      reclaimedLsn: 64,
      spare: [
        { page: 8, count: 1 },
        { page: 12, count: 2 },
      ],
    });
  } else {
    const names = { namespace: tree, inodes: tree, registry: tree };
    const counts = { nextInode: 9, inodeCount: 3, dataPages: 4 };
    encodeVersionRoot(bytes, { lsn: 64, timeMicroseconds: 1e15, ...names, ...counts });
  }
  sealPage(bytes, 3, 64);
  mutator.scribble(bytes, 4, 200);
  const root = isCatalog ? decodeCatalogRoot(bytes, 3) : decodeVersionRoot(bytes, 3);
  exactAndNotNegative(root, 'root');
  formatTime(root.timeMicroseconds);
  if ('horizonTimeMicroseconds' in root) formatTime(root.horizonTimeMicroseconds);
});

const rows = stateless('rows', 8, (mutator) => {
  const root = { number: 5, lsn: 64, checksum: 9 };
  const snapshot = encodeSnapshotRow({
    name: 'n',
    lsn: 64,
    createdMicroseconds: 1e15,
    message: 'text',
    holds: ['tag'],
  });
  switch (mutator.below(4)) {
    case 0: {
      const value = encodeVersionRow({
        lsn: 64,
        timeMicroseconds: 1e15,
        root,
        dropped: false,
        restored: true,
      });
      const row = decodeVersionRow(mutator.mutate(versionKey(64)), mutator.mutate(value));
      exactAndNotNegative(row, 'version');
      formatTime(row.timeMicroseconds);
      break;
    }
    case 1:
      exactAndNotNegative(
        decodeLifetime(mutator.mutate(lifetimeKey(64, 32, 5)), mutator.mutate(encodeLifetime(1))),
        'lifetime',
      );
      break;
    case 2:
      exactAndNotNegative(
        decodeFreeRun(mutator.mutate(freeKey(7)), mutator.mutate(encodeFreeRun(2, 64))),
        'free run',
      );
      break;
    default: {
      const row = decodeSnapshotRow(mutator.mutate(Buffer.from('name')), mutator.mutate(snapshot));
      exactAndNotNegative(row, 'snapshot');
      formatTime(row.createdMicroseconds);
    }
  }
});

function validInode(mutator: Mutator): Buffer {
  const record = new InodeRecord();
  record.mode = mutator.pick([0o100644, 0o40755, 0o120777, 0o20644, 0o10600, 0o140600]);
  record.links = 1;
  record.size = 10;
  if (record.isRegular || record.isSymlink) {
    record.flags = FLAG_INLINE;
    record.content = Buffer.from('0123456789');
  }
  const bytes = Buffer.alloc(100);
  return bytes.subarray(0, encodeInode(record, bytes));
}

const inodes = stateless('inodes', 10, (mutator) => {
  // The value lies within a page, behind and before other bytes.
  const value = mutator.mutate(validInode(mutator));
  const page = Buffer.concat([Buffer.alloc(50, 0xaa), value, Buffer.alloc(50, 0xbb)]);
  const record = new InodeRecord();
  decodeInode(record, 7, page, 50, value.length);
  if (record.content !== null && record.content.length !== record.size) find('content of another length');
  if (record.isSymlink && record.size > 4095) find(`a symbolic link of ${record.size} bytes`);
  if (record.isDirectory && !(record.parent >= 0)) find('no parent');
});

const entries = stateless('entries', 10, (mutator) => {
  const page = Buffer.alloc(60, 0x11);
  const target = Buffer.alloc(8);
  const value = mutator.mutate(
    target.subarray(0, encodeDirent(target, Number(mutator.edge() % (1n << 40n)) + 1, 0o40755)),
  );
  value.copy(page, 20);
  const inode = direntInode(page, 20, Math.min(value.length, 40));
  direntType(page, 20);
  if (!Number.isSafeInteger(inode) || inode < 1) find(`inode ${inode}`);
  const key = mutator.mutate(xattrKey(5, Buffer.from('user.name'), 0));
  const end = xattrKeyNameEnd(key);
  if (end < 9 || end > key.length) find(`an xattr's name ends at ${end}`);
});

const extents = stateless('extents', 10, (mutator) => {
  const count = 1 + mutator.below(4);
  const checksums = Uint32Array.from({ length: count }, (_, i) => i);
  const value = encodeExtent({ block: 0, count, page: mutator.below(3), birth: 64, checksums });
  const bytes = mutator.mutate(value);
  const extent = decodeExtent(0, bytes, 0, bytes.length);
  if (extent.checksums.length > 65_535 || extent.count < 1) find('an impossible extent');
  if (!Number.isSafeInteger(extent.birth)) find(`birth ${extent.birth}`);
});

function validRecords(mutator: Mutator): RecordWriter {
  const writer = new RecordWriter(4096);
  if (mutator.chance(3)) writer.origin(1000, mutator.below(2 ** 32));
  for (let n = 1 + mutator.below(3); n > 0; n--) {
    switch (mutator.below(13)) {
      case 0:
        writer.put(mutator.pick([1, 2, 3, 4] as const), Buffer.from('12345678key'), Buffer.from('value'));
        break;
      case 1:
        writer.delete(2, Buffer.from('12345678key'));
        break;
      case 2:
        writer.write(5, 100, Buffer.from('data'), 0, 4);
        break;
      case 3:
        writer.map(5, 1, 9, 2, [1, 2]);
        break;
      case 4:
        writer.unmap(5, 1, mutator.chance(2) ? Number.POSITIVE_INFINITY : 3);
        break;
      case 5:
        writer.allocate(5, 0, 4);
        break;
      case 6:
        writer.nextInode(77);
        break;
      case 7:
        writer.snapshot('name', 1e15, 'message');
        break;
      case 8:
        writer.snapshotDelete('name');
        break;
      case 9:
        writer.restore(64);
        break;
      case 10:
        writer.restoreFrom(64);
        break;
      case 11:
        writer.take(5);
        break;
      default:
        writer.checkpoint(64, 1e15, 2, 64, 9);
    }
  }
  return writer;
}

const records = stateless('records', 14, (mutator) => {
  const writer = validRecords(mutator);
  const bytes = mutator.mutate(Buffer.from(writer.bytes.subarray(0, writer.length)));
  const limit = new StepLimit(bytes.length + 1);
  const reader = new RecordReader(bytes);
  while (reader.next()) {
    limit.count('records');
    describeRecord(reader);
    if (reader.recordEnd <= reader.recordStart || reader.recordEnd > bytes.length)
      find('a record that ends nowhere');
    if (reader.key.length > 267) find('a long key');
    if (reader.op === 4) for (let i = 0; i < reader.count; i++) reader.checksum(i);
  }
});

const frames = stateless('frames', 10, (mutator) => {
  const payload = Buffer.from('a payload of a frame');
  const lsn = 64 * (1 + mutator.below(5));
  const b = Buffer.alloc(200);
  const header = {
    payloadLength: payload.length,
    lsn,
    transactionStart: lsn,
    previousChecksum: 5,
    more: false,
    timeMicroseconds: 1e15,
    durableLsn: 64,
  };
  encodeFrameHeader(b.subarray(0, FRAME_HEADER_SIZE), header, frameSeed(STORE_ID), payload, 0);
  payload.copy(b, FRAME_HEADER_SIZE);
  mutator.scribble(b, 0, 80);
  if (!mutator.chance(3)) {
    const length = getU32(b, FRAME_PAYLOAD_LENGTH);
    if (FRAME_HEADER_SIZE + length <= b.length) {
      b.writeUInt32LE(crc32(b, 4, FRAME_HEADER_SIZE + length, frameSeed(STORE_ID)), 0);
    }
  }
  const reader = new FrameReader(STORE_ID);
  if (reader.parse(b, 0, lsn, b.length) === undefined) {
    if (reader.size > b.length) find('a frame beyond its room');
    exactAndNotNegative({ ...reader }, 'frame');
  }
  const segment = Buffer.alloc(64);
  encodeSegmentHeader(segment, 0, {
    storeId: STORE_ID,
    segmentSize: 1 << 20,
    firstLsn: 0,
    previousChecksum: 3,
  });
  mutator.scribble(segment);
  if (!mutator.chance(3)) segment.writeUInt32LE(crc32(segment, 0, SEGMENT_CHECKSUM), SEGMENT_CHECKSUM);
  checkSegmentHeader(segment, 0, { storeId: STORE_ID, segmentSize: 1 << 20, firstLsn: 0 });
});

const SETTINGS_NAMES = [
  'commitIntervalMs',
  'cacheSizeBytes',
  'atime',
  'plugins',
  'toString',
  '__proto__',
  'constructor',
  'x',
];
const SETTINGS_VALUES = [
  '1',
  '-1',
  '1e99',
  '5000',
  '"relatime"',
  '"x"',
  '[]',
  '["a"]',
  '[1]',
  '{}',
  'null',
  'true',
  '2000000',
];

const settings = stateless('settings', 4, (mutator) => {
  const pairs = Array.from(
    { length: mutator.below(4) },
    () => `"${mutator.pick(SETTINGS_NAMES)}": ${mutator.pick(SETTINGS_VALUES)}`,
  );
  const text = `{${pairs.join(', ')}}`;
  const given = mutator.chance(2) ? text : mutator.mutate(Buffer.from(text)).toString('utf8');
  const parsed = parseSettings(given, 'lsnfs.json');
  for (const name of ['commitIntervalMs', 'checkpointIntervalMs', 'cacheSizeBytes'] as const) {
    if (!(Number.isSafeInteger(parsed[name]) && parsed[name] > 0))
      find(`${name} is ${parsed[name]}: ${given}`);
  }
  if (!['relatime', 'noatime'].includes(parsed.atime)) find(`atime is ${parsed.atime}`);
  if (!parsed.plugins.every((plugin) => typeof plugin === 'string')) find('a plugin that is no text');
  if (Object.keys(parsed).length !== Object.keys(DEFAULT_SETTINGS).length)
    find(`settings that there are not: ${given}`);
});

const TARGETS = [
  'lsn-1234',
  '0/4D2',
  'latest',
  '2026-11-22T101500Z',
  '2026-11-22T10:15:00.25+02:00',
  'name',
  '@lsn-5',
  '10 minutes ago',
  '1 day, 2h ago',
  '-P1Y2M3DT4H5.5S',
];

const targets = stateless('targets', 4, (mutator) => {
  const text = mutator.mutate(Buffer.from(mutator.pick(TARGETS))).toString('utf8');
  const target = mutator.chance(2) ? parseTarget(text) : parseTypedTarget(text, () => false, 1e15);
  if (target.kind === 'lsn' && !(Number.isSafeInteger(target.lsn) && target.lsn >= 0))
    find(`LSN ${target.lsn}`);
  if (target.kind === 'time') {
    if (!Number.isFinite(target.timeMicroseconds)) find(`time ${target.timeMicroseconds}`);
    formatTime(target.timeMicroseconds);
  }
});

export const ENCODING_PARSERS: readonly FuzzParser[] = [
  control,
  roots,
  rows,
  inodes,
  entries,
  extents,
  records,
  frames,
  settings,
  targets,
];
