/**
 * Verifies what everything else is found from: the two control slots and the settings. And finds a place to go on from
 * when they are damaged, so that the rest of the store can be verified all the same: the other slot, or else the
 * newest checkpoint record of the log, whose segments say which store they belong to.
 */

import { getU32 } from '../encoding/bytes.ts';
import {
  CONTROL_NAME,
  CONTROL_SLOT_SIZE,
  type ControlBlock,
  controlSlot,
  decodeControl,
  isSegmentSize,
  STORE_ID_SIZE,
} from '../encoding/control.ts';
import {
  checkSegmentHeader,
  SEGMENT_HEADER_SIZE,
  SEGMENT_SIZE,
  SEGMENT_STORE_ID,
} from '../encoding/frame.ts';
import { PAGE_SIZES } from '../encoding/page.ts';
import { RECORD, RecordReader } from '../encoding/record.ts';
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { PageCache } from '../storage/page-cache.ts';
import { LogReader } from '../wal/reader.ts';
import { FIRST_LSN, WAL_DIRECTORY } from '../wal/segment.ts';
import type { CheckContext } from './check-context.ts';
import type { Finding } from './check-damage.ts';
import { DATA_NAME } from './initialize.ts';
import { openCheckpoint } from './recovery.ts';
import { mergeSettings, parseSettings, SETTINGS_NAME, type Settings } from './settings.ts';

/** No file of settings is longer, in bytes. */
const SETTINGS_LIMIT = 1024 * 1024;

/** The first bytes of a file; undefined when it is not there. @throws LsnfsError IO */
function readStart(directory: StorageDirectory, name: string, limit: number): Buffer | undefined {
  if (!directory.exists(name)) return undefined;
  const device = directory.open(name, { readOnly: true });
  try {
    const bytes = Buffer.alloc(Math.min(device.size(), limit));
    return bytes.subarray(0, device.read(0, bytes, 0, bytes.length));
  } finally {
    device.close();
  }
}

/** Whether the settings can be read. */
export function checkSettings(context: CheckContext, directory: StorageDirectory): void {
  try {
    const text = readStart(directory, SETTINGS_NAME, SETTINGS_LIMIT);
    if (text !== undefined) parseSettings(text.toString('utf8'), SETTINGS_NAME);
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    add(context, { kind: 'settings', file: SETTINGS_NAME, offset: 0, message: error.message });
  }
}

/**
 * Verifies both slots. Returns the valid ones, newest first.
 * @throws LsnfsError NEWER_FORMAT
 */
export function checkControl(context: CheckContext, directory: StorageDirectory): ControlBlock[] {
  let file: Buffer;
  try {
    file = readStart(directory, CONTROL_NAME, 2 * CONTROL_SLOT_SIZE) ?? Buffer.alloc(0);
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    add(context, { kind: 'control', file: CONTROL_NAME, offset: 0, message: error.message });
    return [];
  }
  const valid: ControlBlock[] = [];
  const wrong: string[] = [];
  for (const slot of [0, 1]) {
    const bytes = file.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE);
    const control = decodeSlot(bytes, slot);
    if (typeof control === 'string') wrong[slot] = control;
    else valid.push(control);
  }
  valid.sort((a, b) => b.sequence - a.sequence);
  const newest = valid[0];
  wrong.forEach((why, slot) => {
    const bytes = file.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE);
    // The second slot of a new store was never written.
    const isNew =
      newest?.sequence === 1 && bytes.length === CONTROL_SLOT_SIZE && bytes.every((byte) => byte === 0);
    if (isNew) return;
    const rest =
      newest === undefined
        ? 'the other is unusable, too'
        : `the other, with sequence number ${newest.sequence}, is used; a power cut while this one was written does that, too, and the next checkpoint but one writes it anew`;
    add(context, {
      kind: 'control',
      file: CONTROL_NAME,
      offset: slot * CONTROL_SLOT_SIZE,
      message: `slot ${slot}: ${why}; ${rest}`,
    });
  });
  for (const control of valid) checkFields(context, control, newest!);
  return valid;
}

function decodeSlot(bytes: Uint8Array, slot: number): ControlBlock | string {
  try {
    const control = decodeControl(bytes);
    if (controlSlot(control.sequence) === slot) return control;
    return `it holds sequence number ${control.sequence}, a misdirected write`;
  } catch (error) {
    if (!(error instanceof LsnfsError) || error.code === 'NEWER_FORMAT') throw error;
    return error.message;
  }
}

/** What a valid checksum does not say: whether the fields can be. */
function checkFields(context: CheckContext, control: ControlBlock, newest: ControlBlock): void {
  const { checkpoint } = control;
  const wrong: string[] = [];
  if (checkpoint.lsn < FIRST_LSN) wrong.push(`the checkpoint's LSN is ${checkpoint.lsn}`);
  if (checkpoint.position < checkpoint.lsn)
    wrong.push(
      `the checkpoint record, at ${checkpoint.position}, is before the checkpoint, ${checkpoint.lsn}`,
    );
  if (checkpoint.rootLsn !== checkpoint.lsn)
    wrong.push(`the catalog root has LSN ${checkpoint.rootLsn}, the checkpoint ${checkpoint.lsn}`);
  if (checkpoint.rootPage === 0) wrong.push('it names no catalog root');
  if (control !== newest) {
    if (!Buffer.from(control.storeId).equals(newest.storeId))
      wrong.push('it has another store id than the other');
    if (control.pageSize !== newest.pageSize || control.segmentSize !== newest.segmentSize)
      wrong.push('it has other sizes of pages or segments than the other');
    if (checkpoint.lsn > newest.checkpoint.lsn)
      wrong.push('its checkpoint is later than that of the newer slot');
  }
  const slot = controlSlot(control.sequence);
  for (const message of wrong) {
    add(context, {
      kind: 'control',
      file: CONTROL_NAME,
      offset: slot * CONTROL_SLOT_SIZE,
      message: `slot ${slot}: ${message}`,
    });
  }
}

