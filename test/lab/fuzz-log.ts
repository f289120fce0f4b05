/**
 * The log: segments whose bytes may be anything but whose frames' checksums are right, read by the log's reader; and
 * records, as bytes or well-formed, applied to a state.
 */

import { getU32 } from '../../src/encoding/bytes.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import {
  FRAME_CHECKSUM,
  FRAME_HEADER_SIZE,
  FRAME_LSN,
  FRAME_PAYLOAD_LENGTH,
  frameSeed,
  SEGMENT_CHECKSUM,
} from '../../src/encoding/frame.ts';
import { extentKey, inodeKey, namespaceKey } from '../../src/encoding/keys.ts';
import { RecordReader, RecordWriter } from '../../src/encoding/record.ts';
import { LsnfsError } from '../../src/errors.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { PageCache } from '../../src/storage/page-cache.ts';
import { applyTransaction } from '../../src/store/apply.ts';
import type { PastStates } from '../../src/store/restore.ts';
import { TreeState } from '../../src/store/tree-state.ts';
import { InProcessLog } from '../../src/wal/in-process-log.ts';
import { LogReader } from '../../src/wal/reader.ts';
import { FIRST_LSN, segmentName } from '../../src/wal/segment.ts';
import { makeLog, readerOptions, recover, SEGMENT_SIZE, STORE_ID } from '../wal/log-fixture.ts';
import { type FuzzParser, type FuzzSession, find, StepLimit, tolerate } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

interface Place {
  readonly segment: number;
  readonly at: number;
  readonly size: number;
}

const LOGS: FuzzParser = {
  name: 'logs',
  batch: 25,
  share: 1,
  async start(mutator): Promise<FuzzSession> {
    const pristine = new MemoryDirectory();
    makeLog(pristine);
    const log = new InProcessLog(recover(pristine));
    const places: Place[] = [];
    for (let i = 0; i < 12; i++) {
      const length = mutator.chance(4) ? 100_000 + mutator.below(400_000) : 1 + mutator.below(2000);
      const from = log.lsn;
      log.append(mutator.random.bytes(Math.min(length, 3000)).fill(i, 100), Math.min(length, 3000), 1000 + i);
      if (mutator.chance(3)) await log.sync(log.lsn);
      places.push({
        segment: Math.floor(from / SEGMENT_SIZE),
        at: from % SEGMENT_SIZE,
        size: log.lsn - from,
      });
    }
    await log.close();
    return {
      step(m) {
        const directory = pristine.clone();
        const limit = new StepLimit(20_000);
        directory.fault = (operation) => limit.count(operation);
        for (let n = 1 + m.below(3); n > 0; n--) damageFrame(directory, m, m.pick(places));
        const from = m.chance(3) ? FIRST_LSN : m.chance(2) ? m.number() : m.pick(places).at;
        const reader = new LogReader(directory, {
          ...readerOptions(from),
          ...(m.chance(3) && { knownDurableLsn: m.number() }),
          ...(m.chance(3) && { limit: m.number() }),
          ...(m.chance(4) && { skipPartial: true }),
        });
        try {
          let before = from;
          for (const transaction of reader) {
            limit.count('transactions');
            if (transaction.endLsn <= before)
              find(`a transaction ends at ${transaction.endLsn}, after ${before}`);
            if (transaction.payload.length === 0) find('an empty transaction');
            before = transaction.endLsn;
          }
        } finally {
          reader.close();
        }
      },
    };
  },
};

/** Changes a frame, or the header of its segment, and makes its checksum right again. */
function damageFrame(directory: MemoryDirectory, m: Mutator, place: Place): void {
  const device = directory.open(segmentName(place.segment, SEGMENT_SIZE));
  const inHeader = m.chance(6);
  const at = inHeader ? 0 : place.at;
  const bytes = Buffer.alloc(inHeader ? 64 : place.size);
  device.read(at, bytes, 0, bytes.length);
  m.scribble(bytes, 0, m.chance(3) ? bytes.length : 64);
  if (inHeader) bytes.writeUInt32LE(crc32(bytes, 0, SEGMENT_CHECKSUM), SEGMENT_CHECKSUM);
  else if (!m.chance(4)) {
    if (m.chance(2)) bytes.writeBigUInt64LE(BigInt(place.segment * SEGMENT_SIZE + place.at), FRAME_LSN);
    const end = FRAME_HEADER_SIZE + getU32(bytes, FRAME_PAYLOAD_LENGTH);
    if (end <= bytes.length) bytes.writeUInt32LE(crc32(bytes, 4, end, frameSeed(STORE_ID)), FRAME_CHECKSUM);
  }
  device.write(m.chance(10) ? m.below(SEGMENT_SIZE - bytes.length) : at, bytes, 0, bytes.length);
}

