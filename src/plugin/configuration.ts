/** The settings of an open store, for people and programs. */
import {
  allowedText,
  findSetting,
  parseSettingText,
  settingNames,
  settingText,
  typedName,
} from '../store/setting-text.ts';
import { DEFAULT_SETTINGS, SETTINGS_AT_OPEN, type Settings } from '../store/settings.ts';
import type { Store } from '../store/store.ts';

export interface SettingReport {
  /** As it is typed: "keep_window". */
  readonly name: string;
  /** As `lsnfs.json` has it: "keepWindowMs". */
  readonly setting: keyof Settings;
  /** What is in force. */
  readonly value: number | string | readonly string[];
  /** The same as it is typed. */
  readonly text: string;
  readonly default: string;
  readonly allowed: string;
  /** What `lsnfs.json` says, when that is something else: from the next opening on, or overridden by who opened it. */
  readonly saved: string | null;
}

/** One setting, or all. @throws LsnfsError INVALID_INPUT when there is none of that name */
export function readSettings(store: Store, name: string | undefined): SettingReport[] {
  const saved = store.savedSettings();
  const names = name === undefined ? settingNames() : [findSetting(name)];
  return names.map((setting) => describe(store, setting, saved));
}

/** Changes a setting to what was typed. @throws LsnfsError INVALID_INPUT that says what it may be */
export function changeSetting(
  store: Store,
  name: string,
  text: string,
): SettingReport & { readonly atNextOpening: boolean } {
  const setting = findSetting(name);
  const value = parseSettingText(setting, name, text);
  store.changeSetting(setting, value);
  const report = describe(store, setting, store.savedSettings());
  return { ...report, atNextOpening: SETTINGS_AT_OPEN.has(setting) && report.saved !== null };
}

function describe(store: Store, setting: keyof Settings, saved: Settings): SettingReport {
  const value = store.settings[setting];
  const text = settingText(setting, value);
  const savedText = settingText(setting, saved[setting]);
  return {
    name: typedName(setting),
    setting,
    value,
    text,
    default: settingText(setting, DEFAULT_SETTINGS[setting]),
    allowed: allowedText(setting),
    saved: savedText === text ? null : savedText,
  };
}
