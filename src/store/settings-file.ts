/**
 * The file of settings in a store, `lsnfs.json`: read, and replaced whole. A crash leaves the old one or the new one.
 */
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { parseSettings, SETTINGS_NAME, type Settings } from './settings.ts';

/** Settings are a page of text; a file that is not settings must not fill the memory. In bytes. */
const SETTINGS_LIMIT = 1024 * 1024;
const TEMPORARY_NAME = `${SETTINGS_NAME}.new`;

/** What the file gives, without the defaults. @throws LsnfsError INVALID_INPUT when it cannot be read or is wrong */
export function readSettingsFile(directory: StorageDirectory): Partial<Settings> {
  if (!directory.exists(SETTINGS_NAME)) return {};
  const device = directory.open(SETTINGS_NAME, { readOnly: true });
  try {
    const size = device.size();
    if (size > SETTINGS_LIMIT) {
      const message = `${SETTINGS_NAME} has ${size} bytes, more than settings can have (${SETTINGS_LIMIT})`;
      throw new LsnfsError('INVALID_INPUT', message, { file: SETTINGS_NAME });
    }
    const bytes = Buffer.alloc(size);
    device.read(0, bytes, 0, bytes.length);
    const text = bytes.toString('utf8');
    parseSettings(text, SETTINGS_NAME);
    return JSON.parse(text) as Partial<Settings>;
  } finally {
    device.close();
  }
}

/** Puts a new file in place of the old one. Durable when it returns. @throws LsnfsError IO, NO_SPACE, UNSAFE_STORE */
export function writeSettingsFile(directory: StorageDirectory, given: Partial<Settings>): void {
  if (directory.exists(TEMPORARY_NAME)) directory.remove(TEMPORARY_NAME);
  const device = directory.open(TEMPORARY_NAME, { create: true });
  try {
    const bytes = Buffer.from(`${JSON.stringify(given, null, 2)}\n`);
    device.write(0, bytes, 0, bytes.length);
    device.syncNow();
  } finally {
    device.close();
  }
  directory.rename(TEMPORARY_NAME, SETTINGS_NAME);
  directory.syncDirectory('');
}
