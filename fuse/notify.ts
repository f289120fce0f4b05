/**
 * Messages from the server that answer no request: "forget what you know of …".
 *
 * The encoders here are pure. Invalidations may wait for locks that a request holds which is being served, so they
 * are written by another thread than the one that serves: `Notifier` writes them one after the other through the
 * thread pool. The wake-up never waits and may be written by any thread: it retrieves nothing of a file that exists
 * for this alone (the kernel must know it: it is looked up once), and the kernel puts the answer (NOTIFY_REPLY) into
 * the queue that the serving thread reads.
 */
import { write as writeWithCallback } from 'node:fs';
import { systemErrorCode } from '../src/errors.ts';
import {
  FUSE_ROOT_ID,
  INC_EPOCH_MINOR_VERSION,
  NOTIFY,
  NOTIFY_DELETE_OUT,
  NOTIFY_INVAL_ENTRY_OUT,
  NOTIFY_INVAL_INODE_OUT,
  NOTIFY_RETRIEVE_OUT,
  nodeHigh,
  OUT_HEADER,
  WAKE_DOOR,
  WAKE_INODE,
} from './protocol.ts';
import type { RestoredFile } from './refresh.ts';

function message(code: number, bodyLength: number): { bytes: Buffer; body: DataView } {
  const bytes = Buffer.alloc(OUT_HEADER.SIZE + bodyLength);
  bytes.writeUInt32LE(bytes.length, OUT_HEADER.length);
  bytes.writeInt32LE(code, OUT_HEADER.error);
  return { bytes, body: new DataView(bytes.buffer, bytes.byteOffset + OUT_HEADER.SIZE, bodyLength) };
}

function putNode(body: DataView, at: number, door: number, inode: number): void {
  body.setUint32(at, inode % 2 ** 32, true);
  body.setUint32(at + 4, nodeHigh(door, inode), true);
}

/** As the offset of an invalidation: nothing of the content, and so nothing that could wait for a lock. */
export const ATTRIBUTES_ONLY = -1;

/**
 * Attributes of a node, and its cached data from `offset` on (`length` 0: to the end) unless `offset` is negative.
 * Dirty pages are written back first, and waited for.
 */
export function invalidateInode(door: number, inode: number, offset = 0, length = 0): Buffer {
  const { bytes, body } = message(NOTIFY.INVAL_INODE, NOTIFY_INVAL_INODE_OUT.SIZE);
  putNode(body, NOTIFY_INVAL_INODE_OUT.node, door, inode);
  body.setBigInt64(NOTIFY_INVAL_INODE_OUT.offset, BigInt(offset), true);
  body.setBigInt64(NOTIFY_INVAL_INODE_OUT.length, BigInt(length), true);
  return bytes;
}

/** What is known of a name, and all that is below it. */
export function invalidateEntry(door: number, parent: number, name: Uint8Array, flags = 0): Buffer {
  const { bytes, body } = message(NOTIFY.INVAL_ENTRY, NOTIFY_INVAL_ENTRY_OUT.SIZE + name.length + 1);
  putNode(body, NOTIFY_INVAL_ENTRY_OUT.parent, door, parent);
  body.setUint32(NOTIFY_INVAL_ENTRY_OUT.nameLength, name.length, true);
  body.setUint32(NOTIFY_INVAL_ENTRY_OUT.flags, flags, true);
  bytes.set(name, OUT_HEADER.SIZE + NOTIFY_INVAL_ENTRY_OUT.SIZE);
  return bytes;
}

/** A name is gone for good: as if it had been removed through the mount. */
export function deleteEntry(door: number, parent: number, child: number, name: Uint8Array): Buffer {
  const { bytes, body } = message(NOTIFY.DELETE, NOTIFY_DELETE_OUT.SIZE + name.length + 1);
  putNode(body, NOTIFY_DELETE_OUT.parent, door, parent);
  putNode(body, NOTIFY_DELETE_OUT.child, door, child);
  body.setUint32(NOTIFY_DELETE_OUT.nameLength, name.length, true);
  bytes.set(name, OUT_HEADER.SIZE + NOTIFY_DELETE_OUT.SIZE);
  return bytes;
}

