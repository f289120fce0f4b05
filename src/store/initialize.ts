/**
 * Makes an empty store: its first version, its log, and at the very end, by rename, the control block. A directory
 * without one is a creation that was interrupted.
 */
import { randomBytes } from 'node:crypto';
import {
  CONTROL_NAME,
  CONTROL_SLOT_SIZE,
  controlSlot,
  encodeControl,
  SEGMENT_SIZE_DEFAULT,
} from '../encoding/control.ts';
import { NO_PAGE, PAGE_SIZES, type PageSize, sealPage } from '../encoding/page.ts';
import { encodeCatalogRoot, encodeVersionRoot, type TreeRef } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { FIRST_LSN } from '../wal/segment.ts';
import { initializeLog } from '../wal/tail.ts';
import { mergeSettings, SETTINGS_NAME, type Settings } from './settings.ts';
import { TreeState } from './tree-state.ts';

export const DATA_NAME = 'data';

export interface InitializeOptions {
  pageSize?: PageSize;
  segmentSize?: number;
  settings?: Partial<Settings>;
  /** 16 bytes that tell stores apart. Default: random ones. */
  storeId?: Uint8Array;
  /** Microseconds since 1970. Default: now. */
  createdAtMicroseconds?: number;
}

/** @throws LsnfsError STORE_EXISTS, INVALID_INPUT, NO_SPACE or IO. */
export function initializeStore(directory: StorageDirectory, options: InitializeOptions = {}): void {
  const pageSize = options.pageSize ?? 4096;
  const segmentSize = options.segmentSize ?? SEGMENT_SIZE_DEFAULT;
  if (!PAGE_SIZES.includes(pageSize)) {
    throw new LsnfsError(
      'INVALID_INPUT',
      `the page size can be ${PAGE_SIZES.join(', ')} bytes, not ${pageSize}`,
    );
  }
  if (directory.exists(CONTROL_NAME)) {
    throw new LsnfsError('STORE_EXISTS', `${directory.path} is a store already`, { store: directory.path });
  }
  if (directory.list('').length > 0) {
    throw new LsnfsError(
      'STORE_EXISTS',
      `${directory.path} is not empty: a store needs a directory of its own`,
      {
        store: directory.path,
      },
    );
  }
  mergeSettings({ ...options.settings }, 'the options');
  writeFile(directory, SETTINGS_NAME, Buffer.from(`${JSON.stringify(options.settings ?? {}, null, 2)}\n`));
  const storeId = options.storeId ?? randomBytes(16);
  initializeLog(directory, { storeId, segmentSize });
  const createdAtMicroseconds = options.createdAtMicroseconds ?? Date.now() * 1000;
  // Page 0 is nobody's: a pointer that was zeroed never leads anywhere.
  const versionPage = 1;
  const catalogPage = 2;
  const lsn = FIRST_LSN;
  const version = TreeState.empty(lsn, createdAtMicroseconds);
  const file = Buffer.alloc((catalogPage + 1) * pageSize);
  const versionBytes = file.subarray(versionPage * pageSize, (versionPage + 1) * pageSize);
  encodeVersionRoot(versionBytes, version);
  const versionChecksum = sealPage(versionBytes, versionPage, lsn);
  const catalogBytes = file.subarray(catalogPage * pageSize);
  const empty: TreeRef = { ...NO_PAGE, pageCount: 0 };
  encodeCatalogRoot(catalogBytes, {
    lsn,
    timeMicroseconds: createdAtMicroseconds,
    version: { number: versionPage, lsn, checksum: versionChecksum },
    versions: empty,
    lifetimes: empty,
    free: empty,
    lives: empty,
    frontier: catalogPage + 1,
    horizonLsn: lsn,
    horizonTimeMicroseconds: createdAtMicroseconds,
    reclaimedLsn: lsn,
    spare: [],
  });
  const rootChecksum = sealPage(catalogBytes, catalogPage, lsn);
  writeFile(directory, DATA_NAME, file);
  const control = encodeControl({
    sequence: 1,
    storeId,
    pageSize,
    segmentSize,
    createdAtMicroseconds,
    cleanShutdown: true,
    checkpoint: {
      lsn,
      position: lsn,
      timeMicroseconds: createdAtMicroseconds,
      rootPage: catalogPage,
      rootLsn: lsn,
      rootChecksum,
    },
  });
  // The control block comes last and whole: without it there is no store, only a creation that was interrupted.
  const temporary = `${CONTROL_NAME}.new`;
  const slots = Buffer.alloc(2 * CONTROL_SLOT_SIZE);
  slots.set(control, controlSlot(1) * CONTROL_SLOT_SIZE);
  writeFile(directory, temporary, slots);
  // What it names must have its names for good before it has its own: changes of names may reach the disk in any order.
  directory.syncDirectory('');
  directory.rename(temporary, CONTROL_NAME);
  directory.syncDirectory('');
}

function writeFile(directory: StorageDirectory, name: string, content: Uint8Array): void {
  const device = directory.open(name, { create: true });
  try {
    device.write(0, content, 0, content.length);
    device.syncNow();
  } finally {
    device.close();
  }
}