function add(context: CheckContext, finding: Finding): void {
  context.damages.add(finding);
  context.progress.damages = context.damages.count;
}

/** The settings of a store, the defaults where they cannot be read. */
export function settingsOrDefaults(directory: StorageDirectory): Settings {
  try {
    const text = readStart(directory, SETTINGS_NAME, SETTINGS_LIMIT);
    return parseSettings(text?.toString('utf8') ?? '{}', SETTINGS_NAME);
  } catch (error) {
    if (error instanceof LsnfsError) return mergeSettings({}, 'the defaults');
    throw error;
  }
}

/** The id of a store, for its lock, from wherever it can be had; zeros if it is nowhere. */
export function findStoreId(directory: StorageDirectory): Uint8Array {
  const file = readStart(directory, CONTROL_NAME, 2 * CONTROL_SLOT_SIZE) ?? Buffer.alloc(0);
  for (const slot of [0, 1]) {
    const control = decodeSlot(file.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE), slot);
    if (typeof control !== 'string') return control.storeId;
  }
  return identifyLog(directory)?.storeId ?? new Uint8Array(STORE_ID_SIZE);
}

/** Which store the log belongs to, from the header of any segment; undefined when there is none. */
export function identifyLog(
  directory: StorageDirectory,
): { storeId: Uint8Array; segmentSize: number } | undefined {
  if (!directory.exists(WAL_DIRECTORY)) return undefined;
  const header = Buffer.alloc(SEGMENT_HEADER_SIZE);
  for (const name of directory.list(WAL_DIRECTORY)) {
    if (!/^[0-9a-f]{16}$/.test(name)) continue;
    const device = directory.open(`${WAL_DIRECTORY}/${name}`, { readOnly: true });
    try {
      if (device.read(0, header, 0, header.length) !== header.length) continue;
    } finally {
      device.close();
    }
    const segmentSize = getU32(header, SEGMENT_SIZE);
    const storeId = Uint8Array.from(header.subarray(SEGMENT_STORE_ID, SEGMENT_STORE_ID + STORE_ID_SIZE));
    const firstLsn = Number.parseInt(name, 16);
    if (!isSegmentSize(segmentSize)) continue;
    if (typeof checkSegmentHeader(header, 0, { storeId, segmentSize, firstLsn }) === 'number')
      return { storeId, segmentSize };
  }
  return undefined;
}

/**
 * A control block made from the log's newest checkpoint record whose root can be read: what a store whose slots are
 * both damaged can still be verified by. Undefined when there is none.
 */
export function* controlFromLog(directory: StorageDirectory): Generator<void, ControlBlock | undefined> {
  const log = identifyLog(directory);
  if (log === undefined) return undefined;
  const names = directory.list(WAL_DIRECTORY).filter((name) => /^[0-9a-f]{16}$/.test(name));
  const found: { lsn: number; position: number; time: number; page: number; rootLsn: number; sum: number }[] =
    [];
  const reader = new LogReader(directory, {
    ...log,
    from: Number.parseInt(names[0]!, 16),
    skipPartial: true,
    searchBehindEnd: false,
  });
  try {
    for (const { payload, startLsn } of reader) {
      const records = new RecordReader(payload);
      while (records.next()) {
        if (records.op !== RECORD.checkpoint) continue;
        const { lsn, timeMicroseconds, rootPage, rootLsn, rootChecksum } = records;
        found.push({
          lsn,
          position: startLsn,
          time: timeMicroseconds,
          page: rootPage,
          rootLsn,
          sum: rootChecksum,
        });
      }
      yield;
    }
  } catch (error) {
    // The log ends here for this purpose; that it is damaged is told when it is verified.
    if (!(error instanceof LsnfsError)) throw error;
  } finally {
    reader.close();
  }
  if (!directory.exists(DATA_NAME)) return undefined;
  const data = directory.open(DATA_NAME, { readOnly: true });
  try {
    for (const checkpoint of found.reverse()) {
      for (const pageSize of PAGE_SIZES) {
        const control: ControlBlock = {
          sequence: 0,
          ...log,
          pageSize,
          createdAtMicroseconds: 0,
          cleanShutdown: false,
          checkpoint: {
            lsn: checkpoint.lsn,
            position: checkpoint.position,
            timeMicroseconds: checkpoint.time,
            rootPage: checkpoint.page,
            rootLsn: checkpoint.rootLsn,
            rootChecksum: checkpoint.sum,
          },
        };
        if (canOpen(new PageCache(data, pageSize, 0), control)) return control;
      }
      yield;
    }
    return undefined;
  } finally {
    data.close();
  }
}

function canOpen(cache: PageCache, control: ControlBlock): boolean {
  try {
    openCheckpoint(cache, control);
    return true;
  } catch (error) {
    if (error instanceof LsnfsError) return false;
    throw error;
  }
}
