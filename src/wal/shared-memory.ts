/**
 * The memory that the store's thread and the log's writer thread share.
 *
 * Words of 32 bits, read and written with Atomics only. An LSN is published by its low 32 bits: whoever reads it
 * knows an LSN that is less than 2^31 bytes away and derives the whole from that (`lsnBefore`, `lsnAfter`). That
 * holds because the ring is small and the writer never lets more than LAG_LIMIT bytes stay unsynced. So no LSN is ever
 * read half-written, without BigInt and without locks.
 *
 * Each word has one writing side, except the flags that one side sets and the other takes back with `exchange`. While the writer
 * sleeps, the store may borrow its part (sync-in-place.ts): the writer's words are then written by the store.
 * Whoever is about to sleep first says so, then looks again, then waits on a word that the other side
 * changes before it looks whether somebody sleeps: no wake-up is lost.
 */
import { type ErrorCode, type ErrorDetails, LsnfsError } from '../errors.ts';
import { logFailure } from './log.ts';

/** Bytes of log that may be on their way to the files. */
export const RING_SIZE = 8 * 1024 * 1024;
/** The writer is woken, or goes on by itself, when this much of the ring is filled. */
export const RING_BUSY = RING_SIZE / 4;
/** Bytes written to the files and not synced, at which the writer syncs unasked. */
export const LAG_LIMIT = 64 * 1024 * 1024;

let next = 0;
/** Changed by the store to wake the writer. */
export const SIGNAL = next++;
/** What the writer does: STATE_*. */
export const WRITER_STATE = next++;
/** Store: bytes of the log before it are in the ring. */
export const AVAILABLE = next++;
/** Store: transactions before it are whole. */
export const APPENDED = next++;
/** Writer: bytes before it are in the files, their place in the ring is free. */
export const WRITTEN = next++;
/** Writer: transactions that end before it are on stable storage. */
export const DURABLE = next++;
/** Flag of the store: somebody waits for a sync of what was appended. */
export const SYNC_WANTED = next++;
/** Flag of the store: the data file was written to. */
export const DATA_DIRTY = next++;
/** Syncs of the data file alone: how many the store asked for, and up to which of them they are done. */
export const DATA_SYNCS_WANTED = next++;
export const DATA_SYNCS_DONE = next++;
/** Flag of the store: a message is wanted when DURABLE or DATA_SYNCS_DONE advances, or the log fails. */
export const NOTIFY_WANTED = next++;
/** Calls of the store to which it waits for the answer: number, what, argument; number answered and result. */
export const CALL = next++;
export const CALL_KIND = next++;
export const CALL_ARGUMENT = next++;
export const ANSWER = next++;
export const ANSWER_RESULT = next++;
/** Writer: index of the last segment that exists. */
export const PREPARED = next++;
/** Writer: 1 when the log has failed; `failure` says why. */
export const FAILED = next++;
/** Replies: slots that the store has filled, and slots before which the writer has sent all. Both only count up. */
export const REPLY_TAIL = next++;
export const REPLY_HEAD = next++;
/** Changed by the writer whenever the store may wait for something (STORE_WAITS). */
export const PROGRESS = next++;
export const STORE_WAITS = next++;
/** Writer: the number of its thread in /proc/self/task, once it runs; 0 before. */
export const WRITER_THREAD = next++;
/** Writer: groups synced; replies that the kernel did not take. */
export const GROUPS = next++;
export const REPLIES_LOST = next++;
/** Writer: how long the sync of the log took in its last group. */
export const SYNC_MICROSECONDS = next++;
const WORDS = next;

export const STATE_BUSY = 0;
/** Asleep until the commit interval is over: wake it for a sync or a filling ring. */
export const STATE_WAITING = 1;
/** Asleep for good: wake it for anything. */
export const STATE_IDLE = 2;
/** The store does the writer's part, while the writer sleeps; and likewise, with the writer awake and waiting for it to end. */
export const STATE_BORROWED = 3;
export const STATE_AWAITED = 4;

export const CALL_PREPARE = 1;
export const CALL_FLUSH = 2;
export const CALL_CLOSE = 3;

