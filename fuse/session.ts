/**
 * One mount's conversation with the kernel: turns a request in the buffer into exactly one reply.
 *
 * Whatever a request contains, it ends in a reply (or in none where the protocol wants none): a handler's deliberate
 * errors become their errno, and anything else becomes EIO and is logged with its stack. Requests that are answered
 * with ENOSYS are not sent again by the kernel, which is wanted for FLUSH (the kernel writes dirty pages back before
 * it would send it), POLL and BMAP.
 */
import { ERRNO, errnoOf, LsnfsError, PosixError } from '../src/errors.ts';
import * as attributes from './attributes.ts';
import { Context, type Handler, NO_REPLY, type SessionOptions } from './context.ts';
import * as directories from './directories.ts';
import * as files from './files.ts';
import * as names from './names.ts';
import { negotiate } from './negotiate.ts';
import {
  EPROTO,
  FUSE_WRITE_CACHE,
  INIT_OUT,
  OPCODE,
  OPCODE_COUNT,
  OPCODE_NAMES,
  SMALLEST_BODY,
  WRITE_IN,
} from './protocol.ts';

const EINVAL = -ERRNO.EINVAL;
const ENOSYS = -ERRNO.ENOSYS;
const EIO = -ERRNO.EIO;

/** Errors that everybody notices, and that pass. */
const SHORTAGES: ReadonlySet<string> = new Set(['ENOSPC', 'ENFILE']);

const notImplemented: Handler = () => ENOSYS;
const nothing: Handler = () => 0;
const ignored: Handler = () => NO_REPLY;

function handlers(writer: directories.DirectoryWriter): Handler[] {
  const table: Handler[] = new Array(OPCODE_COUNT).fill(notImplemented);
  table[OPCODE.LOOKUP] = names.lookup;
  table[OPCODE.FORGET] = names.forget;
  table[OPCODE.BATCH_FORGET] = names.batchForget;
  table[OPCODE.MKNOD] = names.mknod;
  table[OPCODE.MKDIR] = names.mkdir;
  table[OPCODE.SYMLINK] = names.symlink;
  table[OPCODE.READLINK] = names.readlink;
  table[OPCODE.LINK] = names.link;
  table[OPCODE.UNLINK] = names.unlink;
  table[OPCODE.RMDIR] = names.rmdir;
  table[OPCODE.RENAME] = names.rename;
  table[OPCODE.RENAME2] = names.rename2;
  table[OPCODE.GETATTR] = attributes.getattr;
  table[OPCODE.STATX] = attributes.statx;
  table[OPCODE.SETATTR] = attributes.setattr;
  table[OPCODE.ACCESS] = attributes.access;
  table[OPCODE.STATFS] = attributes.statfs;
  table[OPCODE.GETXATTR] = attributes.getxattr;
  table[OPCODE.LISTXATTR] = attributes.listxattr;
  table[OPCODE.SETXATTR] = attributes.setxattr;
  table[OPCODE.REMOVEXATTR] = attributes.removexattr;
  table[OPCODE.OPEN] = files.open;
  table[OPCODE.CREATE] = files.create;
  table[OPCODE.TMPFILE] = files.tmpfile;
  table[OPCODE.READ] = files.read;
  table[OPCODE.WRITE] = files.write;
  table[OPCODE.RELEASE] = files.release;
  table[OPCODE.FSYNC] = files.fsync;
  table[OPCODE.FSYNCDIR] = files.fsync;
  table[OPCODE.SYNCFS] = files.syncfs;
  table[OPCODE.FALLOCATE] = files.fallocate;
  table[OPCODE.LSEEK] = files.lseek;
  table[OPCODE.COPY_FILE_RANGE] = files.copyFileRange;
  table[OPCODE.COPY_FILE_RANGE_64] = files.copyFileRange64;
  table[OPCODE.NOTIFY_REPLY] = files.notifyReply;
  table[OPCODE.OPENDIR] = directories.opendir;
  table[OPCODE.READDIR] = () => writer.list(false);
  table[OPCODE.READDIRPLUS] = () => writer.list(true);
  table[OPCODE.RELEASEDIR] = directories.releasedir;
  // There is no ioctl of ours, and ENOSYS would end up with the program.
  table[OPCODE.IOCTL] = () => -ERRNO.ENOTTY;
  // Nothing that can be interrupted takes long: an fsync waits for the disk alone.
  table[OPCODE.INTERRUPT] = ignored;
  table[OPCODE.DESTROY] = nothing;
  return table;
}

