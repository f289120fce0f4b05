/**
 * A disk on which the power can be cut: the device of the crash laboratory.
 *
 * It keeps what was written apart from what is durable, as the page cache and the disk below it do. Programs see every
 * write at once; `sync` makes durable what was written to a file before it was called; `syncDirectory` does so for names.
 * `powerCut` returns the disk as the next boot may find it, while this one goes on undisturbed, so that one run of a
 * program yields as many crashes as one likes.
 *
 * What a power cut may do (everything that POSIX and a disk with 512-byte sectors permit):
 * - any subset of the unsynced writes survives, in any order, torn between sectors: for every sector the last of its
 *   writes that survived counts;
 * - a write that was under way may leave garbage, in the sectors that it changes and there in the bytes that it covers.
 *   Bytes that stay the same are safe (SQLite's "powersafe overwrite"): whoever appends to a log through a page cache
 *   has its last sectors written again and again, and no such design survives a disk that breaks that promise;
 * - a file has any size between the durable one and the present one; growth without data reads as zeros;
 * - creations, renames and removals that no `syncDirectory` covered happen or not, each by itself and whole. Syncing a
 *   file does not make its name durable.
 *
 * A failed sync does what Linux does (since 4.13): some of the writes reach the disk, the rest never will; the pages
 * count as clean, stay readable until `dropCaches`, and the next sync reports success.
 *
 * Nothing here depends on time: a sync that somebody awaits ends in the next turn of the event loop, or, with
 * `holdSyncs`, when `land` says so, in any order. With the same seed the same calls give the same bytes.
 */
