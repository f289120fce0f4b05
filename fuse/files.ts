/**
 * Requests about the content of files: open, create, read, write, fsync and the like.
 *
 * Reads go straight into the reply. A write through a handle that is to be synchronous, and an fsync, are answered
 * by whoever makes the log durable; the loop goes on meanwhile.
 */
import { ERRNO } from '../src/errors.ts';
import {
  O_ACCMODE,
  O_APPEND,
  O_DSYNC,
  O_RDONLY,
  O_TRUNC,
  ROOT_INODE,
  SEEK_DATA,
  SEEK_HOLE,
} from '../src/vfs/file-system.ts';
import { type Context, NO_REPLY } from './context.ts';
import {
  COPY_FILE_RANGE_IN,
  COPY_FILE_RANGE_OUT,
  CREATE_IN,
  ENTRY_OUT,
  FALLOCATE_IN,
  FOPEN,
  FUSE_OPEN_KILL_SUIDGID,
  FUSE_WRITE_CACHE,
  FUSE_WRITE_KILL_SUIDGID,
  IN_HEADER,
  LSEEK_IN,
  LSEEK_OUT,
  OPEN_IN,
  OPEN_OUT,
  OUT_HEADER,
  READ_IN,
  RELEASE_IN,
  WRITE_IN,
  WRITE_OUT,
} from './protocol.ts';

/** How much one COPY_FILE_RANGE copies at most; the caller comes back for the rest. */
const COPY_AT_ONCE = 64 << 20;

/** The flags as the file system sees them: with writeback cache the kernel itself finds where to append. */
function openFlags(c: Context, flags: number): number {
  return c.negotiated?.writebackCache === false ? flags : flags & ~O_APPEND;
}

export function open(c: Context): number {
  const { request } = c;
  const { door, inode } = request;
  const asked = openFlags(c, request.u32(OPEN_IN.flags));
  const killed = (request.u32(OPEN_IN.openFlags) & FUSE_OPEN_KILL_SUIDGID) !== 0 && (asked & O_TRUNC) !== 0;
  // A truncation that takes setuid and setgid away is one change of attributes.
  const flags = killed ? asked & ~O_TRUNC : asked;
  const fileSystem = c.fileSystem;
  const handle = fileSystem.open(c.caller, inode, flags);
  if (killed) {
    try {
      const { mode } = fileSystem.getattr(c.caller, inode);
      // Not through the handle: O_TRUNC goes with O_RDONLY, too.
      fileSystem.setattr(c.caller, inode, { size: 0, killPrivileges: true });
      c.tellMode(inode, mode);
    } catch (error) {
      fileSystem.release(handle);
      throw error;
    }
  }
  c.opened(door, handle, inode, (flags & O_ACCMODE) !== O_RDONLY);
  c.reply.openOut(0, handle, c.isCacheable(door) ? FOPEN.KEEP_CACHE : 0);
  return OPEN_OUT.SIZE;
}

export function create(c: Context): number {
  const { request } = c;
  const { door, inode } = request;
  const flags = openFlags(c, request.u32(CREATE_IN.flags));
  const mode = request.u32(CREATE_IN.mode);
  const creator = c.creator(request.u32(CREATE_IN.umask));
  const name = request.name(CREATE_IN.SIZE);
  const { attributes, handle } = c.fileSystem.create(creator, inode, name, mode, flags);
  return createdReply(c, door, attributes, handle, flags);
}

export function tmpfile(c: Context): number {
  const { request } = c;
  const { door, inode } = request;
  const flags = openFlags(c, request.u32(CREATE_IN.flags));
  const mode = request.u32(CREATE_IN.mode);
  const creator = c.creator(request.u32(CREATE_IN.umask));
  const { attributes, handle } = c.fileSystem.tmpfile(creator, inode, mode, flags);
  return createdReply(c, door, attributes, handle, flags);
}

type Created = ReturnType<Context['live']['create']>['attributes'];

function createdReply(c: Context, door: number, attributes: Created, handle: number, flags: number): number {
  c.opened(door, handle, attributes.inode, (flags & O_ACCMODE) !== O_RDONLY);
  c.writeEntry(0, door, attributes);
  c.reply.openOut(ENTRY_OUT.SIZE, handle, c.isCacheable(door) ? FOPEN.KEEP_CACHE : 0);
  return ENTRY_OUT.SIZE + OPEN_OUT.SIZE;
}

export function read(c: Context): number {
  const { request, reply } = c;
  const size = Math.min(request.u32(READ_IN.size), reply.bodyCapacity);
  const offset = request.offset64(READ_IN.offset);
  return c.fileSystem.read(request.u64(READ_IN.handle), offset, reply.bytes, OUT_HEADER.SIZE, size);
}

