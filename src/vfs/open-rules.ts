/** What open(2) answers by the type of the file and the flags alone. */
import { PosixError } from '../errors.ts';
import { MAY_READ, MAY_WRITE } from './caller.ts';
import { O_ACCMODE, O_CREAT, O_RDONLY, O_TRUNC, O_WRONLY } from './file-system.ts';
import type { Inode } from './inode-cache.ts';

export const O_DIRECTORY = 0o200000;

/** @throws PosixError EISDIR, ENOTDIR, ELOOP, ENXIO */
export function checkOpenType(inode: Inode, flags: number): void {
  if (inode.isDirectory) {
    if ((flags & O_ACCMODE) !== O_RDONLY || (flags & (O_CREAT | O_TRUNC)) !== 0)
      throw new PosixError('EISDIR');
    return;
  }
  if ((flags & O_DIRECTORY) !== 0) throw new PosixError('ENOTDIR');
  if (inode.isSymlink) throw new PosixError('ELOOP');
  // Pipes, sockets and devices are the kernel's: none is behind a file system in process.
  if (!inode.isRegular) throw new PosixError('ENXIO');
}

/** The permissions that opening with these flags needs. */
export function openMask(flags: number): number {
  const mode = flags & O_ACCMODE;
  const mask = mode === O_RDONLY ? MAY_READ : mode === O_WRONLY ? MAY_WRITE : MAY_READ | MAY_WRITE;
  return (flags & O_TRUNC) !== 0 ? mask | MAY_WRITE : mask;
}
