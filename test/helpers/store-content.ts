/** Rows and file data put straight into a store, without a file system over it. */
import { TREE } from '../../src/encoding/keys.ts';
import type { Store } from '../../src/store/store.ts';

export function key(number: number): Buffer {
  return Buffer.from(`\0\0\0\0\0\0\0\x01${String(number).padStart(6, '0')}`, 'latin1');
}

export function put(store: Store, number: number, value: string): void {
  store.live.begin();
  store.live.put(TREE.namespace, key(number), Buffer.from(value));
  store.live.commit();
}

export function write(store: Store, inode: number, offset: number, bytes: Buffer): void {
  store.live.begin();
  store.live.writeData(inode, offset, bytes, 0, bytes.length);
  store.live.commit();
}

export function read(store: Store, inode: number, offset: number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  store.live.readData(inode, offset, bytes, 0, length);
  return bytes;
}
