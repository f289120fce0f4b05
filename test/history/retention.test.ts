/** Retention decides as it says: windows, thinning, calendars, pins. */
import test from 'ava';
import {
  decide,
  type RetainedVersion,
  type RetentionInput,
  type RetentionSettings,
  THIN_LOG_BYTES,
} from '../../src/history/retention.ts';
import { Random, seedOf } from '../helpers/random.ts';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

const NOTHING: RetentionSettings = {
  keepWindowMs: 0,
  keepLast: 0,
  keepHourly: 0,
  keepDaily: 0,
  keepWeekly: 0,
  keepMonthly: 0,
  keepYearly: 0,
  minRetentionMs: 0,
};

const NOW = Date.UTC(2026, 10, 24, 12, 30) * 1000;

/** Versions made so many milliseconds ago, the oldest first. */
function ago(...milliseconds: number[]): RetainedVersion[] {
  return milliseconds.map((ms, i) => ({
    lsn: 64 * (i + 1),
    timeMicroseconds: NOW - ms * 1000,
    restored: false,
  }));
}

function input(versions: RetainedVersion[], changes: Partial<RetentionInput> = {}): RetentionInput {
  return {
    versions,
    snapshots: [],
    pinned: [],
    baseLsn: 0,
    windowNotBefore: 0,
    nowMicroseconds: NOW,
    ...changes,
  };
}

test('the newest version stays, whatever the settings', (t) => {
  const decision = decide(input(ago(3 * DAY, 2 * DAY, DAY)), NOTHING);
  t.deepEqual(decision.dropped, [64, 128]);
  t.is(decision.baseLsn, 192);
  t.deepEqual(decision.kept.get(192), [{ kind: 'newest' }, { kind: 'base' }]);
});

test('the window begins with the version before it, and does not move back', (t) => {
  const versions = ago(3 * HOUR, 2 * HOUR, 50 * MINUTE, 10 * MINUTE, 0);
  const settings = { ...NOTHING, keepWindowMs: HOUR };
  t.is(decide(input(versions), settings).baseLsn, 128);
  t.is(decide(input(versions, { baseLsn: 192 }), settings).baseLsn, 192);
  t.is(decide(input(versions, { windowNotBefore: NOW - 20 * MINUTE * 1000 }), settings).baseLsn, 192);
  t.is(decide(input(versions), { ...NOTHING, keepWindowMs: 10 * DAY }).baseLsn, 64);
});

test('of the window what replay needs is kept, and every version after a restore', (t) => {
  const step = THIN_LOG_BYTES / 4;
  const versions = Array.from({ length: 20 }, (_, i) => ({
    lsn: step * (i + 1),
    timeMicroseconds: NOW - (20 - i) * MINUTE * 1000,
    restored: i === 7,
  }));
  const { kept } = decide(input(versions), { ...NOTHING, keepWindowMs: HOUR });
  const lsns = [...kept.keys()].sort((a, b) => a - b);
  for (const [i, lsn] of lsns.slice(1).entries()) t.true(lsn - lsns[i]! <= THIN_LOG_BYTES);
  t.true(lsns.length <= 8, `${lsns.length}`);
  t.deepEqual(kept.get(step * 8), [{ kind: 'restored' }]);
});

test('the base follows the window, however many versions there are and however small the log', (t) => {
  const settings = { ...NOTHING, keepWindowMs: HOUR };
  let versions: RetainedVersion[] = [];
  let baseLsn = 0;
  for (let second = 0; second < 4 * 3600; second += 5) {
    const timeMicroseconds = NOW + second * 1e6;
    versions.push({ lsn: 64 + second * 8, timeMicroseconds, restored: false });
    if (second % 60 !== 0) continue;
    const decision = decide(input(versions, { baseLsn, nowMicroseconds: timeMicroseconds }), settings);
    baseLsn = decision.baseLsn;
    versions = versions.filter(({ lsn }) => decision.kept.has(lsn));
    const base = versions.find(({ lsn }) => lsn === baseLsn)!;
    const ageMs = (timeMicroseconds - base.timeMicroseconds) / 1000;
    t.true(second < 2 * 3600 || (ageMs >= HOUR && ageMs < 1.2 * HOUR), `${ageMs} at ${second}`);
    t.true(versions.length < 16, `${versions.length}`);
  }
});

