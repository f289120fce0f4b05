/**
 * One process owns a store.
 *
 * The arbiter is a listening socket in Linux's abstract namespace: binding is atomic, and the kernel releases it
 * when the process ends, however it ends. Its name is derived from the store's secret id (readable by the owner
 * only) and the directory's device and inode numbers, so that nobody else can squat on it, and a copied store has a
 * lock of its own. The file `lock` beside it says who the owner is, for messages, and catches owners that live in
 * another network namespace.
 */
import { createHash } from 'node:crypto';
import * as fs from 'node:fs';
import * as net from 'node:net';
import * as path from 'node:path';
import { LsnfsError, systemErrorCode } from '../errors.ts';
import { openStoreFile, readStoreFile, replaceStoreFile } from '../storage/store-files.ts';

export interface Owner {
  pid: number;
  /** Start time of the process in clock ticks since boot (proc(5), field 22): tells a reused pid apart. */
  startTicks: string;
  mountpoint: string | null;
}

const LOCK_FILE = 'lock';
/** A lock file of ours is far shorter. */
const LOCK_FILE_LIMIT = 64 * 1024;
/** How long a lock that was just released by a dying process may take to go, in milliseconds. */
const RETRY_MS = 20;
const RETRIES = 25;

export class StoreLock {
  private readonly server: net.Server;
  private readonly file: string;

  private constructor(server: net.Server, file: string) {
    this.server = server;
    this.file = file;
  }

  /** @throws LsnfsError STORE_IN_USE that names the owner's process id and mount point. */
  static async acquire(
    directory: string,
    storeId: Uint8Array,
    mountpoint: string | null,
  ): Promise<StoreLock> {
    const stat = fs.statSync(directory);
    const name = createHash('sha256').update(storeId).update(`${stat.dev}:${stat.ino}`).digest('hex');
    let server: net.Server | undefined;
    for (let attempt = 0; server === undefined; attempt++) {
      server = await bind(`\0lsnfs-${name}`);
      if (server === undefined) {
        const owner = readOwner(directory);
        if (attempt >= RETRIES || (owner !== undefined && isAlive(owner))) throw inUse(directory, owner);
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
    try {
      const owner = readOwner(directory);
      if (owner !== undefined && owner.pid !== process.pid && isAlive(owner)) throw inUse(directory, owner);
      const self: Owner = { pid: process.pid, startTicks: startTicks(process.pid) ?? '', mountpoint };
      writeOwner(directory, `${JSON.stringify(self)}\n`);
    } catch (error) {
      server.close();
      throw error;
    }
    return new StoreLock(server, path.join(directory, LOCK_FILE));
  }

  release(): Promise<void> {
    fs.rmSync(this.file, { force: true });
    return new Promise((resolve) => this.server.close(() => resolve()));
  }
}

/** Listens on the name; undefined when another socket has it. */
function bind(name: string): Promise<net.Server | undefined> {
  return new Promise((resolve, reject) => {
    const server = net.createServer((socket) => socket.destroy());
    server.unref();
    server.once('error', (error) => {
      if (systemErrorCode(error) === 'EADDRINUSE') resolve(undefined);
      else reject(new LsnfsError('IO', `cannot lock the store: ${error.message}`, {}, { cause: error }));
    });
    server.listen({ path: name }, () => resolve(server));
  });
}

/** On a full disk the file of an owner that crashed is written over, or an empty one has to do: the socket is the arbiter. */
function writeOwner(directory: string, text: string): void {
  const temporary = `${LOCK_FILE}.${process.pid}`;
  try {
    replaceStoreFile(directory, LOCK_FILE, temporary, text);
    return;
  } catch (error) {
    if (!isFull(error)) throw error;
    fs.rmSync(path.join(directory, temporary), { force: true });
  }
  const descriptor = openStoreFile(directory, LOCK_FILE, { access: 'write', create: true });
  try {
    // Not cut off, which would give its block away; blanks at the end of JSON say nothing.
    fs.writeSync(descriptor, text.padEnd(fs.fstatSync(descriptor).size), 0);
  } catch (error) {
    if (!isFull(error)) throw error;
  } finally {
    fs.closeSync(descriptor);
  }
}

function isFull(error: unknown): boolean {
  const code = systemErrorCode(error);
  return code === 'ENOSPC' || code === 'EDQUOT';
}

/** Who owns the store according to its lock file, whether or not that process still lives. */
export function readOwner(directory: string): Owner | undefined {
  let text: string;
  try {
    text = readStoreFile(directory, LOCK_FILE, LOCK_FILE_LIMIT).toString('utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    if (error instanceof LsnfsError) throw error;
    throw new LsnfsError('IO', `cannot read the lock of ${directory}: ${(error as Error).message}`);
  }
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value !== 'object' || value === null) return undefined;
    const { pid, startTicks: ticks, mountpoint } = value as Record<string, unknown>;
    if (typeof pid !== 'number' || typeof ticks !== 'string') return undefined;
    return { pid, startTicks: ticks, mountpoint: typeof mountpoint === 'string' ? mountpoint : null };
  } catch {
    // Not JSON: cut off by a crash. The socket is the arbiter; the file only informs.
    return undefined;
  }
}

/** Whether the owner's process still lives and is the same process. */
export function isAlive(owner: Owner): boolean {
  return startTicks(owner.pid) === owner.startTicks;
}

function startTicks(pid: number): string | undefined {
  try {
    const stat = fs.readFileSync(`/proc/${pid}/stat`, 'latin1');
    // The second field is the command in parentheses and may contain anything.
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    // A zombie has ended: it waits for a parent that may never ask (process 1 of a container, for one).
    return fields[0] === 'Z' || fields[0] === 'X' ? undefined : fields[19];
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT' || systemErrorCode(error) === 'ESRCH') return undefined;
    throw error;
  }
}

function inUse(directory: string, owner: Owner | undefined): LsnfsError {
  const who =
    owner === undefined
      ? 'another process'
      : `process ${owner.pid}${owner.mountpoint === null ? '' : `, mounted on ${owner.mountpoint}`}`;
  return new LsnfsError('STORE_IN_USE', `store ${directory} is in use by ${who}`, {
    store: directory,
    pid: owner?.pid,
    mountpoint: owner?.mountpoint,
  });
}
