/** Plays the kernel: builds requests as linux/fuse.h lays them out and gives them to a session. */

import type { SessionOptions } from '../../fuse/context.ts';
import { FUSE_KERNEL_MINOR_VERSION, INIT_IN, OPCODE, OPCODE_NAMES } from '../../fuse/protocol.ts';
import { Session } from '../../fuse/session.ts';
import { TreeVolume } from './tree-volume.ts';

/** One field of a request's body: 32 bits, 64 bits, or bytes as they are. */
export type Field =
  | { u32: number }
  | { u64: number }
  | { node: readonly [door: number, inode: number] }
  | Uint8Array;

export const u32 = (value: number): Field => ({ u32: value });
export const u64 = (value: number): Field => ({ u64: value });
export const node = (door: number, inode: number): Field => ({ node: [door, inode] });
export const text = (value: string): Uint8Array => Buffer.from(`${value}\0`);

export function encodeBody(fields: readonly Field[]): Buffer {
  return Buffer.concat(
    fields.map((field) => {
      if (field instanceof Uint8Array) return Buffer.from(field);
      const bytes = Buffer.alloc('u32' in field ? 4 : 8);
      if ('u32' in field) bytes.writeUInt32LE(field.u32 >>> 0);
      else if ('u64' in field) bytes.writeBigInt64LE(BigInt(field.u64));
      else bytes.writeBigUInt64LE(BigInt(field.node[0]) * 2n ** 40n + BigInt(field.node[1]));
      return bytes;
    }),
  );
}

export interface FakeReply {
  /** Positive errno, 0 for success. */
  readonly errno: number;
  readonly body: Buffer;
}

export class FakeKernel {
  readonly volume = new TreeVolume();
  readonly session: Session;
  readonly logged: string[] = [];
  readonly notified: Buffer[] = [];
  readonly deferred: { lsn: number; ok: Buffer; failure: Buffer }[] = [];
  durableLsn = Number.MAX_SAFE_INTEGER;
  uid = 0;
  gid = 0;
  process = 4711;
  private unique = 1n;

  constructor(options: Partial<SessionOptions> = {}) {
    this.session = new Session({
      volume: this.volume,
      durableLsn: () => this.durableLsn,
      deferReply: (lsn, ok, failure) =>
        this.deferred.push({ lsn, ok: Buffer.from(ok), failure: Buffer.from(failure) }),
      notify: (message) => this.notified.push(Buffer.from(message)),
      log: (message) => this.logged.push(message),
      token: 'secret',
      ...options,
    });
  }

  /** The bytes of a request. */
  encode(opcode: number, door: number, inode: number, fields: readonly Field[]): Buffer {
    const body = encodeBody(fields);
    const bytes = Buffer.alloc(40 + body.length);
    bytes.writeUInt32LE(bytes.length, 0);
    bytes.writeUInt32LE(opcode, 4);
    // All 64 bits are the kernel's: the top bit marks a request that is sent again.
    this.unique += 2n;
    bytes.writeBigUInt64LE(this.unique | (1n << 63n), 8);
    bytes.writeBigUInt64LE(BigInt(door) * 2n ** 40n + BigInt(inode), 16);
    bytes.writeUInt32LE(this.uid, 24);
    bytes.writeUInt32LE(this.gid, 28);
    bytes.writeUInt32LE(this.process, 32);
    body.copy(bytes, 40);
    return bytes;
  }

  /** Gives raw bytes to the session. Returns the reply's bytes, or undefined when there is none. */
  raw(bytes: Uint8Array): Buffer | undefined {
    this.session.requestBytes.set(bytes);
    const length = this.session.serve(bytes.length);
    return length === 0 ? undefined : Buffer.from(this.session.replyBytes.subarray(0, length));
  }

  /** A request to a node; throws unless there is exactly a well-formed reply to it. */
  ask(opcode: number, door: number, inode: number, ...fields: Field[]): FakeReply {
    const request = this.encode(opcode, door, inode, fields);
    const reply = this.raw(request);
    if (reply === undefined) throw new Error(`${OPCODE_NAMES[opcode]}: no reply`);
    return parseReply(request, reply);
  }

  /** As `ask`, for what must succeed. */
  must(opcode: number, door: number, inode: number, ...fields: Field[]): Buffer {
    const { errno, body } = this.ask(opcode, door, inode, ...fields);
    if (errno !== 0) throw new Error(`${OPCODE_NAMES[opcode]}: errno ${errno}`);
    return body;
  }

  /** INIT as a kernel of that minor version sends it. */
  init(minor = FUSE_KERNEL_MINOR_VERSION, flags = 0x7fffffff, flags2 = 0xffffffff, major = 7): FakeReply {
    const fields = [u32(major), u32(minor), u32(131072), u32(flags)];
    if (minor >= 36) fields.push(u32(flags2), new Uint8Array(INIT_IN.SIZE - 20));
    return this.ask(OPCODE.INIT, 0, 0, ...fields);
  }

  /** LOOKUP; returns [errno, door, inode]. A negative entry has inode 0. */
  lookup(
    parent: number,
    name: string,
    door = 0,
  ): { errno: number; door: number; inode: number; valid: number } {
    const { errno, body } = this.ask(OPCODE.LOOKUP, door, parent, text(name));
    if (errno !== 0) return { errno, door: 0, inode: 0, valid: 0 };
    const id = body.readBigUInt64LE(0);
    const valid = Number(body.readBigUInt64LE(16));
    return { errno, door: Number(id >> 40n), inode: Number(id & (2n ** 40n - 1n)), valid };
  }

  /** CREATE of an empty file at the root; returns inode and handle. */
  create(name: string, parent = 1, flags = 0o102): { inode: number; handle: number } {
    const body = this.must(
      OPCODE.CREATE,
      0,
      parent,
      u32(flags),
      u32(0o100644),
      u32(0o22),
      u32(0),
      text(name),
    );
    return { inode: Number(body.readBigUInt64LE(0)), handle: Number(body.readBigUInt64LE(128)) };
  }
  write(inode: number, handle: number, offset: number, bytes: Uint8Array, flags = 0): FakeReply {
    const fixed = [u64(handle), u64(offset), u32(bytes.length), u32(0), u64(0), u32(flags), u32(0)];
    return this.ask(OPCODE.WRITE, 0, inode, ...fixed, bytes);
  }
  read(door: number, inode: number, handle: number, offset: number, size: number): FakeReply {
    const fixed = [u64(handle), u64(offset), u32(size), u32(0), u64(0), u32(0), u32(0)];
    return this.ask(OPCODE.READ, door, inode, ...fixed);
  }
}

/** Checks that the reply is one to this request. */
export function parseReply(request: Buffer, reply: Buffer): FakeReply {
  if (reply.length < 16 || reply.readUInt32LE(0) !== reply.length)
    throw new Error('a reply with a wrong length');
  if (reply.readBigUInt64LE(8) !== request.readBigUInt64LE(8)) throw new Error('a reply to another request');
  const error = reply.readInt32LE(4);
  if (error > 0 || error <= -4096) throw new Error(`error ${error} in a reply`);
  if (error !== 0 && reply.length !== 16) throw new Error('an error with a body');
  return { errno: Math.abs(error), body: reply.subarray(16) };
}
