/**
 * The control socket of a store that is in use: `control.sock` in the store's directory.
 *
 * Whoever owns the store serves it, so that every command works on a mounted store as on any other. The caller
 * must hold the store's lock: under it, whatever lies at `control.sock` is the remains of a crash and is replaced.
 * The socket is bound under another name, made private (0600, in a directory of 0700), and renamed into place, so
 * that nobody ever sees it half-made or with wider rights.
 *
 * Stopping: `stop` takes the name away and accepts no more; connections stay, because a client may be waiting for
 * the answer to `waitUntilClosed`, which is sent by `closed` when the store is closed. `operation` results with a
 * `cursor` belong to their connection and are closed with it.
 */
import { renameSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { join } from 'node:path';
import { LsnfsError } from '../errors.ts';
import { makeSocketPrivate } from '../storage/store-files.ts';
import {
  errorToWire,
  isJsonObject,
  type JsonObject,
  LineSplitter,
  REQUEST_LIMIT,
  SOCKET_NAME,
  socketAddress,
} from './control-protocol.ts';

/** Answered by the server itself, when the store has been closed. */
export const WAIT_UNTIL_CLOSED = 'waitUntilClosed';

export interface ControlServerOptions {
  readonly storePath: string;
  /** Performs an operation; what it throws becomes the reply. */
  readonly execute: (operation: string, args: JsonObject) => Promise<unknown>;
  /** An unexpected error (not an LsnfsError), for the log. */
  readonly onUnexpectedError?: (error: unknown, operation: string) => void;
  /** A connection without a request for so long is closed, and so is one that takes so long to send one. */
  readonly idleTimeoutMs?: number;
  readonly maxConnections?: number;
  /** A connection with so many unanswered requests is not read further. */
  readonly maxRequestsInFlight?: number;
}

export interface ControlServer {
  /** Accepts no more connections and removes the socket's name. */
  stop(): void;
  /** The store is closed (or could not be): answers those who waited for that, and ends all connections. */
  closed(error?: unknown): Promise<void>;
}

/** One client. */
class Connection {
  private readonly socket: Socket;
  private readonly server: ControlConnections;
  private readonly splitter = new LineSplitter(REQUEST_LIMIT);
  private readonly cursors = new Set<number>();
  /** Requests that have arrived and wait for earlier ones: at most what one read of the socket holds. */
  private readonly queue: string[] = [];
  private inFlight = 0;
  /** The client sends no more. */
  private half = false;
  private ended = false;
  /** Runs while a request has begun to arrive and not ended: bytes that trickle in are not activity. */
  private slow: NodeJS.Timeout | undefined;

  constructor(socket: Socket, server: ControlConnections) {
    this.socket = socket;
    this.server = server;
    socket.on('data', (chunk: Buffer) => this.receive(chunk));
    socket.on('error', () => this.end());
    socket.on('end', () => {
      this.half = true;
      this.proceed();
    });
    socket.on('close', () => this.end());
    socket.on('drain', () => this.proceed());
    socket.setTimeout(this.patienceMs);
    socket.on('timeout', () => {
      if (this.inFlight === 0) this.fail('no request came for too long');
    });
  }

  private get patienceMs(): number {
    return this.server.options.idleTimeoutMs ?? 60_000;
  }

  private receive(chunk: Buffer): void {
    if (this.ended) return;
    const before = this.queue.length;
    const fits = this.splitter.push(chunk, (line) => this.queue.push(line));
    if (this.queue.length > before || !this.splitter.isMidLine) this.stopClock();
    if (this.splitter.isMidLine) {
      this.slow ??= setTimeout(() => this.fail('a request was not finished in time'), this.patienceMs);
    }
    this.proceed();
    if (!fits) this.fail(`a request exceeds ${REQUEST_LIMIT} bytes`);
  }

  /** Starts what may be started, and reads on only when nothing is left waiting. */
  private proceed(): void {
    const limit = this.server.options.maxRequestsInFlight ?? 32;
    while (!this.ended && this.inFlight < limit && !this.socket.writableNeedDrain) {
      const line = this.queue.shift();
      if (line === undefined) {
        if (this.half && this.inFlight === 0) this.finish();
        else this.socket.resume();
        return;
      }
      this.request(line);
    }
    if (!this.ended) this.socket.pause();
  }

  private request(line: string): void {
    if (this.ended || line === '') return;
    let message: unknown;
    try {
      message = JSON.parse(line);
    } catch {
      this.fail('a request is not JSON');
      return;
    }
    const { id, operation, args } = isJsonObject(message) ? message : {};
    // Infinity (1e999 in JSON) would come back as null, which is no request's id.
    const hasId = typeof id === 'string' || (typeof id === 'number' && Number.isFinite(id));
    if (!hasId || typeof operation !== 'string' || (args !== undefined && !isJsonObject(args))) {
      this.fail('a request is no object with an id, an operation and args');
      return;
    }
    this.inFlight++;
    if (operation === WAIT_UNTIL_CLOSED) {
      this.server.waiters.push((error) =>
        this.answer(id, error === undefined ? { closed: true } : undefined, error),
      );
      return;
    }
    // An async function, so that what `execute` throws at once is caught like a rejection.
    (async () => this.server.options.execute(operation, args ?? {}))().then(
      (result) => this.answer(id, this.keepCursor(result), undefined),
      (error: unknown) => {
        if (!(error instanceof LsnfsError)) this.server.options.onUnexpectedError?.(error, operation);
        this.answer(id, undefined, error ?? new Error('the operation failed without a reason'));
      },
    );
  }

  private keepCursor(result: unknown): unknown {
    if (isJsonObject(result) && typeof result.cursor === 'number') {
      if (this.ended) this.server.closeCursor(result.cursor);
      else this.cursors.add(result.cursor);
    }
    return result;
  }

  private answer(id: number | string, result: unknown, error: unknown): void {
    this.inFlight--;
    if (this.ended) return;
    this.send(error === undefined ? { id, result: result ?? null } : { id, error: errorToWire(error) });
    this.proceed();
  }

  private send(message: JsonObject): void {
    this.socket.write(`${JSON.stringify(message)}\n`);
  }

  /** Says why, and closes: after a malformed message nothing that follows can be trusted. */
  private fail(why: string): void {
    if (this.ended) return;
    this.send({
      id: null,
      error: errorToWire(new LsnfsError('INVALID_INPUT', `${why}; the connection is closed`)),
    });
    this.finish();
  }

  /** Closes after everything that was sent has gone, or after a second with a client that does not read. */
  finish(): void {
    if (this.ended) return;
    const { socket } = this;
    socket.end();
    this.end();
    setTimeout(() => socket.destroy(), 1000).unref();
  }

  private stopClock(): void {
    clearTimeout(this.slow);
    this.slow = undefined;
  }

  private end(): void {
    if (this.ended) return;
    this.ended = true;
    this.stopClock();
    this.server.forget(this);
    for (const cursor of this.cursors) this.server.closeCursor(cursor);
    this.cursors.clear();
  }
}

/** What the connections share. */
class ControlConnections {
  readonly options: ControlServerOptions;
  readonly waiters: ((error: unknown) => void)[] = [];
  readonly connections = new Set<Connection>();
  private storeClosed = false;

  constructor(options: ControlServerOptions) {
    this.options = options;
  }

  accept(socket: Socket): void {
    this.connections.add(new Connection(socket, this));
  }

  forget(connection: Connection): void {
    this.connections.delete(connection);
  }

  /** Best effort: the cursor may be at its end already, and a closed store has none. */
  closeCursor(cursor: number): void {
    if (this.storeClosed) return;
    this.options.execute('closeCursor', { cursor }).catch((error: unknown) => {
      if (!(error instanceof LsnfsError)) this.options.onUnexpectedError?.(error, 'closeCursor');
    });
  }

  finish(error: unknown): void {
    this.storeClosed = true;
    for (const waiter of this.waiters.splice(0)) waiter(error);
    for (const connection of [...this.connections]) connection.finish();
  }
}

function listen(server: Server, storePath: string, name: string): Promise<void> {
  const address = socketAddress(storePath, name);
  return new Promise<void>((resolve, reject) => {
    server.once('error', reject);
    server.listen({ path: address.path }, () => {
      server.off('error', reject);
      resolve();
    });
  }).finally(address.close);
}

export async function startControlServer(options: ControlServerOptions): Promise<ControlServer> {
  const { storePath } = options;
  const connections = new ControlConnections(options);
  const server = createServer({ allowHalfOpen: true }, (socket) => connections.accept(socket));
  server.maxConnections = options.maxConnections ?? 64;
  const temporaryName = `${SOCKET_NAME}.new`;
  const socketPath = join(storePath, SOCKET_NAME);
  rmSync(join(storePath, temporaryName), { force: true });
  await listen(server, storePath, temporaryName);
  makeSocketPrivate(storePath, temporaryName);
  renameSync(join(storePath, temporaryName), socketPath);
  // A failure to accept (no descriptors left) must not end the daemon.
  server.on('error', (error) => options.onUnexpectedError?.(error, 'accept'));
  let stopped = false;
  const gone = new Promise<void>((resolve) => server.once('close', () => resolve()));
  const stop = () => {
    if (stopped) return;
    stopped = true;
    rmSync(socketPath, { force: true });
    server.close();
  };
  return {
    stop,
    async closed(error?: unknown) {
      stop();
      connections.finish(error);
      await gone;
    },
  };
}
