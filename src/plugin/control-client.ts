/**
 * A client of a store's control socket (control-server.ts): asks the process that has the store open.
 *
 * Requests may overlap. When the connection ends, every request that waits fails with STORE_CLOSED and the detail
 * `unanswered`: the daemon has ended, cleanly or not, and what was asked may or may not have been done.
 */
import { connect, type Socket } from 'node:net';
import { LsnfsError, systemErrorCode } from '../errors.ts';
import { openSocketName } from '../storage/store-files.ts';
import {
  errorFromWire,
  isJsonObject,
  type JsonObject,
  LineSplitter,
  REPLY_LIMIT,
  REQUEST_LIMIT,
  SOCKET_NAME,
} from './control-protocol.ts';

interface Waiting {
  resolve(result: unknown): void;
  reject(error: Error): void;
}

export class ControlClient {
  private readonly socket: Socket;
  private readonly splitter = new LineSplitter(REPLY_LIMIT);
  private readonly waiting = new Map<number, Waiting>();
  private nextId = 1;
  private failure: LsnfsError | undefined;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      if (!this.splitter.push(chunk, (line) => this.receive(line)))
        this.fail('sent a reply that is too long');
    });
    socket.on('error', (error) => this.fail(`cannot be reached (${error.message})`));
    socket.on('close', () => this.fail('ended the connection before it answered'));
  }

  request(operation: string, args: JsonObject = {}): Promise<unknown> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    const id = this.nextId++;
    const line = `${JSON.stringify({ id, operation, args })}\n`;
    if (line.length > REQUEST_LIMIT) {
      return Promise.reject(
        new LsnfsError('INVALID_INPUT', `the arguments of ${operation} exceed ${REQUEST_LIMIT} bytes`),
      );
    }
    return new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.socket.write(line);
    });
  }

  close(): void {
    this.fail('was left');
    this.socket.destroy();
  }

  private receive(line: string): void {
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.fail('sent a reply that is not JSON');
      return;
    }
    const { id, result, error } = isJsonObject(message) ? message : {};
    if (id === null && error !== undefined) {
      this.failWith(errorFromWire(error));
      return;
    }
    const waiting = typeof id === 'number' ? this.waiting.get(id) : undefined;
    if (waiting === undefined) {
      this.fail('answered what was not asked');
      return;
    }
    this.waiting.delete(id as number);
    if (error === undefined) waiting.resolve(result);
    else waiting.reject(errorFromWire(error));
  }

  private fail(why: string): void {
    const message = `the process that has the store open ${why}`;
    this.failWith(new LsnfsError('STORE_CLOSED', message, { unanswered: true }));
  }

  private failWith(error: LsnfsError): void {
    if (this.failure !== undefined) return;
    this.failure = error;
    this.socket.destroy();
    for (const waiting of this.waiting.values()) waiting.reject(error);
    this.waiting.clear();
  }
}

/** Connects to the process that has the store open; undefined when there is none. @throws LsnfsError EACCES, … */
export async function connectToStore(storePath: string): Promise<ControlClient | undefined> {
  let address: ReturnType<typeof openSocketName>;
  try {
    address = openSocketName(storePath, SOCKET_NAME);
  } catch (error) {
    if (isAbsence(error)) return undefined;
    throw refused(storePath, error);
  }
  const socket = connect({ path: address.path });
  try {
    await new Promise<void>((resolve, reject) => {
      socket.once('connect', resolve);
      socket.once('error', reject);
    });
    socket.removeAllListeners('error');
  } catch (error) {
    socket.destroy();
    if (isAbsence(error)) return undefined;
    throw refused(storePath, error);
  } finally {
    address.close();
  }
  return new ControlClient(socket);
}

/** No name, no directory, a socket that a crash left behind, or one that is being closed. */
function isAbsence(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOENT' || code === 'ENOTDIR' || code === 'ECONNREFUSED' || code === 'ECONNRESET';
}

function refused(storePath: string, error: unknown): LsnfsError {
  if (error instanceof LsnfsError) return error;
  const code = systemErrorCode(error);
  if (code === 'EACCES' || code === 'EPERM') {
    return new LsnfsError('EACCES', `no permission to use ${storePath}: only its owner and root may`, {
      store: storePath,
    });
  }
  const why = error instanceof Error ? error.message : String(error);
  return new LsnfsError('IO', `the control socket of ${storePath} cannot be reached: ${why}`, {
    store: storePath,
  });
}
