/** Messages of the control socket: lines in any pieces, operations with any arguments, errors from the other side. */

import { LsnfsError } from '../../src/errors.ts';
import {
  errorFromWire,
  errorToWire,
  type JsonObject,
  LineSplitter,
} from '../../src/plugin/control-protocol.ts';
import { Database } from '../../src/plugin/database.ts';
import { executeOperation } from '../../src/plugin/operations.ts';
import { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { Store } from '../../src/store/store.ts';
import { type FuzzParser, type FuzzSession, find, tolerate } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

const LIMIT = 4096;

const LINES: FuzzParser = {
  name: 'lines',
  batch: 1,
  share: 8,
  start: () => ({
    step(m) {
      // However the bytes are cut, the same lines come out, and none is longer than the limit.
      const text = m.mutate(
        Buffer.from(`{"id":1,"operation":"list"}\n${'x'.repeat(m.below(LIMIT + 100))}\n\n`),
      );
      const expected = text.toString('latin1').split('\n').slice(0, -1);
      const splitter = new LineSplitter(LIMIT);
      const lines: string[] = [];
      let fits = true;
      for (let at = 0; at < text.length && fits; ) {
        const end = Math.min(text.length, at + 1 + m.below(m.chance(2) ? 10 : 3000));
        fits = splitter.push(text.subarray(at, end), (line) => lines.push(line));
        at = end;
      }
      for (const [index, line] of lines.entries()) {
        const whole = Buffer.from(expected[index]!, 'latin1');
        if (line !== whole.toString('utf8')) find(`line ${index} is another`);
        if (whole.length > LIMIT) find(`a line of ${whole.length} bytes`);
      }
      if (fits && lines.length !== expected.length)
        find(`${lines.length} lines instead of ${expected.length}`);
      if (fits && expected.some((line) => line.length > LIMIT))
        find('a line that exceeds the limit was let pass');
    },
  }),
};

const OPERATIONS = [
  'commit',
  'status',
  'snapshotCreate',
  'snapshotList',
  'snapshotDelete',
  'snapshotHold',
  'snapshotRelease',
  'snapshotRename',
  'configGet',
  'configSet',
  'retention',
  'range',
  'gc',
  'list',
  'read',
  'diff',
  'log',
  'show',
  'closeCursor',
  'toString',
  '__proto__',
  'nothing',
];
const PATHS = [
  '/',
  '/a',
  '/d',
  '/d/../a',
  '/@s/a',
  '/@latest',
  '/@lsn-64/a',
  '/@/s',
  '/@lsn-99999999',
  '//',
  '',
  '\0',
  'a'.repeat(5000),
  '/d/e',
  '/link',
  '/\u{d800}',
];

function anyValue(m: Mutator, depth = 0): unknown {
  switch (m.below(depth > 2 ? 7 : 9)) {
    case 0:
      return null;
    case 1:
      return m.chance(2);
    case 2:
      return m.number() * (m.chance(4) ? -1 : 1);
    case 3:
      return m.below(100) / 7;
    case 4:
      return m.pick(PATHS);
    case 5:
      return m.random.bytes(m.below(30)).toString('utf8');
    case 6:
      return m.below(6);
    case 7:
      return Array.from({ length: m.below(4) }, () => anyValue(m, depth + 1));
    default:
      return anyObject(m, depth + 1);
  }
}

function anyObject(m: Mutator, depth = 0): JsonObject {
  const names = ['path', 'name', 'message', 'cursor', 'offset', 'length', 'follow', '__proto__', 'x'];
  return Object.fromEntries(Array.from({ length: m.below(5) }, () => [m.pick(names), anyValue(m, depth)]));
}

/** Arguments that are right, mostly. */
function likelyObject(m: Mutator): JsonObject {
  const args: JsonObject = { path: m.pick(PATHS), name: m.pick(['s', 't', '@s', '', 'lsn-1']) };
  if (m.chance(2)) args.from = m.pick(['s', '@live', 'lsn-64', '@latest', '64', '']);
  if (m.chance(4)) args.to = m.pick(['@s', 'live', '1/0', '@lsn-99999999']);
  args.state = m.pick(['s', '@latest', 'lsn-64', '@1 second ago', '@live']);
  if (m.chance(3)) args.since = m.pick(['s', '1 hour ago', 'lsn-64', '2026-11-22', '@latest', '-PT1M']);
  if (m.chance(4)) args.until = m.pick(['@s', 'now', '64', '1 year ago']);
  if (m.chance(3)) args.follow = m.chance(2);
  if (m.chance(4)) args.limit = m.below(5);
  if (m.chance(4)) args.transactions = m.chance(2);
  if (m.chance(3)) delete args.path;
  if (m.chance(4)) args.paths = [m.pick(PATHS), m.pick(PATHS)];
  if (m.chance(4)) args.types = ['file', 'directory'];
  if (m.chance(4)) args.cursor = m.below(8);
  if (m.chance(3)) args.offset = m.number();
  if (m.chance(3)) args.length = m.number();
  return m.chance(3) ? { ...args, ...anyObject(m) } : args;
}

const CONTROL: FuzzParser = {
  name: 'operations',
  batch: 300,
  share: 6,
  async start(): Promise<FuzzSession> {
    const directory = new MemoryDirectory('fuzzed');
    Store.initialize(directory, { segmentSize: 1024 * 1024 });
    const options = { warn: (message: string) => find(`a warning: ${message}`), commitIntervalMs: 3_600_000 };
    const database = await Database.over(directory, options, { mountpoint: null, background: 'caller' });
    await database.transaction((transaction) => {
      transaction.put('/a', 'content');
      transaction.put('/d/large', Buffer.alloc(900_000, 5));
      transaction.symlink('/link', 'd');
      for (let i = 0; i < 1100; i++) transaction.put(`/d/e/${i}`, `${i}`);
    });
    await database.snapshots.create('s');
    return {
      async step(m) {
        const name = m.pick(OPERATIONS);
        const args = JSON.parse(JSON.stringify(m.chance(3) ? anyObject(m) : likelyObject(m))) as JsonObject;
        let reply: unknown;
        try {
          reply = await executeOperation(database, name, args);
        } catch (error) {
          if (!(error instanceof LsnfsError)) throw error;
          if (['EIO', 'STORE_FAILED', 'CORRUPT_PAGE', 'CORRUPT_LOG'].includes(error.code))
            throw new Error(`${name}: ${error.stack}`);
          reply = errorToWire(error);
          const back = errorFromWire(JSON.parse(JSON.stringify(reply)));
          if (back.code !== error.code) find(`${error.code} became ${back.code}`);
        }
        if (JSON.stringify(reply ?? null) === undefined) find('a reply that is no JSON');
        // What the other side sends is as little to be trusted.
        const wire = anyValue(m);
        tolerate(() => errorFromWire(wire));
        tolerate(() => errorFromWire({ code: anyValue(m), message: anyValue(m), details: anyValue(m) }));
      },
      async end() {
        await database.store.checkpoint();
        const problems = checkStore(database.store).problems;
        if (problems.length > 0) find(problems.join('\n'));
        await database.close();
      },
    };
  },
};

export const CONTROL_PARSERS: readonly FuzzParser[] = [LINES, CONTROL];
