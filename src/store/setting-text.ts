/**
 * Settings as people type and read them: `keep_window` is `keepWindowMs`, and 7d is 604800000.
 *
 * The name that is typed leaves the unit out, because the value carries it. With the name of `lsnfs.json`, which ends with
 * its unit, a plain number will do. What a value may be is for `mergeSettings` alone to decide: here it is read, and
 * the bounds are put into words.
 */
import { LsnfsError } from '../errors.ts';
import { DEFAULT_SETTINGS, mergeSettings, type Settings, settingBounds } from './settings.ts';

export type SettingName = keyof Settings;

const SETTING_NAMES = Object.keys(DEFAULT_SETTINGS) as SettingName[];

const SECOND = 1000;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
/** From the largest on; a value is shown in the largest that it is a whole number of. */
const DURATIONS = [
  ['d', DAY],
  ['h', HOUR],
  ['m', MINUTE],
  ['s', SECOND],
  ['ms', 1],
] as const;
const SIZES = [
  ['TiB', 2 ** 40],
  ['GiB', 2 ** 30],
  ['MiB', 2 ** 20],
  ['KiB', 2 ** 10],
  ['B', 1],
] as const;

/** What a setting measures. */
function unitsOf(setting: SettingName): typeof DURATIONS | typeof SIZES | undefined {
  if (setting.endsWith('Ms')) return DURATIONS;
  return /Bytes(PerSecond)?$/.test(setting) ? SIZES : undefined;
}

/** "keep_window" for keepWindowMs. */
export function typedName(setting: SettingName): string {
  return snakeCase(setting.replace(/(Ms|Bytes)$/, ''));
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** All settings, in the order of the documentation. */
export function settingNames(): readonly SettingName[] {
  return SETTING_NAMES;
}

/** The setting that is meant by "keep_window", "keep_window_ms" or "keepWindowMs". @throws LsnfsError INVALID_INPUT */
export function findSetting(text: string): SettingName {
  const wanted = text.replaceAll('-', '_');
  const found = SETTING_NAMES.find(
    (name) => name === wanted || typedName(name) === wanted || snakeCase(name) === wanted,
  );
  if (found !== undefined) return found;
  const all = SETTING_NAMES.map(typedName).join(', ');
  throw new LsnfsError('INVALID_INPUT', `there is no setting "${text}": there are ${all}`, { setting: text });
}

/** What a setting may be, in words: "a duration from 1ms to 1h, like 500ms, 90m or 7d". */
export function allowedText(setting: SettingName): string {
  const bounds = settingBounds(setting);
  if (setting === 'atime') return 'relatime or noatime';
  if (bounds === undefined) return 'names of modules with commas between them, or none';
  const units = unitsOf(setting);
  const range = `from ${amount(bounds[0], units)} to ${amount(bounds[1], units)}`;
  if (units === DURATIONS) return `a duration ${range}, like 500ms, 90m or 7d`;
  if (units === undefined) return `a whole number ${range}`;
  const auto = setting === 'keepSizeBytes' ? 'auto, or ' : '';
  return `${auto}a size ${range}, like 500M or 10GiB`;
}

/** What was typed for a setting. @throws LsnfsError INVALID_INPUT that names what is allowed */
export function parseSettingText(setting: SettingName, typedAs: string, text: string): unknown {
  const value = readText(setting, typedAs, text);
  try {
    mergeSettings({ [setting]: value }, typedAs);
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    const message = `${typedAs} should be ${allowedText(setting)}, not "${text}"`;
    throw new LsnfsError('INVALID_INPUT', message, { setting });
  }
  return value;
}

/** NaN for what is no number where one should be. */
function readText(setting: SettingName, typedAs: string, text: string): unknown {
  if (setting === 'atime') return text;
  if (setting === 'plugins') return text === 'none' || text === '' ? [] : text.split(',');
  const units = unitsOf(setting);
  if (setting === 'keepSizeBytes' && text === 'auto') return 0;
  if (/^\d{1,15}$/.test(text)) {
    // A bare number has a unit only if the name gives it.
    const isPlain = units === undefined || Number(text) === 0 || typedName(setting) !== typedAs;
    return isPlain ? Number(text) : Number.NaN;
  }
  if (units === DURATIONS) return parseAmount(text, /^(\d+(?:\.\d+)?)(ms|s|m|h|d)$/, DURATIONS) ?? Number.NaN;
  return units === SIZES ? (parseSize(text) ?? Number.NaN) : Number.NaN;
}

function parseAmount(
  text: string,
  form: RegExp,
  units: readonly (readonly [string, number])[],
): number | undefined {
  const match = form.exec(text);
  const unit = match === null ? undefined : units.find(([name]) => name === match[2]);
  return unit === undefined ? undefined : Math.round(Number(match![1]) * unit[1]);
}

function parseSize(text: string): number | undefined {
  const match = /^(\d+(?:\.\d+)?)([KMGT]?)(?:i?B)?$/i.exec(text);
  if (match === null) return undefined;
  const wanted = match[2]!.toUpperCase();
  const unit = SIZES.find(([name]) => (wanted === '' ? name === 'B' : name[0] === wanted));
  return Math.round(Number(match[1]) * unit![1]);
}

/** A value so that it can be typed again. */
export function settingText(setting: SettingName, value: Settings[SettingName]): string {
  if (Array.isArray(value)) return value.length === 0 ? 'none' : value.join(',');
  if (typeof value === 'string') return value;
  if (setting === 'keepSizeBytes' && value === 0) return 'auto';
  return amount(value, unitsOf(setting));
}

function amount(value: number, units: readonly (readonly [string, number])[] | undefined): string {
  if (units === undefined || value === 0) return String(value);
  const [name, size] = units.find((unit) => value % unit[1] === 0)!;
  return `${value / size}${name}`;
}
