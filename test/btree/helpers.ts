/** Shared by the tests of the tree: seeded random numbers, keys of all shapes, and comparing a tree with a model. */

import { compareBytes } from '../../src/encoding/bytes.ts';
import {
  cellCount,
  childChecksum,
  childLsn,
  childNumber,
  isLeaf,
  validateTreePage,
} from '../../src/encoding/cells.ts';
import { namespaceKey } from '../../src/encoding/keys.ts';
import type { PageRef } from '../../src/encoding/page.ts';
import type { MemoryPageSpace } from '../helpers/memory-page-space.ts';

/** A small generator of random numbers (mulberry32). */
export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = seed | 0;
  }
  /** 0 ≤ result < 1 */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  }
  below(limit: number): number {
    return Math.floor(this.next() * limit);
  }
  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }
}

const WORDS = [
  'a',
  'index',
  'node_modules',
  'README.md',
  'src',
  'test-data-with-a-longer-name',
  '\0',
  'ÿ',
  'zz',
];

/** Keys that collide, nest, share long prefixes, differ in length only, and reach both ends of what is allowed. */
export function randomKey(random: Random, spread: number): Buffer {
  switch (random.below(8)) {
    case 0:
      return random.bytes(random.below(12));
    case 1:
      return Buffer.concat([Buffer.alloc(random.below(255), 0x61), random.bytes(1 + random.below(4))]);
    case 2:
      return Buffer.alloc(1 + random.below(20), random.below(3));
    default: {
      const word = WORDS[random.below(WORDS.length)]!;
      return namespaceKey(random.below(6), Buffer.from(`${word}${random.below(spread)}`));
    }
  }
}

/** A sorted map with byte keys: what a tree should hold. */
export class Model {
  private readonly values: Map<string, Buffer>;
  constructor(values = new Map<string, Buffer>()) {
    this.values = values;
  }
  get size(): number {
    return this.values.size;
  }
  put(key: Buffer, value: Buffer): boolean {
    const name = key.toString('latin1');
    const isNew = !this.values.has(name);
    this.values.set(name, value);
    return isNew;
  }
  get(key: Buffer): Buffer | undefined {
    return this.values.get(key.toString('latin1'));
  }
  delete(key: Buffer): boolean {
    return this.values.delete(key.toString('latin1'));
  }
  copy(): Model {
    return new Model(new Map(this.values));
  }
  entries(): { key: Buffer; value: Buffer }[] {
    return [...this.values]
      .map(([name, value]) => ({ key: Buffer.from(name, 'latin1'), value }))
      .sort((a, b) => compareBytes(a.key, b.key));
  }
}

export function equalEntries(
  a: { key: Uint8Array; value: Uint8Array }[],
  b: { key: Uint8Array; value: Uint8Array }[],
): boolean {
  return (
    a.length === b.length &&
    a.every(
      (entry, i) => compareBytes(entry.key, b[i]!.key) === 0 && compareBytes(entry.value, b[i]!.value) === 0,
    )
  );
}

/** Validates every page below a root and returns their numbers. */
export function reachable(space: MemoryPageSpace, root: Readonly<PageRef>): Set<number> {
  const met = new Set<number>();
  const visit = (number: number, lsn: number, checksum: number): void => {
    if (met.has(number)) throw new Error(`page ${number} has two parents`);
    met.add(number);
    const b = space.get(number, lsn, checksum).bytes;
    validateTreePage(b, 0, true);
    if (isLeaf(b)) return;
    for (let slot = 0; slot < cellCount(b); slot++) {
      visit(childNumber(b, slot), childLsn(b, slot), childChecksum(b, slot));
    }
  };
  if (root.number !== 0) visit(root.number, root.lsn, root.checksum);
  return met;
}
