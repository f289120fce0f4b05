/** Holds the offsets of pages and extents in the code against the document of the format. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import * as cells from '../../src/encoding/cells.ts';
import { encodeExtent, MAX_EXTENT_PAGES, MAX_UNWRITTEN_BLOCKS } from '../../src/encoding/extent.ts';
import * as page from '../../src/encoding/page.ts';
import {
  decodeCatalogRoot,
  decodeVersionRoot,
  encodeCatalogRoot,
  encodeVersionRoot,
} from '../../src/encoding/root.ts';

const text = readFileSync('docs/FORMAT.md', 'utf8');

/** The rows "| offset | size | name …" below a heading or line, up to the next one that is not of a table. */
function table(after: string): Map<string, { offset: number; size: number }> {
  const start = text.indexOf(after);
  if (start < 0) throw new Error(`the document has no "${after}"`);
  const rows = new Map<string, { offset: number; size: number }>();
  for (const line of text.slice(start).split('\n').slice(1)) {
    const row = /^\| (\d+) \| (\d+)(?: each)? \| ([^|]+?) \|/.exec(line);
    if (row !== null) rows.set(row[3]!, { offset: Number(row[1]), size: Number(row[2]) });
    else if (rows.size > 0 && !line.startsWith('|')) break;
  }
  return rows;
}

test('the header of a page', (t) => {
  const rows = table('### Header');
  const constants: [string, number][] = [
    ['checksum', page.PAGE_CHECKSUM],
    ['kind', page.PAGE_KIND_AT],
    ['level', page.PAGE_LEVEL],
    ['tree', page.PAGE_TREE],
    ['LSN', page.PAGE_LSN],
    ['number', page.PAGE_NUMBER],
    ['count', page.PAGE_COUNT],
    ['prefix length P', page.PAGE_PREFIX_LENGTH],
    ['heap start', page.PAGE_HEAP_START],
    ['dead bytes', page.PAGE_DEAD_BYTES],
  ];
  for (const [name, offset] of constants) t.is(rows.get(name)?.offset, offset, name);
  t.is(page.PAGE_HEADER_SIZE, 32);
  t.is(cells.SLOT_SIZE, 8);
  t.is(cells.CHILD_SIZE, 18);
});

test('root pages read as the document says', (t) => {
  const tree = (n: number) => ({ number: n, lsn: n + 1, checksum: n + 2, pageCount: n + 3 });
  const version = {
    lsn: 5000,
    timeMicroseconds: 10,
    namespace: tree(20),
    inodes: tree(30),
    registry: tree(40),
    nextInode: 50,
    inodeCount: 51,
    dataPages: 52,
  };
  const bytes = Buffer.alloc(4096);
  encodeVersionRoot(bytes, version);
  page.sealPage(bytes, 9, version.lsn);
  t.deepEqual(decodeVersionRoot(bytes, 9), version);
  const rows = table('Version root (kind 3):');
  const at = (name: string): number => rows.get(name)!.offset;
  t.is(bytes[page.PAGE_KIND_AT], 3);
  t.is(bytes.readUIntLE(at('time of the last transaction, µs'), 6), 10);
  t.is(bytes.readUIntLE(at('namespace tree'), 6), 20);
  t.is(bytes.readUIntLE(at('inode tree') + 6, 6), 31);
  t.is(bytes.readUInt32LE(at('registry tree') + 14), 42);
  t.is(bytes.readUIntLE(at('registry tree') + 18, 6), 43);
  t.is(bytes.readUIntLE(at('next inode number'), 6), 50);
  t.is(bytes.readUIntLE(at('inode records'), 6), 51);
  t.is(bytes.readUIntLE(at('blocks that extents map, unwritten ones included'), 6), 52);

  const catalog = {
    lsn: 6000,
    timeMicroseconds: 11,
    version: { number: 60, lsn: 61, checksum: 62 },
    versions: tree(70),
    lifetimes: tree(80),
    lives: tree(95),
    reclaimedLsn: 77,
    free: tree(90),
    frontier: 100,
    horizonLsn: 101,
    horizonTimeMicroseconds: 102,
    spare: [{ page: 7, count: 8 }],
  };
  encodeCatalogRoot(bytes, catalog);
  page.sealPage(bytes, 10, catalog.lsn);
  const decoded = decodeCatalogRoot(bytes, 10);
  t.deepEqual(decoded, { ...catalog, version: { ...catalog.version, pageCount: 1 } });
  const catalogRows = table('Catalog root (kind 4):');
  const value = (name: string): number => bytes.readUIntLE(catalogRows.get(name)!.offset, 6);
  t.is(bytes[page.PAGE_KIND_AT], 4);
  t.is(value('versions tree'), 70);
  t.is(value('lifetimes tree'), 80);
  t.is(value('free tree'), 90);
  t.is(value('lives tree'), 95);
  t.is(value('frontier: no page from here on is in use'), 100);
  t.is(value('horizon LSN: that of the version from which every state on can be opened'), 101);
  t.is(value('time of the horizon, µs'), 102);
  t.is(value('reclaimed LSN: what died up to it is not held by the log'), 77);
  t.is(value('number of spare runs'), 1);
  t.is(bytes.readUIntLE(200 + 6, 6), 8);
});

test('extents', (t) => {
  const value = encodeExtent({ block: 1, count: 2, page: 3, birth: 4, checksums: Uint32Array.of(5, 6) });
  const rows = table('### Extent');
  t.is(value.readUIntLE(0, 6), 3);
  t.is(rows.get([...rows.keys()].find((field) => field.startsWith('birth: '))!)?.offset, 8);
  t.is(value.readUInt16LE(6), 2);
  t.is(value.readUIntLE(8, 6), 4);
  t.is(value.readUInt32LE(20), 6);
  t.is(value.length, 24);
  t.is(encodeExtent({ block: 1, count: 900, page: 0, birth: 0, checksums: new Uint32Array(0) }).length, 16);
  t.true(
    text.includes(
      `count: 1 to ${MAX_EXTENT_PAGES}; up to ${MAX_UNWRITTEN_BLOCKS.toLocaleString('en')} when unwritten`,
    ),
  );
});
