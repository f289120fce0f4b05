/** Holds the offsets in the code against the document of the format. */
import * as fs from 'node:fs';
import test from 'ava';
import * as control from '../../src/encoding/control.ts';
import * as frame from '../../src/encoding/frame.ts';
import * as record from '../../src/encoding/record.ts';

const text = fs.readFileSync('docs/FORMAT.md', 'utf8');

test('the offsets of control block, segments and frames are those of the document', (t) => {
  const documented = new Map<string, { offset: number; size: number }>();
  for (const row of text.matchAll(
    /^\|\s*([\d,]+)\s*\|\s*([\d,]*)\s*\|\s*`((?:CONTROL|SEGMENT|FRAME)_\w+)`/gm,
  )) {
    const [offset, size] = [row[1]!, row[2]!].map((digits) => Number(digits.replaceAll(',', ''))) as [
      number,
      number,
    ];
    documented.set(row[3]!, { offset, size });
  }
  const constants = new Map<string, unknown>([...Object.entries(control), ...Object.entries(frame)]);
  t.true(documented.size >= 33, `${documented.size} offsets`);
  for (const [name, { offset }] of documented) t.is(constants.get(name), offset, name);
  // Each field ends where the next begins.
  const names = [...documented.keys()];
  for (const [i, name] of names.entries()) {
    const { offset, size } = documented.get(name)!;
    const next = documented.get(names[i + 1] ?? '');
    if (next !== undefined && next.offset > offset) t.is(offset + size, next.offset, name);
  }
});

test('the records are those of the document', (t) => {
  const documented = new Map<string, { op: number; size: number }>();
  for (const row of text.matchAll(/^\|\s*(\d+)\s*\|\s*([A-Z_]+)\s*\|[^|]*\|\s*(\d+)\s*\|$/gm)) {
    documented.set(row[2]!, { op: Number(row[1]), size: Number(row[3]) });
  }
  t.is(documented.size, Object.keys(record.RECORD).length);
  for (const [name, op] of Object.entries(record.RECORD)) {
    const upper = name.replace(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
    t.is(documented.get(upper)?.op, op, upper);
    t.is((record as Record<string, unknown>)[`${upper}_SIZE`], documented.get(upper)?.size, upper);
  }
});