export const RESULT_DONE = 0;
export const RESULT_ERROR = 1;

export const REPLY_SLOTS = 1024;
export const REPLY_BYTES_MAXIMUM = 64;
/** A slot, in bytes: LSN (low 32 bits), descriptor, length of the reply and of the failure reply, and both. */
export const SLOT_LSN = 0;
export const SLOT_DESCRIPTOR = 4;
export const SLOT_LENGTH = 8;
export const SLOT_FAILURE_LENGTH = 12;
export const SLOT_BYTES = 16;
export const SLOT_FAILURE_BYTES = SLOT_BYTES + REPLY_BYTES_MAXIMUM;
export const SLOT_SIZE = SLOT_FAILURE_BYTES + REPLY_BYTES_MAXIMUM;
/** A descriptor in a slot whose reply was sent. */
export const SLOT_SENT = -1;

const ERROR_BYTES = 4096;

/** The buffers, as they go to the writer thread. */
export interface SharedBuffers {
  readonly words: SharedArrayBuffer;
  readonly ring: SharedArrayBuffer;
  readonly replies: SharedArrayBuffer;
  readonly failure: SharedArrayBuffer;
  readonly callError: SharedArrayBuffer;
}

/** One side's view of them. */
export class SharedMemory {
  readonly buffers: SharedBuffers;
  readonly words: Int32Array;
  readonly ring: Buffer;
  readonly replies: Buffer;
  readonly replyWords: Int32Array;

  constructor(buffers?: SharedBuffers) {
    this.buffers = buffers ?? {
      words: new SharedArrayBuffer(4 * WORDS),
      ring: new SharedArrayBuffer(RING_SIZE),
      replies: new SharedArrayBuffer(REPLY_SLOTS * SLOT_SIZE),
      failure: new SharedArrayBuffer(4 + ERROR_BYTES),
      callError: new SharedArrayBuffer(4 + ERROR_BYTES),
    };
    this.words = new Int32Array(this.buffers.words);
    this.ring = Buffer.from(this.buffers.ring);
    this.replies = Buffer.from(this.buffers.replies);
    this.replyWords = new Int32Array(this.buffers.replies);
  }

  load(word: number): number {
    return Atomics.load(this.words, word);
  }
  store(word: number, value: number): void {
    Atomics.store(this.words, word, value);
  }
}

/** The LSN with these low bits that is `reference` or less than 2^32 before it. */
export function lsnBefore(reference: number, low: number): number {
  return reference - (((reference | 0) - low) >>> 0);
}

/** The LSN with these low bits that is `reference` or less than 2^32 after it. */
export function lsnAfter(reference: number, low: number): number {
  return reference + ((low - (reference | 0)) >>> 0);
}

/** Leaves an error for the other side; published by the word that is written after it. */
export function putError(target: SharedArrayBuffer, error: LsnfsError): void {
  let text = JSON.stringify({ code: error.code, message: error.message, details: error.details });
  if (Buffer.byteLength(text) > ERROR_BYTES) {
    text = JSON.stringify({ code: error.code, message: error.message.slice(0, 500), details: {} });
  }
  const bytes = Buffer.from(target);
  bytes.writeUInt32LE(bytes.write(text, 4), 0);
}

/** Makes an error the log's failure, for both sides. Returns what everybody is told from then on. */
export function publishFailure(shared: SharedMemory, error: unknown): LsnfsError {
  const cause =
    error instanceof LsnfsError
      ? error
      : new LsnfsError('IO', error instanceof Error ? error.message : String(error), {}, { cause: error });
  const failure = logFailure(cause);
  putError(shared.buffers.failure, failure);
  shared.store(FAILED, 1);
  return failure;
}

export function getError(source: SharedArrayBuffer): LsnfsError {
  const bytes = Buffer.from(source);
  const text = bytes.toString('utf8', 4, 4 + bytes.readUInt32LE(0));
  const { code, message, details } = JSON.parse(text) as {
    code: ErrorCode;
    message: string;
    details: ErrorDetails;
  };
  return new LsnfsError(code, message, details);
}
