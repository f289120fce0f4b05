/** The check of a state finds every kind of damage that is planted, and nothing in a sound state. */
import test from 'ava';
import { encodeDirent } from '../../src/encoding/dirent.ts';
import { encodeExtent } from '../../src/encoding/extent.ts';
import { INODE_LINKS, INODE_SIZE } from '../../src/encoding/inode.ts';
import { extentKey, inodeKey, namespaceKey, orphanKey, TREE, xattrKey } from '../../src/encoding/keys.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { ROOT_CALLER, ROOT_INODE, S_IFDIR, S_IFREG } from '../../src/vfs/file-system.ts';
import type { FakeLiveState } from '../helpers/fake-live-state.ts';
import { makeFile, makeFixture } from '../helpers/vfs-fixture.ts';

interface Sound {
  readonly state: FakeLiveState;
  readonly file: number;
  readonly large: number;
  readonly directory: number;
  readonly below: number;
}

function sound(): Sound {
  const { state, fs } = makeFixture({}, { rollback: false });
  const file = makeFile(fs, 'f', 'content');
  const large = makeFile(fs, 'large', Buffer.alloc(30_000, 1));
  const directory = fs.mkdir(ROOT_CALLER, ROOT_INODE, Buffer.from('d'), 0o755).inode;
  const below = fs.mkdir(ROOT_CALLER, directory, Buffer.from('e'), 0o755).inode;
  fs.setxattr(ROOT_CALLER, file, Buffer.from('user.a'), Buffer.alloc(3000, 1), 0, false);
  return { state, file, large, directory, below };
}

function dirent(inode: number, mode: number): Buffer {
  const value = Buffer.alloc(8);
  return value.subarray(0, encodeDirent(value, inode, mode));
}

function changeRecord(state: FakeLiveState, inode: number, change: (record: Buffer) => void): void {
  const record = Buffer.from(state.inodes.get(inodeKey(inode))!);
  change(record);
  state.put(TREE.inodes, inodeKey(inode), record);
}