export class Session {
  readonly context: Context;
  private readonly handlers: Handler[];
  /** Requests by opcode, when they are counted. */
  readonly counts: Float64Array | undefined;
  /** Requests that were served. */
  served = 0;
  /** Why the kernel was refused at INIT, or undefined. */
  refusal: string | undefined;

  constructor(options: SessionOptions) {
    this.context = new Context(options);
    this.handlers = handlers(new directories.DirectoryWriter(this.context));
    this.counts = options.countRequests === true ? new Float64Array(OPCODE_COUNT) : undefined;
  }

  /** Where the next request is read into. */
  get requestBytes(): Uint8Array {
    return this.context.request.bytes;
  }
  /** Where the reply lies after `serve`. */
  get replyBytes(): Uint8Array {
    return this.context.reply.bytes;
  }
  get initialized(): boolean {
    return this.context.negotiated !== undefined;
  }

  /** Serves the request of `length` bytes in the buffer. Returns the length of the reply, 0 for none. Never throws. */
  serve(length: number): number {
    const { context } = this;
    const { request, reply, caller } = context;
    if (length > request.bytes.length || !request.decode(length)) {
      context.options.log(`a request of ${length} bytes, too short for its header, was ignored`);
      return 0;
    }
    this.served++;
    const { opcode } = request;
    if (this.counts !== undefined && opcode < OPCODE_COUNT) this.counts[opcode]!++;
    let result: number;
    if (opcode === OPCODE.INIT) result = this.init();
    else if (opcode >= OPCODE_COUNT) result = ENOSYS;
    else if (request.bodySize < SMALLEST_BODY[opcode]!) result = EINVAL;
    else {
      caller.set(request.uid, request.gid, request.pid);
      context.company.note(request.pid);
      try {
        result = this.handlers[opcode]!(context);
      } catch (error) {
        result = this.failed(error, opcode);
      } finally {
        // What is done between requests is asked for by nobody.
        caller.pid = 0;
      }
    }
    if (result === NO_REPLY || isUnanswered(opcode)) return 0;
    if (result > reply.bodyCapacity || (result < 0 && result <= -4096)) result = EIO;
    return reply.finish(request.uniqueLow, request.uniqueHigh, Math.min(result, 0), Math.max(result, 0));
  }

  /** Serves a request that waited for a write-back. Returns the length of the reply, 0 when there is no such. */
  resume(ticket: number): number {
    const { context } = this;
    const postponed = context.postponed.get(ticket);
    if (postponed === undefined) return 0;
    context.postponed.delete(ticket);
    this.requestBytes.set(postponed);
    context.resumed = true;
    try {
      return this.serve(postponed.length);
    } finally {
      context.resumed = false;
    }
  }

  /** The mount is gone: lets go of all that the kernel held. */
  end(): void {
    this.context.doors.releaseAll();
    this.context.postponed.clear();
  }

  private init(): number {
    const { context } = this;
    if (context.request.bodySize < SMALLEST_BODY[OPCODE.INIT]!) return EINVAL;
    if (context.negotiated !== undefined) return EIO;
    const outcome = negotiate(context.request, context.reply, context.options.inheritsAcls === true);
    if ('refused' in outcome) {
      this.refusal = outcome.refused;
      context.options.log(outcome.refused);
      return -EPROTO;
    }
    if ('result' in outcome) context.negotiated = outcome.result;
    return INIT_OUT.SIZE;
  }

  /**
   * Whether an error takes data away from a program that may have closed the file long ago: the kernel writes back what
   * it held, and only the next fsync hears of it. That a store is full, or has no descriptors left, everybody notices.
   */
  private isLostWrite(error: LsnfsError, opcode: number): boolean {
    if (opcode !== OPCODE.WRITE || error instanceof PosixError || SHORTAGES.has(error.errno)) return false;
    return (this.context.request.u32(WRITE_IN.writeFlags) & FUSE_WRITE_CACHE) !== 0;
  }

  private failed(error: unknown, opcode: number): number {
    if (!(error instanceof LsnfsError) || errnoOf(error) === ERRNO.EIO || this.isLostWrite(error, opcode)) {
      const { door, inode } = this.context.request;
      const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
      this.context.options.log(`${OPCODE_NAMES[opcode]} of inode ${inode} (door ${door}) failed: ${text}`);
    }
    return -errnoOf(error);
  }
}

/** Whether nobody reads a reply: sending one would be an error. */
function isUnanswered(opcode: number): boolean {
  return (
    opcode === OPCODE.FORGET ||
    opcode === OPCODE.BATCH_FORGET ||
    opcode === OPCODE.INTERRUPT ||
    opcode === OPCODE.NOTIFY_REPLY
  );
}
