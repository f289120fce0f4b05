/**
 * The loop of a mount: a blocking read of the next request, the synchronous operation, one write of the reply.
 *
 * No promise and no event loop on that way: a hop through either costs more than the work. `between` is called
 * after every request, and when it returns true the loop ends, so that the caller's event loop can turn, and is
 * entered again.
 */
import { readSync, writeSync } from 'node:fs';
import { systemErrorCode } from '../src/errors.ts';
import type { Session } from './session.ts';

export type LoopEnd =
  /** The descriptor belongs to no mount yet. */
  | 'unattached'
  /** `between` wants the event loop to turn. */
  | 'turn'
  /** The mount is gone: unmounted. */
  | 'unmounted'
  /** The connection was aborted. */
  | 'aborted';

export function runLoop(descriptor: number, session: Session, between: () => boolean): LoopEnd {
  const { requestBytes } = session;
  const room = requestBytes.length;
  for (;;) {
    let length: number;
    try {
      length = readSync(descriptor, requestBytes, 0, room, null);
    } catch (error) {
      switch (systemErrorCode(error)) {
        // A signal; nothing to read; a request that was interrupted before it was read.
        case 'EINTR':
        case 'EAGAIN':
        case 'ENOENT':
          continue;
        case 'EPERM':
          return 'unattached';
        case 'ENODEV':
          return 'unmounted';
        case 'ECONNABORTED':
          return 'aborted';
        default:
          throw error;
      }
    }
    if (length === 0) return 'unmounted';
    const replyLength = session.serve(length);
    if (replyLength !== 0) sendReply(descriptor, session.replyBytes, replyLength);
    if (between()) return 'turn';
  }
}

/** Sends a reply. A request that nobody waits for any more (ENOENT) or a mount that is gone needs none. */
export function sendReply(descriptor: number, bytes: Uint8Array, length: number): void {
  try {
    writeSync(descriptor, bytes, 0, length, null);
  } catch (error) {
    const code = systemErrorCode(error);
    if (code !== 'ENOENT' && code !== 'ENODEV' && code !== 'ENOTCONN' && code !== 'ECONNABORTED') throw error;
  }
}