const DAMAGE: Record<string, { plant: (at: Sound) => void; says: RegExp }> = {
  'an entry without an inode': {
    plant: ({ state }) => state.put(TREE.namespace, namespaceKey(1, Buffer.from('x')), dirent(999, S_IFREG)),
    says: /inode 999, which does not exist/,
  },
  'an entry of another type': {
    plant: ({ state, file }) =>
      state.put(TREE.namespace, namespaceKey(1, Buffer.from('f')), dirent(file, S_IFDIR)),
    says: /has type 40000/,
  },
  'an entry too many': {
    plant: ({ state, file }) =>
      state.put(TREE.namespace, namespaceKey(1, Buffer.from('g')), dirent(file, S_IFREG)),
    says: /1 links, 2 entries/,
  },
  'an entry too few': {
    plant: ({ state }) => state.delete(TREE.namespace, namespaceKey(1, Buffer.from('f'))),
    says: /1 links, 0 entries/,
  },
  'an entry that is no entry': {
    plant: ({ state }) =>
      state.put(TREE.namespace, namespaceKey(1, Buffer.from('f')), Buffer.from([0x87, 1])),
    says: /directory entry is damaged/,
  },
  'a name with a slash': {
    plant: ({ state, file }) =>
      state.put(TREE.namespace, namespaceKey(1, Buffer.from('a/b')), dirent(file, S_IFREG)),
    says: /is not one/,
  },
  'entries below a file': {
    plant: ({ state, file }) =>
      state.put(TREE.namespace, namespaceKey(file, Buffer.from('x')), dirent(file, S_IFREG)),
    says: /no directory/,
  },
  'entries below nothing': {
    plant: ({ state, file }) =>
      state.put(TREE.namespace, namespaceKey(77, Buffer.from('x')), dirent(file, S_IFREG)),
    says: /does not exist/,
  },
  'a directory with two entries': {
    plant: ({ state, below }) =>
      state.put(TREE.namespace, namespaceKey(1, Buffer.from('x')), dirent(below, S_IFDIR)),
    says: /2 entries that mean it/,
  },
  'a circle of directories': {
    plant: ({ state, directory, below }) => {
      state.delete(TREE.namespace, namespaceKey(1, Buffer.from('d')));
      state.put(TREE.namespace, namespaceKey(below, Buffer.from('d')), dirent(directory, S_IFDIR));
      changeRecord(state, directory, (record) => record.writeUInt8(below, 32 - 8));
    },
    says: /cannot be reached/,
  },
  'a wrong count of links': {
    plant: ({ state, directory }) =>
      changeRecord(state, directory, (record) => record.writeUInt32LE(9, INODE_LINKS)),
    says: /9 links instead of 3/,
  },
  'a wrong size of a directory': {
    plant: ({ state, directory }) =>
      changeRecord(state, directory, (record) => record.writeUInt8(1, INODE_SIZE)),
    says: /of size 1 instead of 17/,
  },
  'a record that is none': {
    plant: ({ state, file }) => changeRecord(state, file, (record) => record.writeUInt16LE(0o170000, 0)),
    says: /record of inode \d+ is damaged/,
  },
  'extents of an inline file': {
    plant: ({ state, file }) => {
      const extent = { block: 0, count: 1, page: 1, birth: 0, checksums: new Uint32Array(1) };
      state.put(TREE.inodes, extentKey(file, 0), encodeExtent(extent));
    },
    says: /inline content and extents/,
  },
  'an extent past the end': {
    plant: ({ state, large }) => {
      const extent = { block: 100, count: 1, page: 1, birth: 0, checksums: new Uint32Array(1) };
      state.put(TREE.inodes, extentKey(large, 100), encodeExtent(extent));
    },
    says: /past the end of the file/,
  },
  'extents that overlap': {
    plant: ({ state, large }) => {
      const extent = { block: 1, count: 3, page: 1, birth: 0, checksums: new Uint32Array(3) };
      state.put(TREE.inodes, extentKey(large, 1), encodeExtent(extent));
    },
    says: /overlaps the one before/,
  },
  'a missing extent': {
    plant: ({ state, large }) => state.delete(TREE.inodes, extentKey(large, 2)),
    says: /counts 8 pages, its extents 7/,
  },
  'an extent that is none': {
    plant: ({ state, large }) => state.put(TREE.inodes, extentKey(large, 2), Buffer.from([1])),
    says: /extent of block 2 is damaged/,
  },
  'a missing chunk of an xattr': {
    plant: ({ state, file }) => state.delete(TREE.inodes, xattrKey(file, Buffer.from('user.a'), 1)),
    says: /chunk 1 is missing/,
  },
  'an xattr without its flag': {
    plant: ({ state, large }) =>
      state.put(TREE.inodes, xattrKey(large, Buffer.from('user.a'), 0), Buffer.alloc(4)),
    says: /its extended attributes say/,
  },
  'an orphan without an inode': {
    plant: ({ state }) => state.put(TREE.inodes, orphanKey(55), Buffer.alloc(0)),
    says: /orphan entry without an inode/,
  },
  'an orphan with links': {
    plant: ({ state, file }) => state.put(TREE.inodes, orphanKey(file), Buffer.alloc(0)),
    says: /on the list of orphans/,
  },
  'an item of no known kind': {
    plant: ({ state, file }) => {
      const key = inodeKey(file);
      key[8] = 0x77;
      state.put(TREE.inodes, key, Buffer.alloc(3));
    },
    says: /unknown kind 119/,
  },
  'a wrong number of inodes': {
    plant: ({ state }) => {
      state.counters.inodes++;
    },
    says: /inodes are counted/,
  },
  'a wrong number of pages': {
    plant: ({ state }) => {
      state.counters.dataPages++;
    },
    says: /pages of data are counted/,
  },
  'a next inode number that was given already': {
    plant: ({ state }) => {
      state.counters.nextInode = 3;
    },
    says: /not below the next one/,
  },
  'no root': {
    plant: ({ state }) => state.delete(TREE.inodes, inodeKey(ROOT_INODE)),
    says: /no root directory/,
  },
};

for (const [what, { plant, says }] of Object.entries(DAMAGE)) {
  test(`check finds ${what}`, (t) => {
    const at = sound();
    t.deepEqual(checkFileSystem(at.state), []);
    at.state.begin();
    plant(at);
    at.state.commit();
    const problems = checkFileSystem(at.state).map(({ inode, message }) => `${inode}: ${message}`);
    t.true(
      problems.some((problem) => says.test(problem)),
      problems.join('\n') || 'nothing was found',
    );
  });
}
