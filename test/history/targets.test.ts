/** How states are named. */
import test from 'ava';
import { isReservedName } from '../../src/encoding/names.ts';
import {
  checkSnapshotName,
  formatTime,
  parseLsn,
  parseTarget,
  parseTime,
  parseTypedTarget,
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

test('times relative to now', (t) => {
  const now = at('2026-03-31T12:00:00Z') + 7;
  for (const [text, expected] of [
    ['now', '2026-03-31T12:00:00Z'],
    ['yesterday', '2026-03-30T12:00:00Z'],
    ['10 minutes ago', '2026-03-31T11:50:00Z'],
    ['@10 minutes ago', '2026-03-31T11:50:00Z'],
    ['5 min ago', '2026-03-31T11:55:00Z'],
    ['5min ago', '2026-03-31T11:55:00Z'],
    ['  2   Hours AGO ', '2026-03-31T10:00:00Z'],
    ['an hour ago', '2026-03-31T11:00:00Z'],
    ['a day ago', '2026-03-30T12:00:00Z'],
    ['1.5 hours ago', '2026-03-31T10:30:00Z'],
    ['1h30m ago', '2026-03-31T10:30:00Z'],
    ['1 hour and 30 seconds ago', '2026-03-31T10:59:30Z'],
    ['1 day, 2 hours ago', '2026-03-30T10:00:00Z'],
    ['-5 min', '2026-03-31T11:55:00Z'],
    ['-1w', '2026-03-24T12:00:00Z'],
    ['1 month ago', '2026-02-28T12:00:00Z'],
    ['2 years ago', '2024-03-31T12:00:00Z'],
    ['-PT5M', '2026-03-31T11:55:00Z'],
    ['-P1DT2H3M4.5S', '2026-03-30T09:56:55.500Z'],
    ['-P1M', '2026-02-28T12:00:00Z'],
    ['-P1Y2W', '2025-03-17T12:00:00Z'],
    ['0 seconds ago', '2026-03-31T12:00:00Z'],
  ] as const) {
    t.is(parseTime(text, now), at(expected) + 7, text);
  }
  t.is(parseTime('2026-11-22', now), at('2026-11-22'), 'what is absolute stays so');
  for (const [bad, message] of [
    ['10 minutes', /is not a time: write it like .* or "10 minutes ago"/],
    ['10 parsecs ago', /"parsecs" is not a unit \(s, min, h, d, w, month or year\)/],
    ['1.5 months ago', /months and years are whole numbers/],
    ['100 years ago', /before 1970/],
    ['999999999999 years ago', /before 1970/],
    [`${'9'.repeat(60)} days ago`, /before 1970/],
    ...['', ' ', 'ago', ' ago', 'ten minutes ago', '-', '-P', '-PT', '-P1H', '-PT1D', 'PT5M', 'tomorrow'].map(
      (text) => [text, /is not a time: write it like/] as const,
    ),
    ...['-1 -1 h', '1 h 2 ago', '1 hour ago ago', '1e3 h ago', '١ h ago', `${'1 h '.repeat(50)}ago`].map(
      (text) => [text, /is not a time/] as const,
    ),
  ] as const) {
    t.throws(() => parseTime(bad, now), { code: 'INVALID_INPUT', message }, bad);
  }
  t.throws(() => parseTime('10 minutes ago'), { code: 'INVALID_INPUT' }, 'only where a person types it');
});

test('what is typed for a command: LSNs and relative times, where no snapshot has the name', (t) => {
  const now = at('2026-03-31T12:00:00Z');
  const parse = (text: string): unknown => parseTypedTarget(text, (name) => name === 'yesterday', now);
  t.deepEqual(parse('1234'), { kind: 'lsn', lsn: 1234 });
  t.deepEqual(parse('0/4D2'), { kind: 'lsn', lsn: 1234 });
  t.deepEqual(parse('@an hour ago'), { kind: 'time', timeMicroseconds: at('2026-03-31T11:00:00Z') });
  t.deepEqual(parse('yesterday'), { kind: 'name', name: 'yesterday' });
  t.deepEqual(parse('before'), { kind: 'name', name: 'before' });
  t.throws(() => parse('10 parsecs ago'), { code: 'INVALID_INPUT' });
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
