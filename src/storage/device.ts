/**
 * Devices: files as the engine uses them, so that a simulated one can stand in for the disk.
 *
 * Positions are byte offsets. Reads and writes are synchronous and positional and complete whole or throw; a read
 * past the end is short. Errors of the operating system come out as LsnfsError: NO_SPACE for ENOSPC and EDQUOT,
 * NO_DESCRIPTORS for EMFILE and ENFILE, IO for the rest, with operation, file name, offset and errno in the details.
 */

export interface Device {
  readonly name: string;
  /** The file has another name in its directory now: for messages. */
  renamed(name: string): void;
  /** Reads into target[start, start + length); returns the bytes read (less only at the end of the device). */
  read(position: number, target: Uint8Array, start: number, length: number): number;
  /** Writes all of source[start, start + length), growing the device where needed. */
  write(position: number, source: Uint8Array, start: number, length: number): void;
  /** Writes the buffers one after the other from `position` on, in as few system calls as possible. */
  writeVector(position: number, sources: readonly Uint8Array[]): void;
  /** Size in bytes. */
  size(): number;
  /** Sets the size; growth reads as zeros. */
  truncate(size: number): void;
  /** fdatasync(2), off the event loop. A failure is final for the store. */
  sync(): Promise<void>;
  /** fdatasync(2), blocking. */
  syncNow(): void;
  /** The file descriptor, where there is one (another thread may use it), else -1. */
  readonly descriptor: number;
  close(): void;
}

/** The directory of a store: names are plain file names or "wal/NAME". */
export interface StorageDirectory {
  /** For messages: the path that the user gave. */
  readonly path: string;
  exists(name: string): boolean;
  /** Opens a file. @throws LsnfsError IO; with `create` it may exist already. Files are 0600. */
  open(name: string, options?: { create?: boolean; readOnly?: boolean }): Device;
  /** File names in a sub-directory ('' for the top), sorted. */
  list(subdirectory: string): string[];
  makeDirectory(name: string): void;
  rename(from: string, to: string): void;
  remove(name: string): void;
  /** Makes names durable: fsync(2) of the directory. */
  syncDirectory(subdirectory: string): void;
  /** Bytes that the file system below still has for us, or Infinity where that has no meaning. */
  freeBytes(): number;
  /** Bytes that the file system below has in all (statfs), or Infinity. */
  totalBytes(): number;
}
