/** How states are named. */
import test from 'ava';
import { isReservedName } from '../../src/encoding/names.ts';
import {
  checkSnapshotName,
  formatTime,
  parseLsn,
  parseTarget,
  parseTime,
} from '../../src/history/targets.ts';

const at = (text: string): number => Date.parse(text) * 1000;

test('targets', (t) => {
  t.deepEqual(parseTarget('@lsn-1234'), { kind: 'lsn', lsn: 1234 });
  t.deepEqual(parseTarget('lsn-0/4D2'), { kind: 'lsn', lsn: 1234 });
  t.deepEqual(parseTarget('@latest'), { kind: 'latest' });
  t.deepEqual(parseTarget('@before-migration'), { kind: 'name', name: 'before-migration' });
  t.deepEqual(parseTarget('@2026-11-22T101500Z'), {
    kind: 'time',
    timeMicroseconds: at('2026-11-22T10:15:00Z'),
  });
  for (const bad of ['', '@', 'lsn-', 'lsn-x', 'lsn--1', 'lsn-1.5', 'lsn-99999999999999999', '2026-13-01']) {
    t.throws(() => parseTarget(bad), { code: 'INVALID_INPUT' }, bad);
  }
});

test('LSNs in decimal and as PostgreSQL writes them', (t) => {
  t.is(parseLsn('0'), 0);
  t.is(parseLsn('9007199254740991'), Number.MAX_SAFE_INTEGER);
  t.is(parseLsn('1/0'), 2 ** 32);
  t.is(parseLsn('A/FF'), 10 * 2 ** 32 + 255);
  for (const bad of ['9007199254740992', '1/123456789', '0x10', ' 1', '1e3', '']) {
    t.throws(() => parseLsn(bad), { code: 'INVALID_INPUT' }, bad);
  }
});

test('times', (t) => {
  t.is(parseTime('2026-11-22'), at('2026-11-22T00:00:00Z'));
  t.is(parseTime('20261122T101500Z'), at('2026-11-22T10:15:00Z'));
  t.is(parseTime('2026-11-22T10:15:00.25+02:00'), at('2026-11-22T08:15:00.250Z'));
  t.is(parseTime('2026-11-22T101500-0130'), at('2026-11-22T11:45:00Z'));
  t.is(parseTime('2026-11-22T10:15:00.123456Z'), at('2026-11-22T10:15:00Z') + 123_456);
  for (const bad of ['2026-02-30', '2026-11-22T25:00:00Z', '2026-11-22T10:61Z', '2026-00-10']) {
    t.throws(() => parseTime(bad), { code: 'INVALID_INPUT' }, bad);
  }
  t.is(formatTime(at('2026-11-22T10:15:00Z')), '2026-11-22T10:15:00.000Z');
  t.is(formatTime(at('2026-11-22T10:15:00Z') + 123_456), '2026-11-22T10:15:00.123456Z');
  const now = Date.now() * 1000 + 7;
  t.is(parseTime(formatTime(now)), now);
});

test('every name that reads as an LSN or a time is reserved, and no snapshot can have it', (t) => {
  for (const reserved of [
    'lsn-1',
    'lsn-',
    'latest',
    '2026-11-22',
    '20261122T101500Z',
    '2026-11-22T10:15:00Z',
  ]) {
    t.throws(() => checkSnapshotName(reserved), { code: 'NAME_RESERVED' }, reserved);
    t.true(isReservedName(Buffer.from(`@${reserved}`)), reserved);
  }
  for (const free of ['types', 'before', 'latest-2', '2026', 'lsn', 'ünïcode', 'a b']) {
    t.notThrows(() => checkSnapshotName(free), free);
    t.false(isReservedName(Buffer.from(`@${free}`)), free);
  }
  for (const bad of ['', 'a/b', '@a', '.', '..', 'a\nb', 'a\0b', '\ud800', 'x'.repeat(255)]) {
    t.throws(() => checkSnapshotName(bad), { code: 'INVALID_INPUT' }, JSON.stringify(bad));
  }
  t.true(isReservedName(Buffer.from('@')));
  t.false(isReservedName(Buffer.from('latest')));
});
