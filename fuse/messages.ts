/**
 * What the main thread and the store thread of a mount say to each other.
 *
 * Messages go through a MessagePort. The store thread does not turn its event loop while it serves, so the main
 * thread also counts COMMANDS in shared memory up and ends the blocking read; the store thread takes messages out
 * of the port by itself. In the same memory the store thread says what it waits for, so that it is woken in time.
 */
import { type ErrorCode, type ErrorDetails, LsnfsError } from '../src/errors.ts';
import type { KernelTimes, RestoredFile } from './refresh.ts';

/** Words of the shared memory. */
export const SHARED = {
  /** Counted up by the main thread with every message. */
  COMMANDS: 0,
  /** 1 while a wake-up is under way that the store thread has not seen: no second one is sent. */
  WAKING: 1,
  /** What the store thread needs of the main thread: one of NEEDS. */
  NEEDS: 2,
  COUNT: 3,
} as const;

export const NEEDS = {
  /** Only to be looked in on. */
  HEARTBEAT: 0,
  /** Background work is to be done although no request comes. */
  BACKGROUND: 1,
  /** A command is under way whose promise needs the event loop. */
  EVENT_LOOP: 2,
} as const;

/** Whom all files are shown to belong to; what is not there is as in the store. */
export interface ShownOwner {
  readonly uid?: number;
  readonly gid?: number;
}

/** What the store thread is started with. */
export interface StoreThreadData {
  readonly descriptor: number;
  readonly shared: SharedArrayBuffer;
  readonly databaseModule: string;
  readonly databaseOptions: unknown;
  readonly readOnly: boolean;
  readonly snapdirVisible: boolean;
  readonly shownOwner: ShownOwner;
  readonly token: string;
  readonly countRequests: boolean;
}

export type ToStore =
  /** The mount is about to be made: serve. */
  | { readonly kind: 'serve' }
  /** The mount was not made: close the database and end. */
  | { readonly kind: 'cancel' }
  | { readonly kind: 'execute'; readonly id: number; readonly name: string; readonly args: unknown }
  /** Which live inodes are open for writing. */
  | { readonly kind: 'writers'; readonly id: number }
  /** What an invalidation of everything has to name. */
  | { readonly kind: 'known'; readonly id: number }
  | { readonly kind: 'counts'; readonly id: number }
  /** Which doors were not used in the last `ticks` calls of this. */
  | { readonly kind: 'idle-doors'; readonly id: number; readonly ticks: number }
  /** Which of these doors the kernel still holds. */
  | { readonly kind: 'open-doors'; readonly id: number; readonly numbers: readonly number[] }
  /** The write-back of a postponed request is done. */
  | { readonly kind: 'written-back'; readonly ticket: number }
  /** A file was refreshed, and the kernel has these times of it. */
  | { readonly kind: 'refreshed'; readonly inode: number; readonly times: KernelTimes | undefined };

export type ToMain =
  /** The database is open. */
  | { readonly kind: 'opened' }
  | { readonly kind: 'open-failed'; readonly error: WireError }
  /** SHARED.NEEDS is not HEARTBEAT any more. */
  | { readonly kind: 'needs' }
  /** INIT was answered. */
  | { readonly kind: 'ready'; readonly minor: number }
  | { readonly kind: 'refused'; readonly reason: string }
  | { readonly kind: 'result'; readonly id: number; readonly value: unknown }
  | { readonly kind: 'failed'; readonly id: number; readonly error: WireError }
  /** Messages for the kernel, to be written by another thread than the store's. */
  | { readonly kind: 'notify'; readonly messages: readonly Uint8Array[] }
  /** Behind the messages before: files that are open and were restored, and directories that are to be looked up. */
  | {
      readonly kind: 'refresh';
      readonly files: readonly RestoredFile[];
      readonly directories: readonly Uint8Array[];
    }
  | { readonly kind: 'write-back'; readonly ticket: number; readonly inode: number }
  | { readonly kind: 'log'; readonly text: string }
  /** The mount is gone; `aborted`: its connection was cut. */
  | { readonly kind: 'unmounted'; readonly aborted: boolean }
  /** The database is closed; the thread is about to end. */
  | { readonly kind: 'closed'; readonly error?: WireError };

export interface IdleDoor {
  readonly number: number;
  readonly name: Uint8Array;
}

/** An error on its way between threads: structured cloning loses classes and codes. */
export interface WireError {
  readonly name: string;
  readonly message: string;
  readonly stack?: string;
  readonly code?: string;
  readonly details?: ErrorDetails;
}

export function toWire(error: unknown): WireError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error) };
  const wire = {
    name: error.name,
    message: error.message,
    ...(error.stack === undefined ? {} : { stack: error.stack }),
  };
  if (error instanceof LsnfsError) return { ...wire, code: error.code, details: error.details };
  return wire;
}

export function fromWire(wire: WireError): Error {
  const error =
    wire.code === undefined
      ? new Error(wire.message)
      : new LsnfsError(wire.code as ErrorCode, wire.message, wire.details ?? {});
  error.name = wire.name;
  if (wire.stack !== undefined) error.stack = wire.stack;
  return error;
}
