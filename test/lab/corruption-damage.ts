/**
 * Damage of a store: where it can be done, and what is done there. Each piece of damage is drawn from a seeded
 * random source, changes a clone of the store, and says which bytes of which files it touched.
 */

import { getU32, getU48 } from '../../src/encoding/bytes.ts';
import { cellCount, copyKey, keyLength, valueLength, valueStart } from '../../src/encoding/cells.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import { CONTROL_NAME, CONTROL_SLOT_SIZE } from '../../src/encoding/control.ts';
import { decodeExtent, UNWRITTEN } from '../../src/encoding/extent.ts';
import { SEGMENT_HEADER_SIZE } from '../../src/encoding/frame.ts';
import { extentKeyBlock, KIND_EXTENT, TREE } from '../../src/encoding/keys.ts';
import { PAGE_CHECKSUM, PAGE_KIND, PAGE_KIND_AT, PAGE_NUMBER, PAGE_TREE } from '../../src/encoding/page.ts';
import type { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { SETTINGS_NAME } from '../../src/store/settings.ts';
import type { Random } from '../helpers/random.ts';
import { type BuiltStore, type ByteRange, fileBytes, SEGMENT_SIZE } from './corruption-store.ts';

const DATA_NAME = 'data';

export interface Damage {
  readonly what: string;
  readonly touched: readonly ByteRange[];
  /** Whether it makes a file that is not there. */
  readonly creates?: boolean;
  readonly apply: (directory: MemoryDirectory) => void;
}

const TREE_NAMES = new Map<number, string>(Object.entries(TREE).map(([name, id]) => [id, name]));

/** The pages of a data file by what they are: "leaf of inodes", "version root", "data", "free". */
export function pagesByKind(built: BuiltStore): Map<string, number[]> {
  const { pageSize } = built;
  const bytes = fileBytes(built.directory, DATA_NAME);
  const kinds = new Map<number, string>();
  const data = new Set<number>();
  const key = Buffer.alloc(300);
  const count = Math.floor(bytes.length / pageSize);
  for (let number = 1; number < count; number++) {
    const page = bytes.subarray(number * pageSize, (number + 1) * pageSize);
    const whole = getU32(page, PAGE_CHECKSUM) === crc32(page, 4) && getU48(page, PAGE_NUMBER) === number;
    if (!whole) continue;
    const kind = page[PAGE_KIND_AT];
    const tree = TREE_NAMES.get(page[PAGE_TREE]!);
    if (kind === PAGE_KIND.versionRoot) kinds.set(number, 'version root');
    else if (kind === PAGE_KIND.catalogRoot) kinds.set(number, 'catalog root');
    else if (kind === PAGE_KIND.branch) kinds.set(number, `branch of ${tree}`);
    else if (kind === PAGE_KIND.leaf) {
      kinds.set(number, `leaf of ${tree}`);
      if (page[PAGE_TREE] !== TREE.inodes) continue;
      for (let slot = 0; slot < cellCount(page); slot++) {
        if (keyLength(page, slot) !== 17) continue;
        copyKey(page, slot, key, 0);
        if (key[8] !== KIND_EXTENT) continue;
        const extent = decodeExtent(
          extentKeyBlock(key),
          page,
          valueStart(page, slot),
          valueLength(page, slot),
        );
        if (extent.page === UNWRITTEN) continue;
        for (let i = 0; i < extent.count; i++) data.add(extent.page + i);
      }
    }
  }
  const found = new Map<string, number[]>();
  for (let number = 1; number < count; number++) {
    const kind = data.has(number) ? 'data' : (kinds.get(number) ?? 'free');
    const list = found.get(kind) ?? [];
    list.push(number);
    found.set(kind, list);
  }
  return found;
}

/** Changes bytes of a file: `change` is given the bytes of the range and alters them. */
function edit(file: string, from: number, to: number, what: string, change: (bytes: Buffer) => void): Damage {
  return {
    what: `${what} at ${from}..${to} of ${file}`,
    touched: [{ file, from, to }],
    apply: (directory) => {
      const device = directory.open(file);
      const bytes = Buffer.alloc(to - from);
      const length = device.read(from, bytes, 0, bytes.length);
      change(bytes.subarray(0, length));
      device.write(from, bytes, 0, length);
    },
  };
}

/** Flips bits of one byte. */
export function flip(file: string, at: number, mask: number): Damage {
  return edit(file, at, at + 1, `bits ${mask} flipped`, (bytes) => {
    bytes[0] = bytes[0]! ^ mask;
  });
}

export function removal(file: string): Damage {
  return {
    what: `${file} removed`,
    touched: [{ file, from: 0, to: Number.POSITIVE_INFINITY }],
    apply: (directory) => directory.remove(file),
  };
}

export function truncation(file: string, size: number): Damage {
  return {
    what: `${file} cut off at ${size}`,
    touched: [{ file, from: size, to: Number.POSITIVE_INFINITY }],
    apply: (directory) => directory.open(file).truncate(size),
  };
}

function overwritten(file: string, bytes: Buffer, what: string): Damage {
  return {
    what: `${file} is ${what}`,
    creates: true,
    touched: [{ file, from: 0, to: Number.POSITIVE_INFINITY }],
    apply: (directory) => {
      const device = directory.open(file, { create: true });
      device.truncate(0);
      device.write(0, bytes, 0, bytes.length);
    },
  };
}

function appended(file: string, size: number, bytes: Buffer): Damage {
  return {
    what: `${bytes.length} bytes appended to ${file}`,
    touched: [{ file, from: size, to: size + bytes.length }],
    apply: (directory) => directory.open(file).write(size, bytes, 0, bytes.length),
  };
}

/** Everything that can be done to one store. */
export class DamageSource {
  readonly kinds: ReadonlyMap<string, number[]>;
  private readonly built: BuiltStore;
  private readonly kindNames: string[];
  private readonly dataSize: number;
  /** The control file of another store. */
  private readonly stranger: BuiltStore;

  constructor(built: BuiltStore, stranger: BuiltStore) {
    this.built = built;
    this.stranger = stranger;
    this.kinds = pagesByKind(built);
    this.kindNames = [...this.kinds.keys()].sort();
    this.dataSize = fileBytes(built.directory, DATA_NAME).length;
  }

  /** One seeded piece of damage. */
  draw(random: Random): Damage {
    const what = random.below(100);
    if (what < 50) return this.ofPages(random);
    if (what < 60) return this.ofData(random);
    if (what < 72) return this.ofControl(random);
    if (what < 96) return this.ofLog(random);
    return this.ofFiles(random);
  }

  private page(random: Random): { kind: string; number: number } {
    const kind = this.kindNames[random.below(this.kindNames.length)]!;
    const pages = this.kinds.get(kind)!;
    // The newest pages are those that the live state needs.
    const number =
      random.below(2) === 0
        ? pages[random.below(pages.length)]!
        : pages[pages.length - 1 - random.below(Math.min(8, pages.length))]!;
    return { kind, number };
  }

  private ofPages(random: Random): Damage {
    const { pageSize, olderPages } = this.built;
    const { kind, number } = this.page(random);
    const from = number * pageSize;
    const how = random.below(12);
    const named = (damage: Damage): Damage => ({
      ...damage,
      what: `${kind}, page ${number}: ${damage.what}`,
    });
    if (how < 4) {
      // Half of the flips hit the header, slots and the first bytes.
      const at = random.below(2) === 0 ? random.below(96) : random.below(pageSize);
      return named(flip(DATA_NAME, from + at, 1 << random.below(8)));
    }
    if (how < 6) return named(flip(DATA_NAME, from + random.below(pageSize), 1 + random.below(255)));
    if (how < 7) return named(edit(DATA_NAME, from, from + pageSize, 'zeros', (bytes) => bytes.fill(0)));
    if (how < 8) {
      const at = from + random.below(pageSize);
      const to = Math.min(from + pageSize, at + 1 + random.below(600));
      return named(edit(DATA_NAME, at, to, 'ones', (bytes) => bytes.fill(0xff)));
    }
    if (how < 10 && olderPages.size > 0) {
      const older = olderPages.get(number);
      const other = older ?? olderPages.get([...olderPages.keys()][random.below(olderPages.size)]!)!;
      const what = older === undefined ? "another page's old content" : 'its old content';
      return named(edit(DATA_NAME, from, from + pageSize, what, (bytes) => other.copy(bytes)));
    }
    return this.swapped(number, this.page(random).number);
  }

  /** Two pages that were written to each other's places. */
  private swapped(a: number, b: number): Damage {
    const { pageSize } = this.built;
    const range = (number: number): ByteRange => ({
      file: DATA_NAME,
      from: number * pageSize,
      to: (number + 1) * pageSize,
    });
    return {
      what: `pages ${a} and ${b} swapped`,
      touched: [range(a), range(b)],
      apply: (directory) => {
        const device = directory.open(DATA_NAME);
        const bytes = [a, b].map((number) => {
          const page = Buffer.alloc(pageSize);
          device.read(number * pageSize, page, 0, pageSize);
          return page;
        });
        device.write(b * pageSize, bytes[0]!, 0, pageSize);
        device.write(a * pageSize, bytes[1]!, 0, pageSize);
      },
    };
  }

  private ofData(random: Random): Damage {
    const size = this.dataSize;
    const at = random.below(size);
    const to = Math.min(size, at + 1 + random.below(40_000));
    switch (random.below(4)) {
      case 0:
        return truncation(DATA_NAME, random.below(3) === 0 ? at - (at % this.built.pageSize) : at);
      case 1:
        return edit(DATA_NAME, at, to, 'zeros', (bytes) => bytes.fill(0));
      case 2:
        return edit(DATA_NAME, at, to, 'ones', (bytes) => bytes.fill(0xff));
      default:
        return appended(DATA_NAME, size, random.bytes(1 + random.below(9000)));
    }
  }

  private ofControl(random: Random): Damage {
    const slot = random.below(2) * CONTROL_SLOT_SIZE;
    const size = 2 * CONTROL_SLOT_SIZE;
    switch (random.below(9)) {
      case 0:
      case 1:
      case 2:
        return flip(CONTROL_NAME, slot + random.below(104), 1 << random.below(8));
      case 3:
        return flip(CONTROL_NAME, slot + random.below(CONTROL_SLOT_SIZE), 1 + random.below(255));
      case 4:
        return truncation(CONTROL_NAME, random.below(size));
      case 5:
        return edit(CONTROL_NAME, slot, slot + 1 + random.below(4096), 'zeros', (bytes) => bytes.fill(0));
      case 6:
        return appended(CONTROL_NAME, size, random.bytes(1 + random.below(5000)));
      case 7:
        return overwritten(CONTROL_NAME, fileBytes(this.stranger.directory, CONTROL_NAME), "another store's");
      default: {
        const bytes = fileBytes(this.built.directory, CONTROL_NAME);
        const turned = Buffer.concat([
          bytes.subarray(CONTROL_SLOT_SIZE),
          bytes.subarray(0, CONTROL_SLOT_SIZE),
        ]);
        return overwritten(CONTROL_NAME, turned, 'itself with its slots exchanged');
      }
    }
  }

  private ofLog(random: Random): Damage {
    const { frames, directory } = this.built;
    // Most damage goes to the last frames, which recovery reads.
    const near = random.below(3) > 0 ? Math.max(0, frames.length - 45) : 0;
    const index = near + random.below(frames.length - near);
    const { file, from, to } = frames[index]!;
    const last = frames[frames.length - 1]!;
    switch (random.below(14)) {
      case 0:
      case 1:
      case 2:
        return flip(file, from + random.below(48), 1 << random.below(8));
      case 3:
      case 4:
        return flip(file, from + random.below(to - from), 1 + random.below(255));
      case 5:
        return flip(file, random.below(SEGMENT_HEADER_SIZE), 1 + random.below(255));
      case 6:
        return flip(file, last.to + random.below(SEGMENT_SIZE - last.to), 1 + random.below(255));
      case 7:
        return edit(file, from, Math.min(SEGMENT_SIZE, from + 1 + random.below(4000)), 'zeros', (bytes) =>
          bytes.fill(0),
        );
      case 8:
        return edit(file, from, SEGMENT_SIZE, 'zeros to the end', (bytes) => bytes.fill(0));
      case 9:
        return edit(file, from + random.below(8), to, 'ones', (bytes) => bytes.fill(0xff));
      case 10:
        return truncation(file, random.below(2) === 0 ? from : from + random.below(to - from));
      case 11: {
        // A frame of the past where another should stand.
        const other = frames[random.below(frames.length)]!;
        const content = fileBytes(directory, other.file).subarray(other.from, other.to);
        const end = Math.min(SEGMENT_SIZE, from + content.length);
        return edit(file, from, end, `the frame of ${other.from}`, (bytes) => content.copy(bytes));
      }
      case 12:
        return appended(file, SEGMENT_SIZE, random.bytes(1 + random.below(5000)));
      default: {
        const names = directory.list('wal').map((name) => `wal/${name}`);
        const one = names[random.below(names.length)]!;
        const other = names[random.below(names.length)]!;
        const copy = fileBytes(directory, one);
        if (random.below(2) === 0) return removal(one);
        const name =
          random.below(2) === 0
            ? other
            : `wal/${(SEGMENT_SIZE * random.below(6)).toString(16).padStart(16, '0')}`;
        return overwritten(name, copy, `a copy of ${one}`);
      }
    }
  }

  private ofFiles(random: Random): Damage {
    switch (random.below(6)) {
      case 0:
        return removal(CONTROL_NAME);
      case 1:
        return removal(DATA_NAME);
      case 2:
        return removal(SETTINGS_NAME);
      case 3:
        return overwritten(SETTINGS_NAME, random.bytes(random.below(300)), 'garbage');
      case 4: {
        const text = [
          '{',
          '[]',
          'null',
          '{"toString":1}',
          '{"cacheSizeBytes":1e99}',
          '{"plugins":[""]}',
          '\0',
          '',
        ];
        return overwritten(SETTINGS_NAME, Buffer.from(text[random.below(text.length)]!), 'of no use');
      }
      default:
        return overwritten('wal/preparing', random.bytes(500), 'half-made');
    }
  }
}
