/**
 * Settings of a store: `lsnfs.json`, for people to read and edit. What is fixed at init (page size, segment size)
 * is in the control block instead.
 */
import { LsnfsError } from '../errors.ts';

export interface Settings {
  /** The longest that a change which nobody synced stays volatile, in milliseconds. */
  commitIntervalMs: number;
  /** The longest between two checkpoints while there are changes, in milliseconds. */
  checkpointIntervalMs: number;
  /** Dirty pages that start a checkpoint, in bytes. */
  checkpointDirtyBytes: number;
  /** Log since the last checkpoint that starts the next, in bytes. */
  checkpointLogBytes: number;
  /** Clean pages kept in memory, in bytes. */
  cacheSizeBytes: number;
  /** What a scrub reads at most, in bytes a second. */
  scrubBytesPerSecond: number;
  /** How far back every state can be opened, in milliseconds. */
  keepWindowMs: number;
  /** Bytes that history may take before the window gets shorter; 0: 10 GiB or a tenth of the file system. */
  keepSizeBytes: number;
  /** Versions that are kept before the window: so many of the newest … */
  keepLast: number;
  /** … and the last one of each of so many hours, days, weeks, months and years. */
  keepHourly: number;
  keepDaily: number;
  keepWeekly: number;
  keepMonthly: number;
  keepYearly: number;
  /** Nothing younger is dropped, in milliseconds. */
  minRetentionMs: number;
  /** The share of its time that the store may spend on reclaiming while others may need it, in percent. */
  gcIoBudget: number;
  /** When access times are updated: 'relatime' as Linux mounts do, or 'noatime'. */
  atime: 'relatime' | 'noatime';
  /** Modules that are loaded when the store opens. */
  plugins: string[];
}

export const SETTINGS_NAME = 'lsnfs.json';

const MIB = 1024 * 1024;
const HOUR_MS = 3_600_000;
const TEN_YEARS_MS = 3653 * 24 * HOUR_MS;
/** As many periods of a kind as can be asked for. */
const PERIODS_MAX = 100_000;

export const DEFAULT_SETTINGS: Readonly<Settings> = Object.freeze({
  commitIntervalMs: 1000,
  checkpointIntervalMs: 5000,
  checkpointDirtyBytes: 32 * MIB,
  checkpointLogBytes: 64 * MIB,
  cacheSizeBytes: 32 * MIB,
  scrubBytesPerSecond: 32 * MIB,
  keepWindowMs: HOUR_MS,
  keepSizeBytes: 0,
  keepLast: 0,
  keepHourly: 24,
  keepDaily: 7,
  keepWeekly: 4,
  keepMonthly: 6,
  keepYearly: 0,
  minRetentionMs: 300_000,
  gcIoBudget: 5,
  atime: 'relatime',
  plugins: [],
});

/** Inclusive bounds of the numeric settings. */
const BOUNDS: Record<string, readonly [number, number]> = {
  commitIntervalMs: [1, 3_600_000],
  checkpointIntervalMs: [10, 3_600_000],
  checkpointDirtyBytes: [MIB, 1024 * MIB],
  checkpointLogBytes: [MIB, 16 * 1024 * MIB],
  cacheSizeBytes: [MIB, 1024 * 1024 * MIB],
  scrubBytesPerSecond: [MIB / 16, 1024 * 1024 * MIB],
  keepWindowMs: [0, TEN_YEARS_MS],
  keepSizeBytes: [0, 2 ** 50],
  keepLast: [0, PERIODS_MAX],
  keepHourly: [0, PERIODS_MAX],
  keepDaily: [0, PERIODS_MAX],
  keepWeekly: [0, PERIODS_MAX],
  keepMonthly: [0, PERIODS_MAX],
  keepYearly: [0, PERIODS_MAX],
  minRetentionMs: [0, TEN_YEARS_MS],
  gcIoBudget: [1, 100],
};

/** What is read when a store is opened, and not looked at again. */
export const SETTINGS_AT_OPEN: ReadonlySet<string> = new Set([
  'commitIntervalMs',
  'cacheSizeBytes',
  'atime',
  'plugins',
] satisfies (keyof Settings)[]);

/** The least and the most that a numeric setting may be; undefined for the others. */
export function settingBounds(name: keyof Settings): readonly [number, number] | undefined {
  return BOUNDS[name];
}

/** @throws LsnfsError INVALID_INPUT that names the setting, what it may be, and what was found. */
export function parseSettings(text: string, file: string): Settings {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw new LsnfsError('INVALID_INPUT', `${file} is not JSON: ${(error as Error).message}`, { file });
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new LsnfsError('INVALID_INPUT', `${file} should hold an object of settings`, { file });
  }
  return mergeSettings(value as Record<string, unknown>, file);
}

/** The defaults with the given settings put over them. @throws LsnfsError INVALID_INPUT */
export function mergeSettings(given: Readonly<Record<string, unknown>>, where: string): Settings {
  const settings: Settings = { ...DEFAULT_SETTINGS, plugins: [...DEFAULT_SETTINGS.plugins] };
  for (const [name, value] of Object.entries(given)) {
    const bounds = Object.hasOwn(BOUNDS, name) ? BOUNDS[name] : undefined;
    if (bounds !== undefined) {
      if (
        typeof value !== 'number' ||
        !Number.isSafeInteger(value) ||
        value < bounds[0] ||
        value > bounds[1]
      ) {
        invalid(where, name, `a whole number from ${bounds[0]} to ${bounds[1]}`, value);
      }
      (settings as unknown as Record<string, number>)[name] = value;
    } else if (name === 'atime') {
      if (value !== 'relatime' && value !== 'noatime') invalid(where, name, '"relatime" or "noatime"', value);
      settings.atime = value;
    } else if (name === 'plugins') {
      if (!Array.isArray(value) || value.some((entry) => typeof entry !== 'string')) {
        invalid(where, name, 'a list of module names', value);
      }
      settings.plugins = value as string[];
    } else {
      throw new LsnfsError('INVALID_INPUT', `${where}: there is no setting "${name}"`, { setting: name });
    }
  }
  return settings;
}

function invalid(where: string, name: string, expected: string, found: unknown): never {
  throw new LsnfsError(
    'INVALID_INPUT',
    `${where}: ${name} should be ${expected}, not ${JSON.stringify(found)}`,
    {
      setting: name,
    },
  );
}