import { hash } from 'node:crypto';
import { assert, type LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from './device.ts';
import { deviceError } from './file-device.ts';
import { SparseBytes } from './sparse-bytes.ts';

export const SECTOR_SIZE = 512;

export type DiskOperationKind =
  | 'open'
  | 'exists'
  | 'list'
  | 'makeDirectory'
  | 'rename'
  | 'remove'
  | 'syncDirectory'
  | 'freeBytes'
  | 'size'
  | 'read'
  | 'write'
  | 'truncate'
  | 'sync';

export interface DiskOperation {
  /** Number of the operation since the disk was made, from 0. */
  readonly index: number;
  readonly kind: DiskOperationKind;
  readonly name: string;
  /** Byte offset, or -1. */
  readonly position: number;
  /** Bytes, or 0. */
  readonly length: number;
}

/** How an operation fails. */
export interface Fault {
  /** "EIO", "ENOSPC", "EMFILE", … */
  readonly errno: string;
  /** Of a write: the bytes that were written before it failed. Default: 0. */
  readonly written?: number;
}

/** A whole number in [0, limit), limit ≤ 2^31. */
export type Below = (limit: number) => number;

/** A change of a file that is not durable yet. */
type FileChange =
  | { readonly kind: 'write'; readonly position: number; readonly bytes: Uint8Array }
  | { readonly kind: 'truncate'; readonly size: number };

/** A change of names that is not durable yet. */
interface NameChange {
  readonly kind: 'create' | 'rename' | 'remove' | 'makeDirectory';
  readonly directory: string;
  readonly name: string;
  readonly to: string;
  readonly file: DiskFile | undefined;
}

class DiskFile {
  /** What programs read. */
  cached = new SparseBytes();
  /** What is on the platter. */
  durable = new SparseBytes();
  pending: FileChange[] = [];

  clone(): DiskFile {
    const copy = new DiskFile();
    copy.cached = this.cached.clone();
    copy.durable = this.durable.clone();
    copy.pending = this.pending.slice();
    return copy;
  }

  /** Makes the first `count` changes durable. */
  harden(count: number): void {
    for (const change of this.pending.splice(0, count)) apply(this.durable, change);
  }
}

/** The names of files and directories. */
class Names {
  readonly files: Map<string, DiskFile>;
  readonly directories: Set<string>;

  constructor(files: Iterable<[string, DiskFile]> = [], directories: Iterable<string> = ['']) {
    this.files = new Map(files);
    this.directories = new Set(directories);
  }

  apply(change: NameChange): void {
    const { kind, name, to, file } = change;
    if (kind === 'makeDirectory') this.directories.add(name);
    else if (kind === 'create') this.files.set(name, file!);
    else {
      this.files.delete(name);
      if (kind === 'rename') this.files.set(to, file!);
    }
  }
}

/** A sync that was called and has not ended. */
interface Flight {
  readonly file: DiskFile;
  readonly name: string;
  /** Changes that it covers: the file's oldest ones. */
  covered: number;
  readonly fault: Fault | undefined;
  readonly settle: (error: LsnfsError | undefined) => void;
}

export interface SimulatedDiskOptions {
  /** For messages. */
  name?: string;
  /** Decides what a failed sync wrote. Default: nothing. */
  random?: Below;
  /** Bytes that all files may have together. */
  capacity?: number;
}

export class SimulatedDisk implements StorageDirectory {
  readonly path: string;
  capacity: number;
  /** Called before each operation. */
  watch: ((operation: DiskOperation) => void) | undefined;
  /** Called before each operation, after `watch`: decides whether it fails. */
  fault: ((operation: DiskOperation) => Fault | undefined) | undefined;
  /** Whether syncs that are awaited wait for `land`. */
  holdSyncs = false;
  /** The capacity is a quota, of which `freeBytes` knows nothing: writes beyond it fail with EDQUOT. */
  isQuota = false;
  /** Devices that are open. */
  openDevices = 0;
  /** Operations so far. */
  operations = 0;
  private readonly random: Below | undefined;
  private names = new Names();
  private durableNames = new Names();
  private pendingNames: NameChange[] = [];
  private flights: Flight[] = [];
  private off = false;

  constructor(options: SimulatedDiskOptions = {}) {
    this.path = options.name ?? 'simulated';
    this.random = options.random;
    this.capacity = options.capacity ?? Number.POSITIVE_INFINITY;
  }

  /** Bytes of all files together. */
  usedBytes(): number {
    let used = 0;
    for (const file of this.names.files.values()) used += file.cached.size;
    return used;
  }

  /** Changes that are not durable. */
  get pendingCount(): number {
    let count = this.pendingNames.length;
    for (const file of new Set(this.names.files.values())) count += file.pending.length;
    return count;
  }

  /** Syncs that wait for `land`. */
  get syncsInFlight(): number {
    return this.flights.length;
  }

  /** Ends one of the syncs in flight: 0 is the oldest. */
  land(index: number): void {
    const flight = this.flights.splice(index, 1)[0];
    assert(flight !== undefined, `there is no sync ${index} in flight`);
    flight.settle(this.finishSync(flight.file, flight.name, flight.covered, flight.fault));
  }

  /** The machine is gone: nothing that its programs still do has an effect, and every call fails. */
  turnOff(): void {
    this.off = true;
    this.watch = undefined;
    this.fault = undefined;
    for (const { name, settle } of this.flights.splice(0)) settle(this.failure('sync', name, -1, 'ENODEV'));
  }

  /** A copy with all that is not durable yet: what the next process finds after this one was killed. */
  clone(): SimulatedDisk {
    return this.copy((file) => file.clone(), this.names, this.durableNames, this.pendingNames);
  }

  /** A text that differs for disks that differ in what is durable, or in what programs read. */
  fingerprint(): string {
    const describe = (names: Names, bytes: (file: DiskFile) => SparseBytes): string[] =>
      [...names.files].map(([name, file]) => `${name} ${bytes(file).fingerprint()}`).sort();
    const parts = [
      ...describe(this.durableNames, (file) => file.durable),
      ...describe(this.names, (file) => file.cached),
      ...this.durableNames.directories,
      ...this.names.directories,
    ];
    return hash('sha1', parts.join('\n'), 'base64');
  }

  /** Clean pages are evicted: what a failed sync dropped reads as it is on the platter. */
  dropCaches(): void {
    for (const file of new Set(this.names.files.values())) {
      file.cached = file.durable.clone();
      for (const change of file.pending) apply(file.cached, change);
    }
  }

  /** A copy as the next boot may find it when the power fails now. */
  powerCut(random: Below): SimulatedDisk {
    const cut = new PowerCut(random);
    const names = new Names(this.durableNames.files, this.durableNames.directories);
    for (const change of this.pendingNames) if (cut.survives()) names.apply(change);
    for (const name of names.files.keys()) {
      // What lies in a directory that did not survive is gone with it.
      if (!names.directories.has(directoryOf(name))) names.files.delete(name);
    }
    const boot = (file: DiskFile): DiskFile => {
      const copy = new DiskFile();
      copy.durable = cut.bytes(file.durable, file.pending);
      copy.cached = copy.durable.clone();
      return copy;
    };
    return this.copy(boot, names, names, []);
  }

  private copy(
    copyFile: (file: DiskFile) => DiskFile,
    names: Names,
    durableNames: Names,
    pending: readonly NameChange[],
  ): SimulatedDisk {
    const disk = new SimulatedDisk({
      name: this.path,
      capacity: this.capacity,
      ...(this.random !== undefined && { random: this.random }),
    });
    const copies = new Map<DiskFile, DiskFile>();
    const copied = (file: DiskFile): DiskFile => {
      let copy = copies.get(file);
      if (copy === undefined) {
        copy = copyFile(file);
        copies.set(file, copy);
      }
      return copy;
    };
    const copyNames = (of: Names): Names => {
      const files = [...of.files].map(([name, file]): [string, DiskFile] => [name, copied(file)]);
      return new Names(files, of.directories);
    };
    disk.names = copyNames(names);
    disk.durableNames = copyNames(durableNames);
    disk.pendingNames = pending.map((change) => ({
      ...change,
      file: change.file === undefined ? undefined : copied(change.file),
    }));
    return disk;
  }

  /** Announces an operation. Returns its fault, if it is to have one that its kind handles itself. */
  begin(kind: DiskOperationKind, name: string, position = -1, length = 0): Fault | undefined {
    if (this.off) throw this.failure(kind, name, position, 'ENODEV');
    const operation: DiskOperation = { index: this.operations++, kind, name, position, length };
    this.watch?.(operation);
    const fault = this.fault?.(operation);
    if (fault !== undefined && kind !== 'write' && kind !== 'sync') {
      throw this.failure(kind, name, position, fault.errno);
    }
    return fault;
  }

  failure(operation: string, name: string, position: number, errno: string): LsnfsError {
    return deviceError(operation, name, position, Object.assign(new Error(errno), { code: errno }));
  }

  exists(name: string): boolean {
    this.begin('exists', name);
    return this.names.files.has(name) || this.names.directories.has(name);
  }

  open(name: string, options: { create?: boolean; readOnly?: boolean } = {}): Device {
    this.begin('open', name);
    let file = this.names.files.get(name);
    if (file === undefined) {
      if (options.create !== true || !this.names.directories.has(directoryOf(name)))
        throw this.failure('open', name, -1, 'ENOENT');
      file = new DiskFile();
      this.change({ kind: 'create', directory: directoryOf(name), name, to: '', file });
    }
    return new SimulatedDevice(this, file, name, options.readOnly === true);
  }

  list(subdirectory: string): string[] {
    this.begin('list', subdirectory);
    if (!this.names.directories.has(subdirectory)) throw this.failure('list', subdirectory, -1, 'ENOENT');
    const start = subdirectory === '' ? 0 : subdirectory.length + 1;
    return [...this.names.files.keys()]
      .filter((name) => directoryOf(name) === subdirectory)
      .map((name) => name.slice(start))
      .sort();
  }

  makeDirectory(name: string): void {
    this.begin('makeDirectory', name);
    if (this.names.directories.has(name)) return;
    this.change({ kind: 'makeDirectory', directory: directoryOf(name), name, to: '', file: undefined });
  }

  rename(from: string, to: string): void {
    this.begin('rename', from);
    const file = this.names.files.get(from);
    if (file === undefined) throw this.failure('rename', from, -1, 'ENOENT');
    assert(directoryOf(from) === directoryOf(to), 'a rename stays in its directory');
    this.change({ kind: 'rename', directory: directoryOf(to), name: from, to, file });
  }

  remove(name: string): void {
    this.begin('remove', name);
    const file = this.names.files.get(name);
    if (file === undefined) throw this.failure('remove', name, -1, 'ENOENT');
    this.change({ kind: 'remove', directory: directoryOf(name), name, to: '', file });
  }

  private change(change: NameChange): void {
    this.names.apply(change);
    this.pendingNames.push(change);
  }

  syncDirectory(subdirectory: string): void {
    this.begin('syncDirectory', subdirectory);
    if (!this.names.directories.has(subdirectory)) throw this.failure('sync', subdirectory, -1, 'ENOENT');
    const rest: NameChange[] = [];
    for (const change of this.pendingNames) {
      if (change.directory === subdirectory) this.durableNames.apply(change);
      else rest.push(change);
    }
    this.pendingNames = rest;
  }

  freeBytes(): number {
    this.begin('freeBytes', '');
    return this.isQuota ? Number.POSITIVE_INFINITY : Math.max(0, this.capacity - this.usedBytes());
  }

  totalBytes(): number {
    return this.isQuota ? Number.POSITIVE_INFINITY : this.capacity;
  }

  /** For devices: a sync that ends later. Returns what ends it. */
  fly(file: DiskFile, name: string, settle: (error: LsnfsError | undefined) => void): () => void {
    const fault = this.begin('sync', name);
    const flight: Flight = { file, name, covered: file.pending.length, fault, settle };
    this.flights.push(flight);
    const land = (): void => {
      const index = this.flights.indexOf(flight);
      if (index >= 0) this.land(index);
    };
    if (!this.holdSyncs) setImmediate(land);
    return land;
  }

  /** For devices: a sync that ends at once. */
  syncNow(file: DiskFile, name: string): void {
    const fault = this.begin('sync', name);
    const error = this.finishSync(file, name, file.pending.length, fault);
    if (error !== undefined) throw error;
  }

  private finishSync(
    file: DiskFile,
    name: string,
    covered: number,
    fault: Fault | undefined,
  ): LsnfsError | undefined {
    // What this sync covers is no longer the concern of the others in flight.
    for (const flight of this.flights)
      if (flight.file === file) flight.covered = Math.max(0, flight.covered - covered);
    if (fault === undefined) {
      file.harden(covered);
      return undefined;
    }
    const dropped = file.pending.splice(0, covered);
    if (this.random !== undefined) file.durable = new PowerCut(this.random).bytes(file.durable, dropped);
    return this.failure('sync', name, -1, fault.errno);
  }
}

export class SimulatedDevice implements Device {
  name: string;
  readonly descriptor = -1;
  private readonly disk: SimulatedDisk;
  private readonly file: DiskFile;
  private readonly readOnly: boolean;
  private open = true;

  constructor(disk: SimulatedDisk, file: DiskFile, name: string, readOnly: boolean) {
    this.disk = disk;
    this.file = file;
    this.name = name;
    this.readOnly = readOnly;
    disk.openDevices++;
  }

  private begin(kind: DiskOperationKind, position = -1, length = 0): Fault | undefined {
    assert(this.open, `${this.name} is closed`);
    return this.disk.begin(kind, this.name, position, length);
  }

  renamed(name: string): void {
    this.name = name;
  }

  read(position: number, target: Uint8Array, start: number, length: number): number {
    this.begin('read', position, length);
    return this.file.cached.read(position, target, start, length);
  }

  write(position: number, source: Uint8Array, start: number, length: number): void {
    const fault = this.begin('write', position, length);
    const room = Math.max(0, this.disk.capacity - this.disk.usedBytes() + this.file.cached.size - position);
    if (this.readOnly) throw this.disk.failure('write', this.name, position, 'EBADF');
    const admitted = Math.min(length, fault === undefined ? room : (fault.written ?? 0));
    if (admitted > 0)
      this.change({
        kind: 'write',
        position,
        bytes: new Uint8Array(source.subarray(start, start + admitted)),
      });
    if (fault !== undefined) throw this.disk.failure('write', this.name, position + admitted, fault.errno);
    if (admitted < length) {
      const errno = this.disk.isQuota ? 'EDQUOT' : 'ENOSPC';
      throw this.disk.failure('write', this.name, position + admitted, errno);
    }
  }

  writeVector(position: number, sources: readonly Uint8Array[]): void {
    const source = Buffer.concat(sources);
    this.write(position, source, 0, source.length);
  }

  size(): number {
    this.begin('size');
    return this.file.cached.size;
  }

  truncate(size: number): void {
    this.begin('truncate', size);
    if (this.readOnly) throw this.disk.failure('truncate', this.name, size, 'EBADF');
    this.change({ kind: 'truncate', size });
  }

  private change(change: FileChange): void {
    apply(this.file.cached, change);
    this.file.pending.push(change);
  }

  sync(): Promise<void> {
    assert(this.open, `${this.name} is closed`);
    return new Promise((resolve, reject) => {
      this.startSync((error) => {
        if (error === undefined) resolve();
        else reject(error);
      });
    });
  }

  /** As `sync`, with a callback that is called before `land` returns. Returns what ends the sync. */
  startSync(settle: (error: LsnfsError | undefined) => void): () => void {
    assert(this.open, `${this.name} is closed`);
    return this.disk.fly(this.file, this.name, settle);
  }

  syncNow(): void {
    assert(this.open, `${this.name} is closed`);
    this.disk.syncNow(this.file, this.name);
  }

  close(): void {
    if (this.open) this.disk.openDevices--;
    this.open = false;
  }
}

/** What of the unsynced changes one failure of the power keeps. */
class PowerCut {
  private readonly random: Below;
  /** The chance of a sector, or a change of a name, to survive, in 1/256. */
  private readonly chance: number;
  /** The chance of a sector that survives to be garbage, in 1/256. */
  private readonly garbage: number;

  constructor(random: Below) {
    this.random = random;
    // Nothing, everything, and all between: most disks keep most of what they were given, in about the right order.
    const kind = random(8);
    this.chance = kind === 0 ? 0 : kind === 1 ? 256 : random(257);
    this.garbage = random(4) === 0 ? 16 : 0;
  }

  survives(): boolean {
    return this.random(256) < this.chance;
  }

  /** The bytes of a file of which `changes` were not durable. */
  bytes(durable: SparseBytes, changes: readonly FileChange[]): SparseBytes {
    const image = durable.clone();
    if (changes.length === 0) return image;
    const survivors = this.surviving(changes.length);
    const sizes = sizesAfter(durable.size, changes);
    for (const [i, change] of changes.entries()) {
      if (change.kind === 'truncate') {
        if (i < survivors.sizes && change.size < image.size) image.truncate(change.size);
      } else if (i < survivors.whole) apply(image, change);
      else if (i < survivors.some) this.writeSectors(image, change.position, change.bytes);
    }
    image.truncate(this.sizeBetween(sizes[survivors.sizes]!, sizes[survivors.sizes + 1]));
    return image;
  }

  /**
   * How far the changes of a file got: all before `whole`, sectors of those before `some`, the changes of the size
   * before `sizes`. Sizes are metadata and follow one another; data does not wait for them.
   */
  private surviving(count: number): { whole: number; some: number; sizes: number } {
    if (this.chance === 0) return { whole: 0, some: 0, sizes: 0 };
    if (this.chance === 256) return { whole: count, some: count, sizes: count };
    // One time in four in the order of the calls up to one that is torn.
    if (this.random(4) === 0) {
      const torn = this.random(count);
      return { whole: torn, some: torn + 1, sizes: torn };
    }
    return { whole: 0, some: count, sizes: this.random(count + 1) };
  }

  private sizeBetween(size: number, next: number | undefined): number {
    if (next === undefined || next <= size || this.random(2) === 0) return size;
    return size + this.random(next - size + 1);
  }

  private writeSectors(image: SparseBytes, position: number, bytes: Uint8Array): void {
    let start = 0;
    while (start < bytes.length) {
      const end = Math.min(bytes.length, start + SECTOR_SIZE - ((position + start) % SECTOR_SIZE));
      if (this.survives()) {
        const garbled = this.garbage > 0 && this.random(256) < this.garbage;
        const piece = bytes.subarray(start, end);
        const written = garbled ? this.garbled(image, position + start, piece) : piece;
        image.write(position + start, written, 0, written.length);
      }
      start = end;
    }
  }

  /** What may be there when a piece was being written: garbage in place of the bytes that were to change. */
  private garbled(image: SparseBytes, position: number, piece: Uint8Array): Uint8Array {
    const there = new Uint8Array(piece.length);
    const known = image.read(position, there, 0, there.length);
    return piece.map((byte, i) => (i < known && there[i] === byte ? byte : this.random(256)));
  }
}

/** The size of a file before each of the changes, and after the last. */
function sizesAfter(size: number, changes: readonly FileChange[]): number[] {
  const sizes = [size];
  let now = size;
  for (const change of changes) {
    now = change.kind === 'truncate' ? change.size : Math.max(now, change.position + change.bytes.length);
    sizes.push(now);
  }
  return sizes;
}

function apply(bytes: SparseBytes, change: FileChange): void {
  if (change.kind === 'truncate') bytes.truncate(change.size);
  else bytes.write(change.position, change.bytes, 0, change.bytes.length);
}

function directoryOf(name: string): string {
  const slash = name.lastIndexOf('/');
  return slash < 0 ? '' : name.slice(0, slash);
}