/** Every name is to be asked for again (7.44 and later). */
export function incrementEpoch(): Buffer {
  return message(NOTIFY.INC_EPOCH, 0).bytes;
}

/** Ends a blocking read of the request queue. ENOENT: the kernel has forgotten the file; look it up again. */
export function wakeUp(): Buffer {
  const { bytes, body } = message(NOTIFY.RETRIEVE, NOTIFY_RETRIEVE_OUT.SIZE);
  putNode(body, NOTIFY_RETRIEVE_OUT.node, WAKE_DOOR, WAKE_INODE);
  return bytes;
}

/** What changed in the live tree behind the kernel's back. Inodes and parents are of the live file system. */
export interface Invalidation {
  /** Anything may have changed: all names, and the content of all that is open. */
  readonly everything?: boolean;
  /** Names that appeared, vanished or mean another inode. */
  readonly entries?: readonly { readonly parent: number; readonly name: Uint8Array }[];
  /** Inodes whose attributes, content or listing changed. */
  readonly inodes?: readonly number[];
  /** Regular files that are open and changed: see refresh.ts. */
  readonly open?: readonly RestoredFile[];
  /** Paths of directories that have another name or parent: looked up again they keep who works in them. */
  readonly directories?: readonly Uint8Array[];
}

/** An invalidation with what the session adds to it: what the kernel may know. */
export interface KnownToKernel {
  readonly minor: number;
  /** Names at the root that were looked up; needed where the kernel cannot forget all names at once. */
  readonly rootNames: readonly Uint8Array[];
  readonly openInodes: readonly number[];
}

export const NOTHING_KNOWN: KnownToKernel = { minor: 0, rootNames: [], openInodes: [] };

/** The messages that make the kernel forget what changed. */
export function invalidationMessages(invalidation: Invalidation, known: KnownToKernel): Buffer[] {
  const messages: Buffer[] = [];
  for (const { parent, name } of invalidation.entries ?? []) messages.push(invalidateEntry(0, parent, name));
  for (const inode of invalidation.inodes ?? []) messages.push(invalidateInode(0, inode));
  if (invalidation.everything === true) {
    if (known.minor >= INC_EPOCH_MINOR_VERSION) messages.push(incrementEpoch());
    // Taking back the root's names drops all that is below them and not in use, and the inodes with it.
    for (const name of known.rootNames) messages.push(invalidateEntry(0, FUSE_ROOT_ID, name));
    for (const inode of known.openInodes) messages.push(invalidateInode(0, inode));
    messages.push(invalidateInode(0, FUSE_ROOT_ID));
  }
  return messages;
}

/** Writes messages through the thread pool, one at a time and in order. */
export class Notifier {
  private readonly descriptor: number;
  private last: Promise<void> = Promise.resolve();
  private ended = false;

  constructor(descriptor: number) {
    this.descriptor = descriptor;
  }

  /** Resolves when the kernel has done what all of them say; at once when the mount is gone. */
  send(messages: readonly Uint8Array[]): Promise<void> {
    if (messages.length === 0) return this.last;
    const sent = this.last.then(async () => {
      for (const bytes of messages) {
        if (this.ended) return;
        await this.write(bytes);
      }
    });
    // An error is the business of who asked for it; what follows is sent nevertheless.
    this.last = sent.catch(() => {});
    return sent;
  }

  /** Nothing more is written: the descriptor is about to be closed. Resolves when nothing is under way. */
  end(): Promise<void> {
    this.ended = true;
    return this.last;
  }

  private write(bytes: Uint8Array): Promise<void> {
    return new Promise((resolve, reject) => {
      writeWithCallback(this.descriptor, bytes, 0, bytes.length, null, (error) => {
        if (error === null) return resolve();
        const code = systemErrorCode(error);
        // ENOENT: the kernel does not know it, so there is nothing to forget. ENODEV, ENOTCONN: unmounted.
        // ENOTDIR, ENOTEMPTY, EBUSY: what it knows is in use and stays as long.
        const harmless = ['ENOENT', 'ENODEV', 'ENOTCONN', 'ECONNABORTED', 'ENOTDIR', 'ENOTEMPTY', 'EBUSY'];
        if (code !== undefined && harmless.includes(code)) resolve();
        else reject(error);
      });
    });
  }
}
