/**
 * What a store says about itself, for tools that look at it without opening it: no lock is taken, nothing is
 * recovered, and whatever is damaged is an answer like any other.
 */
import { CONTROL_NAME, CONTROL_SLOT_SIZE, type ControlBlock, readSlot } from '../encoding/control.ts';
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { WAL_DIRECTORY } from '../wal/segment.ts';

export interface InspectedControl {
  /** Bytes of the control file. */
  readonly size: number;
  /** Each slot's block, or why it does not count. */
  readonly slots: readonly [ControlBlock | LsnfsError, ControlBlock | LsnfsError];
  /** The slot that opening the store would go on from: none when both are invalid or one is of a newer format. */
  readonly used: 0 | 1 | undefined;
}

/** Reads both slots of the control file. @throws LsnfsError NO_STORE, UNSAFE_STORE or IO */
export function inspectControl(directory: StorageDirectory): InspectedControl {
  if (!directory.exists(CONTROL_NAME)) {
    throw new LsnfsError('NO_STORE', `there is no control file in ${directory.path}`, {
      store: directory.path,
    });
  }
  const device = directory.open(CONTROL_NAME, { readOnly: true });
  try {
    const file = Buffer.alloc(2 * CONTROL_SLOT_SIZE);
    const content = file.subarray(0, device.read(0, file, 0, file.length));
    const slots = [inspectSlot(content, 0), inspectSlot(content, 1)] as const;
    return { size: device.size(), slots: [...slots], used: usedSlot(slots) };
  } finally {
    device.close();
  }
}

function inspectSlot(content: Buffer, slot: 0 | 1): ControlBlock | LsnfsError {
  const bytes = content.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE);
  if (bytes.length === CONTROL_SLOT_SIZE && bytes.every((byte) => byte === 0)) {
    return new LsnfsError('CORRUPT_CONTROL', 'the slot was never written: it is all zeros', {
      reason: 'unused',
    });
  }
  return readSlot(content, slot);
}

function usedSlot(slots: readonly [ControlBlock | LsnfsError, ControlBlock | LsnfsError]): 0 | 1 | undefined {
  if (slots.some((slot) => slot instanceof LsnfsError && slot.code === 'NEWER_FORMAT')) return undefined;
  const [first, second] = slots.map((slot) => (slot instanceof LsnfsError ? -1 : slot.sequence));
  if (first! < 0 && second! < 0) return undefined;
  return first! > second! ? 0 : 1;
}

export interface InspectedLog {
  /** Names of the segment files, in the order of the log. */
  readonly first: string | undefined;
  readonly last: string | undefined;
  readonly count: number;
  /** Names of segments that are missing between the first and the last, at most the first few. */
  readonly missing: readonly string[];
}

const SEGMENT_NAME = /^[0-9a-f]{16}$/;
const MISSING_SHOWN = 8;

/** The segment files on disk. Without a size (the control file is damaged) none can be found missing. */
export function inspectSegments(directory: StorageDirectory, segmentSize: number | undefined): InspectedLog {
  if (!directory.exists(WAL_DIRECTORY)) return { first: undefined, last: undefined, count: 0, missing: [] };
  const names = directory.list(WAL_DIRECTORY).filter((name) => SEGMENT_NAME.test(name));
  const missing: string[] = [];
  for (let i = 1; segmentSize !== undefined && i < names.length && missing.length < MISSING_SHOWN; i++) {
    const next = Number.parseInt(names[i]!, 16);
    let expected = Number.parseInt(names[i - 1]!, 16) + segmentSize;
    for (; expected < next && missing.length < MISSING_SHOWN; expected += segmentSize) {
      missing.push(expected.toString(16).padStart(16, '0'));
    }
  }
  return { first: names[0], last: names.at(-1), count: names.length, missing };
}
