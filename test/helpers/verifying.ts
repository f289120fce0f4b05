/** Whole checks of stores in memory, and what they should say. */
import { checkTree } from '../../src/btree/check.ts';
import { cellCount, copyKey, valueLength, valueStart } from '../../src/encoding/cells.ts';
import { decodeExtent, UNWRITTEN } from '../../src/encoding/extent.ts';
import { KIND_EXTENT, TREE } from '../../src/encoding/keys.ts';
import type { StorageDirectory } from '../../src/storage/device.ts';
import type { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { StoreCheck } from '../../src/store/check.ts';
import { TreeState } from '../../src/store/tree-state.ts';
import {
  type CheckReport,
  type DamageReport,
  Verification,
  type VerifyOptions,
} from '../../src/vfs/verify.ts';

/** The whole check, at once. */
export function verify(directory: StorageDirectory, options: Partial<VerifyOptions> = {}): CheckReport {
  const verification = new Verification(directory, {
    textOf: (name) => Buffer.from(name).toString('utf8'),
    timeText: String,
    ...options,
  });
  const steps = verification.run();
  try {
    for (;;) {
      const step = steps.next();
      if (step.done === true) return step.value;
    }
  } finally {
    verification.close();
  }
}

/** What a report lists, a line each; empty for a sound store. */
export function linesOf(report: CheckReport): string[] {
  const lines = report.damages.map(({ file, offset, message }) => `${file} at ${offset}: ${message}`);
  return [...lines, ...report.notes];
}

/** LSNs of the versions that a damage hits, oldest first. */
export function versionsHit(damage: DamageReport, all: readonly number[]): number[] {
  return all.filter((lsn) => damage.versions.some(({ fromLsn, toLsn }) => lsn >= fromLsn && lsn <= toLsn));
}

/** Changes bytes of a file; returns what was there. */
export function overwrite(
  directory: MemoryDirectory,
  name: string,
  offset: number,
  bytes: Uint8Array,
): Buffer {
  const device = directory.open(name);
  const before = Buffer.alloc(bytes.length);
  device.read(offset, before, 0, before.length);
  device.write(offset, bytes, 0, bytes.length);
  device.close();
  return before;
}

/** Inverts a bit of a file. */
export function flip(directory: MemoryDirectory, name: string, offset: number): void {
  const device = directory.open(name);
  const byte = Buffer.alloc(1);
  device.read(offset, byte, 0, 1);
  byte[0] = byte[0]! ^ 0x10;
  device.write(offset, byte, 0, 1);
  device.close();
}

export interface KnownVersion {
  readonly lsn: number;
  readonly state: TreeState;
  /** Pages that it leads to, and of which kind. */
  readonly pages: ReadonlyMap<number, 'root' | 'namespace' | 'inodes' | 'registry' | 'data'>;
}

/** The versions of a sound store, oldest first, each walked by itself. */
export function versionsOf(directory: StorageDirectory): KnownVersion[] {
  const check = new StoreCheck(directory, { log: false });
  for (const _step of check.run());
  const { pages, cache } = check;
  const result: KnownVersion[] = [];
  const key = Buffer.alloc(300);
  pages!.versions.forEach((row, index) => {
    const state = new TreeState(cache!, pages!.roots[index]!, false);
    const found = new Map<number, 'root' | 'namespace' | 'inodes' | 'registry' | 'data'>([
      [row.root.number, 'root'],
    ]);
    const kinds = ['namespace', 'inodes', 'registry'] as const;
    state.trees().forEach((tree, i) => {
      checkTree(tree.space, tree.root, tree.treeId, ({ number, level, bytes }) => {
        found.set(number, kinds[i]!);
        if (tree.treeId !== TREE.inodes || level > 0) return true;
        for (let slot = 0; slot < cellCount(bytes); slot++) {
          if (copyKey(bytes, slot, key, 0) !== 17 || key[8] !== KIND_EXTENT) continue;
          const extent = decodeExtent(0, bytes, valueStart(bytes, slot), valueLength(bytes, slot));
          if (extent.page === UNWRITTEN) continue;
          for (let page = extent.page; page < extent.page + extent.count; page++) found.set(page, 'data');
        }
        return true;
      });
    });
    result.unshift({ lsn: row.lsn, state, pages: found });
  });
  return result;
}
