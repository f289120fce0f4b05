/**
 * The replies that wait in shared memory for the log to become durable, and how they are sent.
 *
 * Each is sent once: with its own bytes when its LSN is durable, or with those for a failure when the log has failed. The
 * log's writer does that; when the writer is gone, the store's side does, so that nobody waits for ever.
 */
import * as fs from 'node:fs';
import { systemErrorCode } from '../errors.ts';
import {
  REPLIES_LOST,
  REPLY_BYTES_MAXIMUM,
  REPLY_HEAD,
  REPLY_SLOTS,
  REPLY_TAIL,
  type SharedMemory,
  SLOT_BYTES,
  SLOT_DESCRIPTOR,
  SLOT_FAILURE_BYTES,
  SLOT_FAILURE_LENGTH,
  SLOT_LENGTH,
  SLOT_LSN,
  SLOT_SENT,
  SLOT_SIZE,
} from './shared-memory.ts';

/** Sends every reply whose LSN is durable; the others too, as failures, once the log has failed. */
export function sendReplies(shared: SharedMemory, durableLsn: number, failed: boolean): void {
  const { replies, replyWords } = shared;
  const tail = shared.load(REPLY_TAIL);
  let head = shared.load(REPLY_HEAD);
  let allBefore = true;
  for (let i = head; i !== tail; i = (i + 1) | 0) {
    const at = (i & (REPLY_SLOTS - 1)) * SLOT_SIZE;
    const descriptor = replyWords[(at + SLOT_DESCRIPTOR) >> 2]!;
    if (descriptor !== SLOT_SENT) {
      const durable = (((durableLsn | 0) - replyWords[(at + SLOT_LSN) >> 2]!) | 0) >= 0;
      if (!durable && !failed) {
        allBefore = false;
        continue;
      }
      const length = replyWords[(at + (durable ? SLOT_LENGTH : SLOT_FAILURE_LENGTH)) >> 2]!;
      replyWords[(at + SLOT_DESCRIPTOR) >> 2] = SLOT_SENT;
      sendReply(shared, descriptor, replies, at + (durable ? SLOT_BYTES : SLOT_FAILURE_BYTES), length);
    }
    if (allBefore) head = (i + 1) | 0;
  }
  shared.store(REPLY_HEAD, head);
}

function sendReply(
  shared: SharedMemory,
  descriptor: number,
  bytes: Buffer,
  at: number,
  length: number,
): void {
  try {
    fs.writeSync(descriptor, bytes, at, Math.min(length, REPLY_BYTES_MAXIMUM));
  } catch (error) {
    // ENOENT: the request was interrupted and needs no reply any more; ENODEV: unmounted. Anything else is counted:
    // the log is not the worse for it.
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ENODEV') Atomics.add(shared.words, REPLIES_LOST, 1);
  }
}
