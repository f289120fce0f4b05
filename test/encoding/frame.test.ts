import test from 'ava';
import {
  checkSegmentHeader,
  encodeFrameHeader,
  encodeSegmentHeader,
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_MAXIMUM,
  FrameReader,
  frameSeed,
  frameSize,
  SEGMENT_HEADER_SIZE,
} from '../../src/encoding/frame.ts';

const STORE_ID = Uint8Array.from({ length: 16 }, (_, i) => i);
const LSN = 2 ** 45 + 64;

function frame(payload: Uint8Array, changes: Partial<{ more: boolean; durableLsn: number }> = {}): Buffer {
  const bytes = Buffer.alloc(frameSize(payload.length));
  const header = {
    payloadLength: payload.length,
    lsn: LSN,
    transactionStart: LSN - 128,
    previousChecksum: 0xdeadbeef,
    more: false,
    timeMicroseconds: 1_764_000_000_123_456,
    durableLsn: 2 ** 44,
    ...changes,
  };
  encodeFrameHeader(bytes, header, frameSeed(STORE_ID), payload, 0);
  bytes.set(payload, FRAME_HEADER_SIZE);
  return bytes;
}

test('a frame comes back as it was', (t) => {
  const reader = new FrameReader(STORE_ID);
  for (const length of [1, 7, 8, 9, 400, 5000, FRAME_PAYLOAD_MAXIMUM]) {
    for (const more of [false, true]) {
      const bytes = frame(Buffer.alloc(length, 0x5a), { more });
      t.is(bytes.length % 8, 0);
      t.is(reader.peek(bytes, 0, LSN, bytes.length), bytes.length);
      t.is(reader.parse(bytes, 0, LSN, bytes.length), undefined);
      t.is(reader.payloadLength, length);
      t.is(reader.size, bytes.length);
      t.is(reader.more, more);
      t.is(reader.transactionStart, LSN - 128);
      t.is(reader.previousChecksum, 0xdeadbeef);
      t.is(reader.timeMicroseconds, 1_764_000_000_123_456);
      t.is(reader.durableLsn, 2 ** 44);
    }
  }
});

test('no changed bit goes unseen, nor a frame in the wrong place', (t) => {
  const reader = new FrameReader(STORE_ID);
  const bytes = frame(Buffer.from('thirteen byte'));
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = Buffer.from(bytes);
    damaged[bit >> 3]! ^= 1 << (bit & 7);
    t.is(typeof reader.parse(damaged, 0, LSN, 10_000), 'string', `bit ${bit}`);
  }
  t.is(typeof reader.parse(bytes, 0, LSN + 8, 10_000), 'string');
  t.is(typeof reader.parse(bytes, 0, LSN, bytes.length - 8), 'string');
  t.is(typeof new FrameReader(new Uint8Array(16)).parse(bytes, 0, LSN, 10_000), 'string');
  t.is(reader.parse(Buffer.alloc(100), 0, LSN, 100), 'nothing was written here');
});

test('a segment header comes back, and no changed bit goes unseen', (t) => {
  const bytes = new Uint8Array(SEGMENT_HEADER_SIZE + 10);
  const expected = { storeId: STORE_ID, segmentSize: 2 ** 24, firstLsn: 2 ** 45 };
  encodeSegmentHeader(bytes, 5, { ...expected, previousChecksum: 0x87654321 });
  t.is(checkSegmentHeader(bytes, 5, expected), 0x87654321);
  for (let bit = 0; bit < SEGMENT_HEADER_SIZE * 8; bit++) {
    const damaged = Uint8Array.from(bytes);
    damaged[5 + (bit >> 3)]! ^= 1 << (bit & 7);
    t.is(typeof checkSegmentHeader(damaged, 5, expected), 'string', `bit ${bit}`);
  }
  t.is(typeof checkSegmentHeader(bytes, 5, { ...expected, firstLsn: 0 }), 'string');
  t.is(typeof checkSegmentHeader(bytes, 5, { ...expected, segmentSize: 2 ** 20 }), 'string');
  t.is(typeof checkSegmentHeader(bytes, 5, { ...expected, storeId: new Uint8Array(16) }), 'string');
  t.is(checkSegmentHeader(new Uint8Array(64), 0, expected), 'the segment is not in use yet');
});
