/**
 * Taking over a descriptor that another process sends over a socket (SCM_RIGHTS, unix(7)).
 *
 * Node can send and receive none. koffi, which calls functions of the C library, can: three of them are called here,
 * once a mount. koffi is an optional dependency: who mounts as root does not need it.
 *
 * libfuse opens a descriptor that programs inherit which this process starts; with koffi it is closed to them.
 */
import { closeSync } from 'node:fs';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';

/** Linux, the same on every architecture that Node runs on. */
const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC = 0o2000000;
const O_CLOEXEC = 0o2000000;
const MSG_DONTWAIT = 0x40;
const MSG_CMSG_CLOEXEC = 0x40000000;
const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const F_SETFD = 2;
const FD_CLOEXEC = 1;
/** Room for control messages: one descriptor takes 24 bytes. */
const CONTROL_BYTES = 64;

/** What is used of koffi. Its own types are not asked for, so that the build does not need the package. */
interface Koffi {
  load(path: null): {
    func(name: string, result: string, parameters: unknown[]): (...args: unknown[]) => number;
  };
  struct(fields: Record<string, unknown>): unknown;
  pointer(type: unknown): unknown;
  inout(type: unknown): unknown;
  out(type: unknown): unknown;
  alloc(type: string, length: number): unknown;
  free(pointer: unknown): void;
  decode(pointer: unknown, type: string, length: number): Uint8Array;
  errno(): number;
}

export interface DescriptorSocket {
  /** What the sender inherits. */
  readonly senderEnd: number;
  /**
   * Takes the descriptor that has been sent and gives it the number `target`, which is open already and is closed
   * by that. Never waits. @throws LsnfsError IO when none was sent
   */
  receiveAs(target: number): void;
  close(): void;
}

/**
 * A pair of connected sockets for one descriptor.
 * @throws LsnfsError MOUNT_REFUSED without koffi, IO when there are no sockets to be had
 */
export async function openDescriptorSocket(): Promise<DescriptorSocket> {
  const koffi = await loadKoffi();
  const library = koffi.load(null);
  const socketpair = library.func('socketpair', 'int', [
    'int',
    'int',
    'int',
    koffi.out(koffi.pointer('int')),
  ]);
  const pair = [-1, -1];
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) !== 0)
    throw new LsnfsError('IO', `no pair of sockets can be had (errno ${koffi.errno()})`);
  const [receiverEnd, senderEnd] = pair as [number, number];
  return {
    senderEnd,
    receiveAs: (target) => {
      const received = receive(koffi, receiverEnd);
      const dup3 = library.func('dup3', 'int', ['int', 'int', 'int']);
      const result = dup3(received, target, O_CLOEXEC);
      const errno = koffi.errno();
      closeSync(received);
      if (result !== target)
        throw new LsnfsError('IO', `a descriptor cannot be given its number (errno ${errno})`);
    },
    close: () => {
      closeSync(receiverEnd);
      closeSync(senderEnd);
    },
  };
}

/**
 * Sees to it that programs which this process starts do not inherit a descriptor. Returns whether it could be done: not
 * without koffi.
 */
export async function closeAtExec(descriptor: number): Promise<boolean> {
  let koffi: Koffi;
  try {
    koffi = await importKoffi();
  } catch (error) {
    if (systemErrorCode(error) !== 'ERR_MODULE_NOT_FOUND') throw error;
    return false;
  }
  const fcntl = koffi.load(null).func('fcntl', 'int', ['int', 'int', 'int']);
  return fcntl(descriptor, F_SETFD, FD_CLOEXEC) === 0;
}

async function importKoffi(): Promise<Koffi> {
  // Not a literal, so that the compiler does not look for the package.
  const name: string = 'koffi';
  return ((await import(name)) as { default: Koffi }).default;
}

async function loadKoffi(): Promise<Koffi> {
  try {
    return await importKoffi();
  } catch (error) {
    const why =
      systemErrorCode(error) === 'ERR_MODULE_NOT_FOUND'
        ? 'is not installed'
        : `cannot be loaded (${error instanceof Error ? error.message.split('\n')[0] : String(error)})`;
    throw new LsnfsError(
      'MOUNT_REFUSED',
      `mounting as another user than root needs the npm package koffi, which ${why}; install lsnfs with it ("npm install -g --include=optional lsnfs"), or mount as root`,
    );
  }
}

/** The descriptor that waits in the socket, closed at exec. */
function receive(koffi: Koffi, socket: number): number {
  const vector = koffi.struct({ base: 'void *', length: 'size_t' });
  const header = koffi.struct({
    name: 'void *',
    nameLength: 'uint32_t',
    vectors: koffi.pointer(vector),
    vectorCount: 'size_t',
    control: 'void *',
    controlLength: 'size_t',
    flags: 'int',
  });
  const recvmsg = koffi
    .load(null)
    .func('recvmsg', 'intptr_t', ['int', koffi.inout(koffi.pointer(header)), 'int']);
  const data = koffi.alloc('uint8_t', 1);
  const control = koffi.alloc('uint8_t', CONTROL_BYTES);
  try {
    const message = {
      name: null,
      nameLength: 0,
      vectors: [{ base: data, length: 1 }],
      vectorCount: 1,
      control,
      controlLength: CONTROL_BYTES,
      flags: 0,
    };
    const length = recvmsg(socket, message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (length < 0) throw new LsnfsError('IO', `no descriptor was sent (errno ${koffi.errno()})`);
    const bytes = Buffer.from(koffi.decode(control, 'uint8_t', Number(message.controlLength)));
    return descriptorIn(bytes);
  } finally {
    koffi.free(data);
    koffi.free(control);
  }
}

/** struct cmsghdr: its length (a size_t), level and type; one descriptor behind it. */
function descriptorIn(control: Buffer): number {
  // Every system that koffi is built for here is little-endian; a size_t is as long as what is left says.
  const wordBytes = process.arch === 'ia32' || process.arch === 'arm' ? 4 : 8;
  const dataAt = wordBytes + 8;
  const isRights =
    control.length >= dataAt + 4 &&
    control.readUInt32LE(0) === dataAt + 4 &&
    control.readInt32LE(wordBytes) === SOL_SOCKET &&
    control.readInt32LE(wordBytes + 4) === SCM_RIGHTS;
  if (!isRights) throw new LsnfsError('IO', 'what came over the socket is no descriptor');
  return control.readInt32LE(dataAt);
}
