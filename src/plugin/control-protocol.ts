/**
 * The language of the control socket, shared by both ends.
 *
 * Newline-delimited JSON. Request: {"id", "operation", "args"}. Reply: {"id", "result"} or {"id", "error":
 * {"code", "message", "details"}}. Replies come in any order; `id` is the requester's. Both ends are hostile to
 * the other until a line has been parsed and checked: lines have a limit, and what is no such object ends the
 * connection.
 */
import { closeSync, constants, openSync } from 'node:fs';
import { join } from 'node:path';
import { type ErrorCode, type ErrorDetails, LsnfsError } from '../errors.ts';

export const SOCKET_NAME = 'control.sock';
/** No request is longer: a path of 4,095 bytes, escaped at its worst, is far below. */
export const REQUEST_LIMIT = 1 << 20;
/** No reply is longer: a chunk of a file in base64 or a page of entries is far below. */
export const REPLY_LIMIT = 16 << 20;

/** A JSON object whose members have not been checked. */
export type JsonObject = Record<string, unknown>;

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

export interface WireError {
  code: string;
  message: string;
  details: ErrorDetails;
}

export function errorToWire(error: unknown): WireError {
  if (error instanceof LsnfsError)
    return { code: error.code, message: error.message, details: error.details };
  const text = error instanceof Error ? error.message : String(error);
  return {
    code: 'EIO',
    message: `an unexpected error, logged by the daemon with its stack: ${text}`,
    details: {},
  };
}

export function errorFromWire(value: unknown): LsnfsError {
  if (!isJsonObject(value) || typeof value.code !== 'string' || typeof value.message !== 'string') {
    return new LsnfsError('EIO', 'the daemon sent an error that cannot be read');
  }
  const details = isJsonObject(value.details) ? (value.details as ErrorDetails) : {};
  return new LsnfsError(value.code as ErrorCode, value.message, details);
}

/**
 * Splits what arrives into lines. A line that grows past the limit is reported once; then nothing more.
 * Chunks of an unfinished line are kept apart until it ends, so that a long line is not copied again and again.
 */
export class LineSplitter {
  private readonly limit: number;
  private pending: Buffer[] = [];
  private pendingBytes = 0;
  private overflown = false;

  constructor(limit: number) {
    this.limit = limit;
  }

  /** Whether a line has begun and not ended. */
  get isMidLine(): boolean {
    return this.pendingBytes > 0;
  }

  /** Calls `line` for each complete line; returns false once a line exceeds the limit. */
  push(chunk: Buffer, line: (text: string) => void): boolean {
    if (this.overflown) return false;
    let start = 0;
    for (;;) {
      const end = chunk.indexOf(0x0a, start);
      const piece = chunk.subarray(start, end < 0 ? chunk.length : end);
      if (this.pendingBytes + piece.length > this.limit) {
        this.overflown = true;
        this.pending = [];
        return false;
      }
      if (end < 0) {
        if (piece.length > 0) {
          this.pending.push(piece);
          this.pendingBytes += piece.length;
        }
        return true;
      }
      const text =
        this.pending.length === 0
          ? piece.toString('utf8')
          : Buffer.concat([...this.pending, piece]).toString('utf8');
      this.pending = [];
      this.pendingBytes = 0;
      start = end + 1;
      line(text);
    }
  }
}

/**
 * A path for bind(2) and connect(2) to a name in the store's directory. The address of a unix socket holds 107
 * bytes and store paths may be longer, so the directory is opened and named by its descriptor; close it with
 * `close` when the call is done.
 */
export function socketAddress(storePath: string, name: string): { path: string; close: () => void } {
  const direct = join(storePath, name);
  if (Buffer.byteLength(direct) <= 107) return { path: direct, close: () => {} };
  const descriptor = openSync(storePath, constants.O_RDONLY | constants.O_DIRECTORY);
  return { path: `/proc/self/fd/${descriptor}/${name}`, close: () => closeSync(descriptor) };
}
