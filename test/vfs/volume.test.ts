/** Doors of a volume: numbers, leases, and what names no state. */
import test from 'ava';
import { Database, MemoryDirectory } from '../../src/index.ts';
import { Store } from '../../src/store/store.ts';
import { ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';

const name = (text: string): Buffer => Buffer.from(text);

async function newDatabase(): Promise<Database> {
  const directory = new MemoryDirectory('memory');
  Store.initialize(directory, { segmentSize: 1024 * 1024 });
  return Database.over(directory);
}

test('a door has one number for its name and state, also after it was closed', async (t) => {
  const database = await newDatabase();
  const { lsn } = await database.put('/f', 'one');
  await database.snapshots.create('s');
  const { volume } = database;
  const door = volume.door(name(`@lsn-${lsn}`))!;
  const other = volume.door(name('@s'))!;
  t.not(door.number, other.number, 'two names are two doors');
  t.true(door.immutable);
  door.retain(3);
  t.is(volume.door(name(`@lsn-${lsn}`)), door);
  t.is(volume.doorByNumber(door.number), door);
  door.release(3);
  t.throws(() => volume.doorByNumber(door.number), { code: 'ESTALE' });
  t.is(volume.door(name(`@lsn-${lsn}`))!.number, door.number);
  t.is(other.fileSystem.lookup(ROOT_CALLER, ROOT_INODE, name('f'))?.size, 3);
  t.deepEqual((await database.check()).problems, []);
  await database.close();
});

test('"@latest" is another door once something was committed, and memory of the old ones is bounded', async (t) => {
  const database = await newDatabase();
  const { volume } = database;
  const numbers = new Set<number>();
  for (let i = 0; i < 300; i++) {
    await database.put('/f', `value ${i}`);
    const door = volume.door(name('@latest'))!;
    t.false(door.immutable);
    t.is(door.fileSystem.lookup(ROOT_CALLER, ROOT_INODE, name('f'))?.size, `value ${i}`.length);
    door.retain(1);
    door.release(1);
    numbers.add(door.number);
  }
  t.is(numbers.size, 300);
  t.deepEqual((await database.check()).problems, []);
  await database.close();
});

test('names that name no state', async (t) => {
  const database = await newDatabase();
  await database.put('/f', 'x');
  const { volume } = database;
  t.is(volume.door(name('@nobody')), undefined);
  t.is(volume.door(name('f')), undefined);
  t.throws(() => volume.door(name('@lsn-99999999')), { code: 'NO_SUCH_STATE', message: /in the future/ });
  t.throws(() => volume.door(name('@lsn-0')), { code: 'NO_SUCH_STATE', message: /before every state/ });
  t.throws(() => volume.door(name('@lsn-what')), { code: 'NO_SUCH_STATE' });
  t.throws(() => volume.door(name('@1999-01-01T000000Z')), { code: 'NO_SUCH_STATE' });
  t.throws(() => volume.door(name('@2999-01-01T000000Z')), { code: 'NO_SUCH_STATE', message: /future/ });
  t.throws(() => volume.door(name('@2026-02-30')), { code: 'NO_SUCH_STATE', message: /not a time/ });
  await database.close();
});

test('"@" lists the snapshots as links, oldest first', async (t) => {
  const database = await newDatabase();
  const { volume } = database;
  for (const snapshot of ['zebra', 'apple']) await database.snapshots.create(snapshot);
  const { fileSystem } = volume.door(name('@'))!;
  const handle = fileSystem.opendir(ROOT_CALLER, ROOT_INODE);
  const found: string[] = [];
  fileSystem.readdir(handle, 0, (entry) => found.push(Buffer.from(entry).toString()) > 0);
  t.deepEqual(found, ['.', '..', 'zebra', 'apple']);
  const rest: string[] = [];
  fileSystem.readdir(handle, 3, (entry) => rest.push(Buffer.from(entry).toString()) > 0);
  t.deepEqual(rest, ['apple'], 'a cookie resumes');
  fileSystem.releasedir(handle);
  const link = fileSystem.lookup(ROOT_CALLER, ROOT_INODE, name('apple'))!;
  t.is(Buffer.from(fileSystem.readlink(ROOT_CALLER, link.inode)).toString(), '../@apple');
  t.is(fileSystem.lookup(ROOT_CALLER, ROOT_INODE, name('pear')), undefined);
  t.throws(() => fileSystem.unlink(ROOT_CALLER, ROOT_INODE, name('apple')), { code: 'EROFS' });
  await database.snapshots.delete('apple');
  t.is(fileSystem.lookup(ROOT_CALLER, ROOT_INODE, name('apple')), undefined);
  await database.close();
});
