import test from 'ava';
import { parseCount, parseDuration, parseLsnArgument, parsePageSize } from '../../cli/arguments.ts';
import { sentenceOf, UsageError } from '../../cli/failure.ts';
import { describeUsers } from '../../cli/mount-users.ts';
import { formatBytes, formatTable, formatTime } from '../../cli/output.ts';
import { visible, visibleJson } from '../../cli/text.ts';
import { CorruptPageError, LsnfsError } from '../../src/errors.ts';

test('durations', (t) => {
  t.is(parseDuration('500ms'), 500);
  t.is(parseDuration('1s'), 1000);
  t.is(parseDuration('1.5s'), 1500);
  t.is(parseDuration('2m'), 120_000);
  t.is(parseDuration('1h'), 3_600_000);
  for (const wrong of [
    '',
    '1',
    's',
    '-1s',
    '0s',
    '0.1ms',
    '2h',
    '1e3s',
    ' 1s',
    '1s ',
    '1 s',
    '1d',
    '١s',
    '1s\n',
  ]) {
    t.throws(() => parseDuration(wrong), { message: /duration/ }, JSON.stringify(wrong));
  }
});

test('page sizes', (t) => {
  for (const size of [4096, 8192, 16384]) t.is(parsePageSize(String(size)) as number, size);
  for (const wrong of ['', '0', '1024', '4097', '4096 ', '4k', '0x1000']) {
    t.throws(() => parsePageSize(wrong), { message: /4096, 8192 or 16384/ }, wrong);
  }
});

test('tables', (t) => {
  const columns = [{ title: 'NAME' }, { title: 'LSN', align: 'right' }, { title: 'WHY' }] as const;
  const rows = [
    ['a', '5', ''],
    ['longer name', '12345', 'because'],
  ];
  t.is(
    formatTable(columns, rows),
    'NAME           LSN  WHY\na                5\nlonger name  12345  because\n',
  );
});

test('bytes and times for people', (t) => {
  t.is(formatBytes(0), '0 B');
  t.is(formatBytes(1023), '1023 B');
  t.is(formatBytes(1536), '1.5 KiB');
  t.is(formatBytes(10 * 1024 ** 4), '10.0 TiB');
  t.is(formatBytes(2 ** 62), '4096.0 PiB');
  t.is(formatTime('2026-11-22T10:15:00.123456789Z'), '2026-11-22 10:15:00 UTC');
  t.is(formatTime(null), '-');
});

test('a failure is one sentence that cannot steer a terminal', (t) => {
  t.is(sentenceOf(new LsnfsError('NO_STORE', 'there is no store in /x')), 'there is no store in /x');
  t.is(sentenceOf(new CorruptPageError('page 7 is corrupt', { page: 7 })), 'page 7 is corrupt');
  t.is(sentenceOf(new UsageError('two directories are one too many')), 'two directories are one too many');
  t.is(
    sentenceOf(new LsnfsError('ENOENT', 'a\u001b[31m\u0007\udcffb does not exist')),
    'a\\u001b[31m\\u0007\\udcffb does not exist',
  );
  t.is(sentenceOf(new LsnfsError('IO', 'first\nsecond')), 'first second');
  t.regex(
    sentenceOf(new TypeError('x is not a function')),
    /^x is not a function \(unexpected; LSNFS_DEBUG=1/,
  );
  t.is(sentenceOf('text'), 'text (unexpected; LSNFS_DEBUG=1 shows where)');
});

test('who keeps a mount busy', (t) => {
  const user = (pid: number) => ({ pid, command: `c${pid}`, path: '/mnt' });
  t.is(describeUsers([user(1)]), 'c1 (1)');
  t.is(describeUsers([1, 2, 3, 4, 5].map(user)), 'c1 (1), c2 (2), c3 (3) and 2 more');
});

test('LSNs in every form, and counts', (t) => {
  for (const text of ['1234', 'lsn-1234', '@lsn-1234', '0/4D2']) t.is(parseLsnArgument(text), 1234, text);
  for (const text of ['', 'x', '-1', '1.5', '@1234x', '9'.repeat(17)])
    t.throws(() => parseLsnArgument(text), undefined, text);
  t.is(parseCount('7'), 7);
  for (const text of ['0', '-1', '1.5', '', '1e3']) t.throws(() => parseCount(text), undefined, text);
});

test('what could steer a terminal is escaped, and nothing else', (t) => {
  t.is(
    visible('a\u001b[2J\u009b1m\u202e\u2028\u007f\ud800'),
    'a\\u001b[2J\\u009b1m\\u202e\\u2028\\u007f\\ud800',
  );
  const harmless = 'ü ﷽ 👩\u200d💻 \u0645\u06cc\u200c\u062e';
  t.is(visible(harmless), harmless);
  const value = { name: '\u001b\u009b\u202e\u007f', other: harmless, half: '\udc80' };
  t.notRegex(visibleJson(value), /[\p{Cc}\u202e]/u);
  t.deepEqual(JSON.parse(visibleJson(value)), value);
});
