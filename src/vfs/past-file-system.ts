/**
 * The file system of a past state: all can be read, and every change is EROFS. Nothing in it ever changes, so
 * that references need not be counted.
 */
import { PosixError } from '../errors.ts';
import type { StateReader } from '../store/state.ts';
import { MAY_READ } from './caller.ts';
import { Core, type VfsOptions } from './core.ts';
import {
  type Attributes,
  type Caller,
  type FileSystem,
  O_ACCMODE,
  O_CREAT,
  O_EXCL,
  O_RDONLY,
  O_TRUNC,
} from './file-system.ts';
import { checkOpenType } from './open-rules.ts';
import { ReadOperations } from './read-operations.ts';

export class PastFileSystem extends ReadOperations implements FileSystem {
  readonly readOnly = true;

  constructor(state: StateReader, options: VfsOptions) {
    super(new Core(state, options));
  }

  remember(_inode: number, _count: number): void {}
  forget(_inode: number, _count: number): void {}

  open(caller: Caller, number: number, flags: number): number {
    const inode = this.core.load(number);
    checkOpenType(inode, flags);
    if ((flags & O_ACCMODE) !== O_RDONLY || (flags & O_TRUNC) !== 0) refuse();
    this.core.require(caller, inode, MAY_READ);
    return this.core.handles.open(inode, flags, null);
  }

  /** Opens what exists; there is nothing that could be created. */
  create(
    caller: Caller,
    parent: number,
    name: Uint8Array,
    _mode: number,
    flags: number,
  ): { attributes: Attributes; handle: number } {
    const attributes = this.lookup(caller, parent, name);
    if (attributes === undefined) return refuse();
    if ((flags & O_EXCL) !== 0) throw new PosixError('EEXIST');
    return { attributes, handle: this.open(caller, attributes.inode, flags & ~O_CREAT) };
  }

  release(handle: number): void {
    this.close(handle);
  }
  releasedir(handle: number): void {
    this.close(handle);
  }

  fsync(_inode: number): number {
    return this.lsn;
  }

  setattr(): never {
    return refuse();
  }
  mknod(): never {
    return refuse();
  }
  mkdir(): never {
    return refuse();
  }
  symlink(): never {
    return refuse();
  }
  link(): never {
    return refuse();
  }
  unlink(): never {
    return refuse();
  }
  rmdir(): never {
    return refuse();
  }
  rename(): never {
    return refuse();
  }
  tmpfile(): never {
    return refuse();
  }
  write(): never {
    return refuse();
  }
  fallocate(): never {
    return refuse();
  }
  copyFileRange(): never {
    return refuse();
  }
  setxattr(): never {
    return refuse();
  }
  removexattr(): never {
    return refuse();
  }
}

function refuse(): never {
  throw new PosixError('EROFS', 'a past state cannot be changed');
}