test('young versions, snapshots and open ones stay', (t) => {
  const versions = ago(DAY, 20 * HOUR, HOUR, 4 * MINUTE, 2 * MINUTE, 0);
  const decision = decide(
    input(versions, {
      snapshots: [
        { name: 'a', lsn: 64 },
        { name: 'b', lsn: 64 },
        { name: 'pending', lsn: 9999 },
      ],
      pinned: [128],
    }),
    { ...NOTHING, minRetentionMs: 5 * MINUTE },
  );
  t.deepEqual(decision.dropped, [192]);
  t.deepEqual(decision.kept.get(64), [
    { kind: 'snapshot', name: 'a' },
    { kind: 'snapshot', name: 'b' },
  ]);
  t.deepEqual(decision.kept.get(128), [{ kind: 'open' }]);
  t.deepEqual(decision.kept.get(256), [{ kind: 'young' }]);
  t.false(decision.kept.has(9999));
});

test('calendars keep the last version of a period, the newest periods first', (t) => {
  const at = (...times: string[]): RetainedVersion[] =>
    times.map((time, i) => ({
      lsn: 64 * (i + 1),
      timeMicroseconds: Date.parse(`${time}Z`) * 1000,
      restored: false,
    }));
  const versions = at(
    '2024-12-30T00:00:00', // Monday of 2025-W01
    '2025-12-28T10:00:00', // Sunday of 2025-W52
    '2025-12-31T23:59:59',
    '2026-01-01T00:00:00', // 2026-W01, as the line before
    '2026-11-23T09:10:00',
    '2026-11-23T09:50:00',
    '2026-11-24T08:00:00',
    '2026-11-24T12:00:00',
  );
  const keptBy = (settings: Partial<RetentionSettings>, kind: string): string[] => {
    const { kept } = decide(input(versions), { ...NOTHING, ...settings });
    return [...kept]
      .flatMap(([lsn, reasons]) => reasons.map((reason) => ({ lsn, reason })))
      .filter(({ reason }) => reason.kind === kind)
      .map(({ lsn, reason }) => `${lsn / 64} ${'period' in reason ? reason.period : ''}`);
  };
  t.deepEqual(keptBy({ keepLast: 2 }, 'last'), ['8 1', '7 2']);
  t.deepEqual(keptBy({ keepHourly: 3 }, 'hourly'), ['8 2026-11-24T12', '7 2026-11-24T08', '6 2026-11-23T09']);
  t.deepEqual(keptBy({ keepDaily: 3 }, 'daily'), ['8 2026-11-24', '6 2026-11-23', '4 2026-01-01']);
  t.deepEqual(keptBy({ keepWeekly: 10 }, 'weekly'), ['8 2026-W48', '4 2026-W01', '2 2025-W52', '1 2025-W01']);
  t.deepEqual(keptBy({ keepMonthly: 3 }, 'monthly'), ['8 2026-11', '4 2026-01', '3 2025-12']);
  t.deepEqual(keptBy({ keepYearly: 3 }, 'yearly'), ['8 2026', '3 2025', '1 2024']);
});

test('what is decided twice stays decided: dropping is stable', (t) => {
  const random = new Random(seedOf(t, 'retention'));
  for (let round = 0; round < 200; round++) {
    let time = NOW - (1 + random.below(400)) * DAY * 1000;
    let lsn = 64;
    const versions: RetainedVersion[] = [];
    for (let i = random.below(60); i >= 0 && time < NOW; i--) {
      versions.push({ lsn, timeMicroseconds: time, restored: random.below(20) === 0 });
      lsn += 8 * (1 + random.below(1_000_000));
      time += random.below(10 * DAY) * 1000;
    }
    const settings: RetentionSettings = {
      keepWindowMs: random.below(3 * DAY),
      keepLast: random.below(3),
      keepHourly: random.below(5),
      keepDaily: random.below(5),
      keepWeekly: random.below(5),
      keepMonthly: random.below(5),
      keepYearly: random.below(5),
      minRetentionMs: random.below(HOUR),
    };
    const pinned = versions.filter(() => random.below(10) === 0).map((version) => version.lsn);
    const first = decide(input(versions, { pinned }), settings);
    t.deepEqual(
      [...first.kept.keys(), ...first.dropped].sort((a, b) => a - b),
      versions.map((version) => version.lsn),
    );
    const left = versions.filter((version) => first.kept.has(version.lsn));
    const second = decide(input(left, { pinned, baseLsn: first.baseLsn }), settings);
    t.is(second.baseLsn, first.baseLsn);
    t.deepEqual(second.dropped, []);
  }
});
