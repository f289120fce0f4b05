/**
 * Files that are open through the mount: numbers of 31 bits for libfuse, which mean a handle of a file system each. A
 * handle behind a door holds the door open.
 */
import { PosixError } from '../../src/errors.ts';
import type { Door, FileSystem } from '../../src/vfs/file-system.ts';

export interface OpenFile {
  readonly fileSystem: FileSystem;
  /** Of the file system. */
  readonly handle: number;
  readonly inode: number;
  /** undefined: live. */
  readonly door: Door | undefined;
  readonly writable: boolean;
  /** Where the mount has it now. */
  path: string;
}

export class OpenFiles {
  private readonly slots: (OpenFile | undefined)[] = [];
  private readonly free: number[] = [];
  /** Live files that are open, by inode. */
  private readonly opens = new Map<number, number>();

  /** Returns the number; never 0, which the native part takes for none. */
  add(file: OpenFile): number {
    file.door?.retain(1);
    if (file.door === undefined) this.opens.set(file.inode, (this.opens.get(file.inode) ?? 0) + 1);
    const slot = this.free.pop() ?? this.slots.length;
    this.slots[slot] = file;
    return slot + 1;
  }

  /** @throws PosixError EBADF */
  get(number: number): OpenFile {
    const file = this.slots[number - 1];
    if (file === undefined) throw new PosixError('EBADF');
    return file;
  }

  /** Closes a file. @throws PosixError EBADF */
  close(number: number): void {
    const file = this.get(number);
    this.slots[number - 1] = undefined;
    this.free.push(number - 1);
    if (file.door === undefined) {
      const left = this.opens.get(file.inode)! - 1;
      if (left === 0) this.opens.delete(file.inode);
      else this.opens.set(file.inode, left);
    }
    try {
      file.fileSystem.release(file.handle);
    } finally {
      file.door?.release(1);
    }
  }

  closeAll(): void {
    this.slots.forEach((file, index) => {
      if (file !== undefined) this.close(index + 1);
    });
  }

  /** Whether a live file is open. */
  isOpen(inode: number): boolean {
    return this.opens.has(inode);
  }

  /** An entry was renamed: what is at it and below it. */
  moved(from: string, to: string): void {
    for (const file of this.slots) {
      if (file === undefined) continue;
      if (file.path === from) file.path = to;
      else if (file.path.startsWith(`${from}/`)) file.path = to + file.path.slice(from.length);
    }
  }

  /** Paths of live files that are open, each file once; `writable`: only of those that are open for writing. */
  paths(writable: boolean): string[] {
    const paths = new Map<number, string>();
    for (const file of this.slots) {
      if (file !== undefined && file.door === undefined && (file.writable || !writable)) {
        paths.set(file.inode, file.path);
      }
    }
    return [...paths.values()];
  }
}