export function write(c: Context): number {
  const { request, reply } = c;
  const size = request.u32(WRITE_IN.size);
  const start = request.data(WRITE_IN.SIZE, size);
  const writeFlags = request.u32(WRITE_IN.writeFlags);
  const handle = request.u64(WRITE_IN.handle);
  const offset = request.offset64(WRITE_IN.offset);
  const kill = (writeFlags & FUSE_WRITE_KILL_SUIDGID) !== 0;
  const fileSystem = c.fileSystem;
  const mode = kill ? fileSystem.getattr(c.caller, request.inode).mode : 0;
  const written = fileSystem.write(c.caller, handle, offset, request.bytes, start, size, kill);
  if (kill) c.tellMode(request.inode, mode);
  // What the kernel writes back from its cache carries no flags; it sends FSYNC for those who asked for it.
  if ((request.u32(WRITE_IN.flags) & O_DSYNC) !== 0 && (writeFlags & FUSE_WRITE_CACHE) === 0) {
    const deferred = c.writeReplyWhenDurable(fileSystem.fsync(request.inode), written);
    if (deferred !== undefined) return deferred;
  }
  reply.u32(WRITE_OUT.size, written);
  reply.u32(WRITE_OUT.padding, 0);
  return WRITE_OUT.SIZE;
}

export function release(c: Context): number {
  const { request } = c;
  const handle = request.u64(RELEASE_IN.handle);
  c.fileSystem.release(handle);
  c.closed(request.door, handle);
  return 0;
}

/** FSYNC and FSYNCDIR. */
export function fsync(c: Context): number {
  const { door, inode } = c.request;
  if (door !== 0) return 0;
  c.tellBlocks(inode);
  return c.replyWhenDurable(c.live.fsync(inode));
}

/** SYNCFS: kernels send it for some kinds of mounts only. */
export function syncfs(c: Context): number {
  return c.replyWhenDurable(c.live.fsync(ROOT_INODE));
}

export function fallocate(c: Context): number {
  const { request } = c;
  const offset = request.offset64(FALLOCATE_IN.offset);
  const length = request.offset64(FALLOCATE_IN.length);
  const mode = request.u32(FALLOCATE_IN.mode);
  const { door, inode } = request;
  const fileSystem = c.fileSystem;
  const before = fileSystem.getattr(c.caller, inode).mode;
  fileSystem.fallocate(c.caller, request.u64(FALLOCATE_IN.handle), mode, offset, length);
  if (door === 0) c.tellMode(inode, before);
  return 0;
}

/**
 * SEEK_DATA and SEEK_HOLE. The kernel does not write back before it asks, and holds the inode's lock: of a file
 * that somebody has open for writing, another thread has it written back first.
 */
export function lseek(c: Context): number {
  const { request } = c;
  const whence = request.u32(LSEEK_IN.whence);
  if (whence !== SEEK_DATA && whence !== SEEK_HOLE) return -ERRNO.EINVAL;
  const { door, inode } = request;
  if (!c.resumed && door === 0 && c.options.writeBack !== undefined && c.writers.has(inode)) {
    return c.postpone(inode, IN_HEADER.SIZE + LSEEK_IN.SIZE);
  }
  // Whatever the offset is: one that no file reaches, or a negative one, is ENXIO and no other error.
  const offset = request.i64(LSEEK_IN.offset);
  c.reply.u64(LSEEK_OUT.offset, c.fileSystem.lseek(request.u64(LSEEK_IN.handle), offset, whence));
  return LSEEK_OUT.SIZE;
}

function copyRange(c: Context): number {
  const { request } = c;
  const { door } = request;
  c.requireSameDoor(request.doorAt(COPY_FILE_RANGE_IN.nodeOut));
  if (request.u64(COPY_FILE_RANGE_IN.flags) !== 0) return -ERRNO.EINVAL;
  const fileSystem = door === 0 ? c.live : c.doors.byNumber(door).fileSystem;
  const target = request.inodeAt(COPY_FILE_RANGE_IN.nodeOut);
  const before = fileSystem.getattr(c.caller, target).mode;
  const { accessSeconds, accessNanoseconds } = fileSystem.getattr(c.caller, request.inode);
  const copied = fileSystem.copyFileRange(
    c.caller,
    request.u64(COPY_FILE_RANGE_IN.handleIn),
    request.offset64(COPY_FILE_RANGE_IN.offsetIn),
    request.u64(COPY_FILE_RANGE_IN.handleOut),
    request.offset64(COPY_FILE_RANGE_IN.offsetOut),
    // The reply of the older request holds 32 bits, and one request is not to keep all others waiting.
    Math.min(request.u64(COPY_FILE_RANGE_IN.length), COPY_AT_ONCE),
  );
  if (door === 0) {
    c.tellMode(target, before);
    c.tellAccessTime(request.inode, accessSeconds, accessNanoseconds);
  }
  return copied;
}

export function copyFileRange(c: Context): number {
  const copied = copyRange(c);
  if (copied < 0) return copied;
  c.reply.u32(WRITE_OUT.size, copied);
  c.reply.u32(WRITE_OUT.padding, 0);
  return WRITE_OUT.SIZE;
}

export function copyFileRange64(c: Context): number {
  const copied = copyRange(c);
  if (copied < 0) return copied;
  c.reply.u64(COPY_FILE_RANGE_OUT.bytesCopied, copied);
  return COPY_FILE_RANGE_OUT.SIZE;
}

/** NOTIFY_REPLY: the answer to our own retrieval of nothing, which was sent to end a blocking read. */
export function notifyReply(c: Context): number {
  c.woken = true;
  return NO_REPLY;
}
