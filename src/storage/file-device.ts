/**
 * Devices on files: synchronous positional calls of node:fs, and fdatasync through the thread pool or in place.
 *
 * Every call runs to completion: short reads and writes, which POSIX permits at any time, are continued. A write
 * that makes no progress is an error, never a loop. Node opens every file with O_CLOEXEC, so no descriptor leaks
 * into child processes. How a name in a store becomes a file, and what is refused, is in store-files.ts.
 */
import * as fs from 'node:fs';
import * as path from 'node:path';
import { assert, LsnfsError, systemErrorCode } from '../errors.ts';
import type { Device, StorageDirectory } from './device.ts';
import { inStore, lstatInStore, makeStoreDirectory, openStoreFile, openSubdirectory } from './store-files.ts';

/** IOV_MAX of Linux: buffers in one writev(2). */
const VECTOR_MAXIMUM = 1024;

/** Turns an error of the operating system into NO_SPACE, NO_DESCRIPTORS or IO, with the facts. */
export function deviceError(operation: string, name: string, position: number, error: unknown): LsnfsError {
  if (error instanceof LsnfsError) return error;
  const code = systemErrorCode(error);
  if (code === undefined) throw error; // a bug, not an answer of the operating system
  const details = { operation, file: name, position, errno: code };
  const place = position < 0 ? '' : ` at offset ${position}`;
  if (code === 'ENOSPC' || code === 'EDQUOT') {
    const why = code === 'EDQUOT' ? 'the disk quota is used up' : 'no space is left on the file system';
    return new LsnfsError('NO_SPACE', `${operation} of ${name}${place} failed: ${why}`, details, {
      cause: error,
    });
  }
  if (code === 'EMFILE' || code === 'ENFILE') {
    const who = code === 'EMFILE' ? 'this process' : 'the system';
    const message = `${operation} of ${name} failed: ${who} has no file descriptor left; close some, or raise the limit (ulimit -n)`;
    return new LsnfsError('NO_DESCRIPTORS', message, details, { cause: error });
  }
  return new LsnfsError('IO', `${operation} of ${name}${place} failed: ${code}`, details, { cause: error });
}

export class FileDevice implements Device {
  name: string;
  private open = true;
  private readonly fileDescriptor: number;

  constructor(name: string, fileDescriptor: number) {
    this.name = name;
    this.fileDescriptor = fileDescriptor;
  }

  get descriptor(): number {
    assert(this.open, `${this.name} is closed`);
    return this.fileDescriptor;
  }

  renamed(name: string): void {
    this.name = path.join(path.dirname(this.name), path.basename(name));
  }

  read(position: number, target: Uint8Array, start: number, length: number): number {
    const descriptor = this.descriptor;
    let done = 0;
    try {
      while (done < length) {
        const count = fs.readSync(descriptor, target, start + done, length - done, position + done);
        if (count === 0) break;
        done += count;
      }
    } catch (error) {
      throw deviceError('read', this.name, position + done, error);
    }
    return done;
  }

  write(position: number, source: Uint8Array, start: number, length: number): void {
    const descriptor = this.descriptor;
    let done = 0;
    try {
      while (done < length) {
        const count = fs.writeSync(descriptor, source, start + done, length - done, position + done);
        if (count === 0) throw this.stuck('write', position + done);
        done += count;
      }
    } catch (error) {
      throw error instanceof LsnfsError ? error : deviceError('write', this.name, position + done, error);
    }
  }

  writeVector(position: number, sources: readonly Uint8Array[]): void {
    const descriptor = this.descriptor;
    let at = position;
    let index = 0;
    try {
      while (index < sources.length) {
        const batch =
          index === 0 && sources.length <= VECTOR_MAXIMUM
            ? sources
            : sources.slice(index, index + VECTOR_MAXIMUM);
        let count = fs.writevSync(descriptor, batch, at);
        at += count;
        const before = index;
        for (const source of batch) {
          if (count < source.length) break;
          count -= source.length;
          index++;
        }
        if (count > 0) {
          const source = sources[index]!;
          this.write(at, source, count, source.length - count);
          at += source.length - count;
          index++;
        } else if (index === before) throw this.stuck('write', at);
      }
    } catch (error) {
      throw error instanceof LsnfsError ? error : deviceError('write', this.name, at, error);
    }
  }

