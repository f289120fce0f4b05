/**
 * Pages and trees as text, for people and for tests that hold the format against a known picture.
 *
 * The text depends on the bytes alone. Keys are shown as printable ASCII with the rest as \xNN. A page without a
 * place is shown as "new N", counted from the first such number.
 */

import { getU16, getU32 } from '../encoding/bytes.ts';
import {
  cellCount,
  cellOffset,
  childChecksum,
  childLsn,
  childNumber,
  copyKey,
  gapBytes,
  isLeaf,
  prefixLength,
  suffixLength,
  usedBytes,
  valueLength,
  valueStart,
} from '../encoding/cells.ts';
import { KEY_MAX, type TreeId } from '../encoding/keys.ts';
import {
  isTemporary,
  PAGE_CHECKSUM,
  PAGE_DEAD_BYTES,
  PAGE_HEADER_SIZE,
  PAGE_HEAP_START,
  PAGE_LEVEL,
  PAGE_TREE,
  type PageRef,
  pageLsn,
  TEMPORARY_BASE,
} from '../encoding/page.ts';
import { LsnfsError } from '../errors.ts';
import type { PageSpace } from '../storage/page-space.ts';
import { loadChild, loadRoot } from './path.ts';

export interface DumpOptions {
  /** How many bytes of a value are shown. */
  valueBytes?: number;
  /** Show the cells of leaves. */
  entries?: boolean;
}

/** Bytes as printable text in quotes. */
export function formatBytes(bytes: Uint8Array, limit = Infinity): string {
  let text = '';
  const shown = Math.min(bytes.length, limit);
  for (let i = 0; i < shown; i++) {
    const byte = bytes[i]!;
    if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, '0')}`;
  }
  return shown < bytes.length ? `"${text}"…` : `"${text}"`;
}

/** A page number as people see it. */
export function formatPageNumber(number: number): string {
  return isTemporary(number) ? `new ${number - TEMPORARY_BASE}` : String(number);
}

/** One page, line by line: its header, then a line a cell. The page is valid (validateTreePage). */
export function dumpPage(b: Uint8Array, number: number, options: DumpOptions = {}): string[] {
  const { valueBytes = 16, entries = true } = options;
  const leaf = isLeaf(b);
  const count = cellCount(b);
  const prefix = b.subarray(PAGE_HEADER_SIZE, PAGE_HEADER_SIZE + prefixLength(b));
  const place = isTemporary(number)
    ? ''
    : `, lsn ${pageLsn(b)}, checksum ${getU32(b, PAGE_CHECKSUM).toString(16).padStart(8, '0')}`;
  const lines = [
    `page ${formatPageNumber(number)}: ${leaf ? 'leaf' : 'branch'}, level ${b[PAGE_LEVEL]}, tree ${b[PAGE_TREE]}${place}`,
    `  cells ${count}, prefix ${formatBytes(prefix)}, heap at ${getU16(b, PAGE_HEAP_START)}, used ${usedBytes(b)}, ` +
      `gap ${gapBytes(b)}, dead ${getU16(b, PAGE_DEAD_BYTES)}`,
  ];
  if (leaf && !entries) return lines;
  for (let slot = 0; slot < count; slot++) {
    const cell = cellOffset(b, slot);
    const suffix = b.subarray(cell, cell + suffixLength(b, slot));
    const key = !leaf && slot === 0 ? '(lowest)' : formatBytes(suffix);
    const head = `  ${String(slot).padStart(4)} @${String(cell).padEnd(5)} ${key}`;
    if (leaf) {
      const start = valueStart(b, slot);
      const value = b.subarray(start, start + valueLength(b, slot));
      lines.push(`${head} = ${value.length} bytes ${formatBytes(value, valueBytes)}`);
    } else {
      const child = childNumber(b, slot);
      const known = isTemporary(child)
        ? ''
        : ` (lsn ${childLsn(b, slot)}, checksum ${childChecksum(b, slot).toString(16).padStart(8, '0')})`;
      lines.push(`${head} → page ${formatPageNumber(child)}${known}`);
    }
  }
  return lines;
}

/** A whole tree, children indented below their parents. A page that cannot be read is named, and the rest follows. */
export function* dumpTree(
  space: PageSpace,
  root: Readonly<PageRef>,
  treeId: TreeId,
  options: DumpOptions = {},
): Generator<string, void, undefined> {
  if (root.number === 0) {
    yield `tree ${treeId}: empty`;
    return;
  }
  yield* dumpBelow(space, treeId, () => loadRoot(space, treeId, root), options, '', NO_KEY);
}

const NO_KEY = Buffer.alloc(0);

function* dumpBelow(
  space: PageSpace,
  treeId: TreeId,
  load: () => { number: number; bytes: Buffer },
  options: DumpOptions,
  indent: string,
  above: Uint8Array,
): Generator<string, void, undefined> {
  let page: { number: number; bytes: Buffer };
  try {
    page = load();
  } catch (error) {
    if (!(error instanceof LsnfsError)) throw error;
    yield `${indent}unreadable: ${error.message}`;
    return;
  }
  const b = page.bytes;
  for (const line of dumpPage(b, page.number, options)) yield indent + line;
  if (isLeaf(b)) return;
  const key = Buffer.alloc(KEY_MAX);
  for (let slot = 0; slot < cellCount(b); slot++) {
    const low = slot === 0 ? above : Buffer.from(key.subarray(0, copyKey(b, slot, key, 0)));
    yield `${indent}  keys from ${slot === 0 && above.length === 0 ? 'the lowest' : formatBytes(low)}`;
    yield* dumpBelow(space, treeId, () => loadChild(space, treeId, b, slot), options, `${indent}    `, low);
  }
}
