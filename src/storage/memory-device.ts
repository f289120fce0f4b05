/**
 * Devices in memory: a store for tests and for programs that want no files.
 *
 * A file is a list of chunks that exist once they were written to, so that a large sparse file costs what it
 * holds. All devices of one name share the file, as descriptors do, also after its name is gone. `capacity` bounds
 * the bytes of all files together (NO_SPACE beyond it), and `fault` lets a test fail any single operation.
 */
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from './device.ts';

const CHUNK_SIZE = 65536;

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

class MemoryFile {
  size = 0;
  chunks: (Uint8Array | undefined)[] = [];

  clone(): MemoryFile {
    const copy = new MemoryFile();
    copy.size = this.size;
    copy.chunks = this.chunks.map((chunk) => (chunk === undefined ? undefined : Uint8Array.from(chunk)));
    return copy;
  }
}

export class MemoryDirectory implements StorageDirectory {
  readonly path: string;
  /** Bytes that all files may have together. */
  capacity: number;
  fault: FaultHook | undefined;
  /** Completed syncs of devices, for tests of group commit. */
  syncCount = 0;
  private readonly files = new Map<string, MemoryFile>();
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
      file = new MemoryFile();
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
  readonly name: string;
  readonly descriptor = -1;
  private readonly directory: MemoryDirectory;
  private readonly file: MemoryFile;
  private readonly readOnly: boolean;

  constructor(directory: MemoryDirectory, file: MemoryFile, name: string, readOnly: boolean) {
    this.directory = directory;
    this.file = file;
    this.name = name;
    this.readOnly = readOnly;
  }

  read(position: number, target: Uint8Array, start: number, length: number): number {
    this.directory.fault?.('read', this.name, position, length);
    const total = Math.max(0, Math.min(length, this.file.size - position));
    let done = 0;
    while (done < total) {
      const at = position + done;
      const inChunk = at % CHUNK_SIZE;
      const count = Math.min(total - done, CHUNK_SIZE - inChunk);
      const chunk = this.file.chunks[(at - inChunk) / CHUNK_SIZE];
      if (chunk === undefined) target.fill(0, start + done, start + done + count);
      else target.set(chunk.subarray(inChunk, inChunk + count), start + done);
      done += count;
    }
    return total;
  }

  write(position: number, source: Uint8Array, start: number, length: number): void {
    this.directory.fault?.('write', this.name, position, length);
    this.grow('write', position + length);
    let done = 0;
    while (done < length) {
      const at = position + done;
      const inChunk = at % CHUNK_SIZE;
      const count = Math.min(length - done, CHUNK_SIZE - inChunk);
      const index = (at - inChunk) / CHUNK_SIZE;
      let chunk = this.file.chunks[index];
      if (chunk === undefined) {
        chunk = new Uint8Array(CHUNK_SIZE);
        this.file.chunks[index] = chunk;
      }
      chunk.set(source.subarray(start + done, start + done + count), inChunk);
      done += count;
    }
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
    if (size >= this.file.size) {
      this.grow('truncate', size);
      return;
    }
    const kept = Math.ceil(size / CHUNK_SIZE);
    this.file.chunks.length = Math.min(kept, this.file.chunks.length);
    this.file.chunks[kept - 1]?.fill(0, ((size - 1) % CHUNK_SIZE) + 1);
    this.file.size = size;
  }

  private grow(operation: string, size: number): void {
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
    this.file.size = size;
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