/** A record that is well-formed, and need not make sense. */
function addRecord(writer: RecordWriter, m: Mutator): void {
  const inode = m.chance(8) ? Math.min(Number.MAX_SAFE_INTEGER, m.number()) : 1 + m.below(4);
  const block = m.chance(6) ? Math.min(2 ** 52, m.number()) : m.below(40);
  const key = (): Buffer => {
    switch (m.below(5)) {
      case 0:
        return inodeKey(inode);
      case 1:
        return namespaceKey(1, Buffer.from('name'));
      case 2:
        return extentKey(inode, block);
      default:
        return m.random.bytes(1 + m.below(267));
    }
  };
  switch (m.below(13)) {
    case 0:
      writer.put(m.pick([1, 2, 2, 3, 5] as const), key(), m.random.bytes(m.below(m.chance(4) ? 3000 : 100)));
      break;
    case 1:
      writer.delete(m.pick([1, 2, 2, 3] as const), key());
      break;
    case 2: {
      const data = m.random.bytes(1 + m.below(20_000));
      writer.write(
        inode,
        m.chance(5) ? Math.min(2 ** 52, m.number()) : m.below(150_000),
        data,
        0,
        data.length,
      );
      break;
    }
    case 3: {
      const count = m.chance(4) ? 1 + m.below(1024) : 1 + m.below(10);
      const page = m.chance(4) ? Math.min(2 ** 48 - 2000, m.number()) : 100 + m.below(1000);
      writer.map(inode, block, page, count, new Uint32Array(count));
      break;
    }
    case 4:
      writer.unmap(inode, block, m.chance(2) ? Number.POSITIVE_INFINITY : Math.min(2 ** 52, m.number()));
      break;
    case 5:
      writer.allocate(inode, block, m.chance(40) ? Math.min(2 ** 52, m.number()) : 1 + m.below(100));
      break;
    case 6:
      writer.nextInode(Math.min(Number.MAX_SAFE_INTEGER, m.number()));
      break;
    case 7:
      writer.snapshot('n'.repeat(1 + m.below(255)), 1e15, 'm'.repeat(m.below(m.chance(3) ? 4096 : 20)));
      break;
    case 8:
      writer.restore(m.chance(3) ? m.below(2000) : 64);
      break;
    case 9:
      writer.restoreFrom(m.chance(3) ? m.below(2000) : 64);
      break;
    case 10:
      writer.take(inode);
      break;
    case 11:
      writer.origin(m.below(2 ** 32), m.below(2 ** 32));
      break;
    default:
      writer.snapshotDelete('n'.repeat(1 + m.below(255)));
  }
}

const TRANSACTIONS: FuzzParser = {
  name: 'transactions',
  batch: 50,
  share: 4,
  start(): FuzzSession {
    const directory = new MemoryDirectory();
    const limit = new StepLimit(50_000);
    directory.fault = (operation) => limit.count(operation);
    const device = directory.open('data', { create: true });
    device.truncate(5000 * 4096);
    const state = new TreeState(new PageCache(device, 4096, 1 << 20), TreeState.empty(64, 0), true);
    let lsn = 64;
    // Every state of the past is the empty one.
    const past: PastStates = {
      versionRoot: () => TreeState.empty(64, 0),
      replayFiles() {},
      open: () => new TreeState(state.pages.cache, TreeState.empty(64, 0), false),
    };
    return {
      step(m) {
        limit.reset();
        const writer = new RecordWriter(4096);
        for (let n = 1 + m.below(6); n > 0; n--) addRecord(writer, m);
        let payload: Buffer = Buffer.from(writer.bytes.subarray(0, writer.length));
        if (m.chance(4)) payload = m.mutate(payload);
        const start = lsn;
        lsn += 8 + payload.length;
        if (m.chance(10)) state.pages.seal();
        tolerate(() => applyTransaction(state, payload, start, lsn, 1e15, { past }));
        const target = Buffer.alloc(20_000);
        const read = (inode: number, offset: number): void => {
          try {
            state.readData(inode, offset, target, 0, target.length);
          } catch (error) {
            // The mapped pages are zeros, and the checksums that were made up are not theirs.
            if (!(error instanceof LsnfsError) || error.code !== 'CORRUPT_PAGE') throw error;
          }
        };
        read(1 + m.below(4), m.below(100_000));
        state.seekData(1 + m.below(4), m.below(100_000));
        state.seekHole(1 + m.below(4), m.below(100_000));
        const reader = new RecordReader(payload);
        tolerate(() => {
          while (reader.next());
        });
      },
    };
  },
};

export const LOG_PARSERS: readonly FuzzParser[] = [LOGS, TRANSACTIONS];
