import test from 'ava';
import { putU32, putU64 } from '../../src/encoding/bytes.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import {
  CONTROL_CHECKSUM,
  CONTROL_FIELDS_END,
  CONTROL_FLAGS,
  CONTROL_PAGE_SIZE,
  CONTROL_SEGMENT_SIZE,
  CONTROL_SEQUENCE,
  CONTROL_SLOT_SIZE,
  CONTROL_VERSION,
  type ControlBlock,
  chooseControl,
  controlSlot,
  decodeControl,
  encodeControl,
  FORMAT_VERSION,
  isSegmentSize,
} from '../../src/encoding/control.ts';
import { LsnfsError } from '../../src/errors.ts';

const control = (sequence: number): ControlBlock => ({
  sequence,
  storeId: Uint8Array.from({ length: 16 }, (_, i) => 255 - i),
  pageSize: 8192,
  segmentSize: 16 * 1024 * 1024,
  createdAtMicroseconds: 1_764_000_000_123_456,
  cleanShutdown: sequence % 3 === 0,
  checkpoint: {
    lsn: Number.MAX_SAFE_INTEGER,
    position: 2 ** 40 + 8,
    timeMicroseconds: 1_764_000_001_000_000,
    rootPage: 2 ** 47 - 1,
    rootLsn: 2 ** 50,
    rootChecksum: 0xfedcba98,
  },
});

/** Seals a changed slot again, as a later program or a clumsy repair would. */
function reseal(bytes: Buffer): Buffer {
  putU32(bytes, CONTROL_CHECKSUM, crc32(bytes, 0, CONTROL_CHECKSUM));
  return bytes;
}

test('a control block comes back as it was', (t) => {
  for (const sequence of [0, 1, 2, 3, 2 ** 40]) {
    const bytes = encodeControl(control(sequence));
    t.is(bytes.length, CONTROL_SLOT_SIZE);
    t.deepEqual(decodeControl(bytes), control(sequence));
    t.true(bytes.subarray(CONTROL_FIELDS_END, CONTROL_CHECKSUM).every((byte) => byte === 0));
  }
});

test('no changed or missing byte goes unseen', (t) => {
  const bytes = encodeControl(control(4));
  for (let at = 0; at < CONTROL_SLOT_SIZE; at++) {
    const damaged = Buffer.from(bytes);
    damaged[at]! ^= 1 << (at % 8);
    const error = t.throws(() => decodeControl(damaged), { instanceOf: LsnfsError, code: 'CORRUPT_CONTROL' });
    t.is((error as LsnfsError).details.reason, at < 8 ? 'not a control block' : 'damaged');
    if (at % 64 === 0) t.throws(() => decodeControl(bytes.subarray(0, at)), { code: 'CORRUPT_CONTROL' });
  }
  t.throws(() => decodeControl(Buffer.alloc(CONTROL_SLOT_SIZE)), { code: 'CORRUPT_CONTROL' });
});

test('a newer format is told from damage', (t) => {
  const bytes = encodeControl(control(4));
  putU32(bytes, CONTROL_VERSION, FORMAT_VERSION + 6);
  t.throws(() => decodeControl(bytes), { code: 'CORRUPT_CONTROL' });
  const error = t.throws(() => decodeControl(reseal(bytes)), { code: 'NEWER_FORMAT' }) as LsnfsError;
  t.like(error.details, { version: FORMAT_VERSION + 6, supported: FORMAT_VERSION });
  t.regex(error.message, /9.*3/);
  const file = Buffer.concat([bytes, encodeControl(control(5))]);
  t.throws(() => chooseControl(file), { code: 'NEWER_FORMAT' });
});

test('a format that was never released is refused by name', (t) => {
  const bytes = encodeControl(control(4));
  putU32(bytes, CONTROL_VERSION, 1);
  t.throws(() => decodeControl(reseal(bytes)), { code: 'CORRUPT_CONTROL', message: /too old.*format 1/ });
});

test('impossible fields are refused though the checksum is right', (t) => {
  const changes: ((bytes: Buffer) => void)[] = [
    (bytes) => putU32(bytes, CONTROL_VERSION, 0),
    (bytes) => putU32(bytes, CONTROL_FLAGS, 2),
    (bytes) => putU32(bytes, CONTROL_PAGE_SIZE, 0),
    (bytes) => putU32(bytes, CONTROL_PAGE_SIZE, 5000),
    (bytes) => putU32(bytes, CONTROL_SEGMENT_SIZE, 0),
    (bytes) => putU32(bytes, CONTROL_SEGMENT_SIZE, 0xffffffff),
    (bytes) => putU64(bytes, CONTROL_SEQUENCE, 2 ** 60),
  ];
  for (const change of changes) {
    const bytes = encodeControl(control(4));
    change(bytes);
    const error = t.throws(() => decodeControl(reseal(bytes)), { code: 'CORRUPT_CONTROL' }) as LsnfsError;
    t.is(error.details.reason, 'impossible');
  }
});

test('the newer valid slot is chosen', (t) => {
  const slot = (sequence: number): Buffer => encodeControl(control(sequence));
  const file = (first: Buffer, second: Buffer): Buffer => Buffer.concat([first, second]);
  const empty = Buffer.alloc(CONTROL_SLOT_SIZE);
  t.is(chooseControl(file(slot(4), slot(5))).control.sequence, 5);
  t.is(chooseControl(file(slot(6), slot(5))).control.sequence, 6);
  t.is(chooseControl(file(slot(6), slot(5))).otherSlotError, undefined);
  const one = chooseControl(file(slot(0), empty));
  t.is(one.control.sequence, 0);
  t.is(one.slot, 0);
  t.is(one.otherSlotError?.code, 'CORRUPT_CONTROL');
  t.is(chooseControl(slot(0)).control.sequence, 0);
  // A torn write of the newer one leaves the older.
  const torn = slot(6);
  torn.fill(0xaa, 2048);
  t.is(chooseControl(file(torn, slot(5))).control.sequence, 5);
  // A write that went to the wrong slot is none.
  t.is(chooseControl(file(slot(4), slot(6))).control.sequence, 4);
  for (const bad of [file(empty, empty), file(torn, empty), Buffer.alloc(0), Buffer.alloc(100)]) {
    t.throws(() => chooseControl(bad), { code: 'CORRUPT_CONTROL' });
  }
  t.is(controlSlot(7), 1);
  t.is(controlSlot(8), 0);
});

test('segment sizes are powers of two from 64 KiB to 1 GiB', (t) => {
  for (const size of [2 ** 16, 2 ** 24, 2 ** 30]) t.true(isSegmentSize(size));
  for (const size of [0, 1, 2 ** 15, 2 ** 31, 2 ** 32, 3 * 2 ** 20, 2 ** 20 + 8, Number.NaN, -(2 ** 20)]) {
    t.false(isSegmentSize(size));
  }
});