  private stuck(operation: string, position: number): LsnfsError {
    const details = { operation, file: this.name, position };
    return new LsnfsError(
      'IO',
      `${operation} of ${this.name} at offset ${position} makes no progress`,
      details,
    );
  }

  size(): number {
    try {
      return fs.fstatSync(this.descriptor).size;
    } catch (error) {
      throw deviceError('stat', this.name, -1, error);
    }
  }

  truncate(size: number): void {
    try {
      fs.ftruncateSync(this.descriptor, size);
    } catch (error) {
      throw deviceError('truncate', this.name, size, error);
    }
  }

  sync(): Promise<void> {
    return new Promise((resolve, reject) => {
      fs.fdatasync(this.descriptor, (error) => {
        if (error === null) resolve();
        else reject(deviceError('sync', this.name, -1, error));
      });
    });
  }

  syncNow(): void {
    try {
      fs.fdatasyncSync(this.descriptor);
    } catch (error) {
      throw deviceError('sync', this.name, -1, error);
    }
  }

  close(): void {
    if (!this.open) return;
    this.open = false;
    try {
      fs.closeSync(this.fileDescriptor);
    } catch (error) {
      throw deviceError('close', this.name, -1, error);
    }
  }
}

export class FileDirectory implements StorageDirectory {
  readonly path: string;

  constructor(directoryPath: string) {
    this.path = directoryPath;
  }

  /** The full name, for messages. */
  private resolve(name: string): string {
    assert(!path.isAbsolute(name) && !name.split('/').includes('..'), `"${name}" is not a name in a store`);
    return path.join(this.path, name);
  }

  exists(name: string): boolean {
    const full = this.resolve(name);
    try {
      return lstatInStore(this.path, name) !== undefined;
    } catch (error) {
      throw deviceError('stat', full, -1, error);
    }
  }

  open(name: string, options: { create?: boolean; readOnly?: boolean } = {}): Device {
    const full = this.resolve(name);
    const access = options.readOnly === true ? 'read' : 'write';
    try {
      return new FileDevice(
        full,
        openStoreFile(this.path, name, { access, create: options.create === true }),
      );
    } catch (error) {
      throw deviceError('open', full, -1, error);
    }
  }

  list(subdirectory: string): string[] {
    const full = this.resolve(subdirectory);
    try {
      const descriptor = openSubdirectory(this.path, subdirectory);
      try {
        const entries = fs.readdirSync(`/proc/self/fd/${descriptor}`, { withFileTypes: true });
        return entries
          .filter((entry) => entry.isFile())
          .map((entry) => entry.name)
          .sort();
      } finally {
        fs.closeSync(descriptor);
      }
    } catch (error) {
      throw deviceError('list', full, -1, error);
    }
  }

  makeDirectory(name: string): void {
    const full = this.resolve(name);
    try {
      makeStoreDirectory(this.path, name);
    } catch (error) {
      throw deviceError('mkdir', full, -1, error);
    }
  }

  rename(from: string, to: string): void {
    const full = this.resolve(from);
    this.resolve(to);
    try {
      inStore(this.path, from, (source) => inStore(this.path, to, (target) => fs.renameSync(source, target)));
    } catch (error) {
      throw deviceError('rename', full, -1, error);
    }
  }

  remove(name: string): void {
    const full = this.resolve(name);
    try {
      inStore(this.path, name, (reachable) => fs.unlinkSync(reachable));
    } catch (error) {
      throw deviceError('remove', full, -1, error);
    }
  }

  syncDirectory(subdirectory: string): void {
    const full = this.resolve(subdirectory);
    try {
      const descriptor = openSubdirectory(this.path, subdirectory);
      try {
        fs.fsyncSync(descriptor);
      } finally {
        fs.closeSync(descriptor);
      }
    } catch (error) {
      throw deviceError('sync', full, -1, error);
    }
  }

  freeBytes(): number {
    const statistics = this.statistics();
    return statistics.bavail * statistics.bsize;
  }

  totalBytes(): number {
    const statistics = this.statistics();
    return statistics.blocks * statistics.bsize;
  }

  private statistics(): fs.StatsFs {
    try {
      return fs.statfsSync(this.path);
    } catch (error) {
      throw deviceError('statfs', this.path, -1, error);
    }
  }
}
