/**
 * Devices in memory: a store for tests and for programs that want no files.
 *
 * All devices of one name share the file, as descriptors do, also after its name is gone. `capacity` bounds the
 * bytes of all files together (NO_SPACE beyond it), and `fault` lets a test fail any single operation. Nothing here
 * is ever lost: the device that loses what was not synced is SimulatedDisk.
 */
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from './device.ts';
import { SparseBytes } from './sparse-bytes.ts';

export type DeviceOperation =
  | 'open'
  | 'read'
  | 'write'
  | 'truncate'
  | 'sync'
  | 'rename'
  | 'remove'
  | 'syncDirectory';

/** Called before each operation; what it throws is the operation's failure. */
export type FaultHook = (operation: DeviceOperation, name: string, position: number, length: number) => void;

export class MemoryDirectory implements StorageDirectory {
  readonly path: string;
  /** Bytes that all files may have together. */
  capacity: number;
  fault: FaultHook | undefined;
  /** Completed syncs of devices, for tests of group commit. */
  syncCount = 0;
  private readonly files = new Map<string, SparseBytes>();
  private readonly directories = new Set<string>(['']);

  constructor(name = 'memory', capacity = Number.POSITIVE_INFINITY) {
    this.path = name;
    this.capacity = capacity;
  }

  /** A copy of all files as they are now: what another process would find after this one was killed. */
  clone(): MemoryDirectory {
    const copy = new MemoryDirectory(this.path, this.capacity);
    for (const [name, file] of this.files) copy.files.set(name, file.clone());
    for (const name of this.directories) copy.directories.add(name);
    return copy;
  }

  /** Bytes of all files together. */
  usedBytes(): number {
    let used = 0;
    for (const file of this.files.values()) used += file.size;
    return used;
  }

  exists(name: string): boolean {
    return this.files.has(name) || this.directories.has(name);
  }

  open(name: string, options: { create?: boolean; readOnly?: boolean } = {}): Device {
    this.fault?.('open', name, -1, 0);
    let file = this.files.get(name);
    if (file === undefined) {
      const slash = name.lastIndexOf('/');
      const parentExists = this.directories.has(slash < 0 ? '' : name.slice(0, slash));
      if (options.create !== true || !parentExists) throw this.missing('open', name);
      file = new SparseBytes();
      this.files.set(name, file);
    }
    return new MemoryDevice(this, file, name, options.readOnly === true);
  }

  list(subdirectory: string): string[] {
    if (!this.directories.has(subdirectory)) throw this.missing('list', subdirectory);
    const prefix = subdirectory === '' ? '' : `${subdirectory}/`;
    const names: string[] = [];
    for (const name of this.files.keys()) {
      if (name.startsWith(prefix) && !name.includes('/', prefix.length))
        names.push(name.slice(prefix.length));
    }
    return names.sort();
  }

  makeDirectory(name: string): void {
    this.directories.add(name);
  }

  rename(from: string, to: string): void {
    this.fault?.('rename', from, -1, 0);
    const file = this.files.get(from);
    if (file === undefined) throw this.missing('rename', from);
    this.files.delete(from);
    this.files.set(to, file);
  }

  remove(name: string): void {
    this.fault?.('remove', name, -1, 0);
    if (!this.files.delete(name)) throw this.missing('remove', name);
  }

  syncDirectory(subdirectory: string): void {
    this.fault?.('syncDirectory', subdirectory, -1, 0);
    if (!this.directories.has(subdirectory)) throw this.missing('sync', subdirectory);
  }

  freeBytes(): number {
    return Math.max(0, this.capacity - this.usedBytes());
  }

  totalBytes(): number {
    return this.capacity;
  }

  private missing(operation: string, name: string): LsnfsError {
    const details = { operation, file: name, position: -1, errno: 'ENOENT' };
    return new LsnfsError('IO', `${operation} of ${name} failed: ENOENT`, details);
  }
}

export class MemoryDevice implements Device {
  name: string;
  readonly descriptor = -1;
  private readonly directory: MemoryDirectory;
  private readonly file: SparseBytes;
  private readonly readOnly: boolean;

  constructor(directory: MemoryDirectory, file: SparseBytes, name: string, readOnly: boolean) {
    this.directory = directory;
    this.file = file;
    this.name = name;
    this.readOnly = readOnly;
  }

  renamed(name: string): void {
    this.name = name;
  }

  read(position: number, target: Uint8Array, start: number, length: number): number {
    this.directory.fault?.('read', this.name, position, length);
    return this.file.read(position, target, start, length);
  }

  write(position: number, source: Uint8Array, start: number, length: number): void {
    this.directory.fault?.('write', this.name, position, length);
    this.admit('write', position + length);
    this.file.write(position, source, start, length);
  }

  writeVector(position: number, sources: readonly Uint8Array[]): void {
    let at = position;
    for (const source of sources) {
      this.write(at, source, 0, source.length);
      at += source.length;
    }
  }

  size(): number {
    return this.file.size;
  }

  truncate(size: number): void {
    this.directory.fault?.('truncate', this.name, size, 0);
    this.admit('truncate', size);
    this.file.truncate(size);
  }

  private admit(operation: string, size: number): void {
    const details = { operation, file: this.name, position: size };
    if (this.readOnly) {
      throw new LsnfsError('IO', `${operation} of ${this.name} failed: EBADF`, {
        ...details,
        errno: 'EBADF',
      });
    }
    if (size <= this.file.size) return;
    if (this.directory.usedBytes() + size - this.file.size > this.directory.capacity) {
      const message = `${operation} of ${this.name} at offset ${size} failed: no space is left in memory`;
      throw new LsnfsError('NO_SPACE', message, { ...details, errno: 'ENOSPC' });
    }
  }

  async sync(): Promise<void> {
    // Takes its time like a disk does: later work of the same turn is not part of it.
    await new Promise<void>((resolve) => {
      setImmediate(resolve);
    });
    this.syncNow();
  }

  syncNow(): void {
    this.directory.fault?.('sync', this.name, -1, 0);
    this.directory.syncCount++;
  }

  close(): void {}
}
