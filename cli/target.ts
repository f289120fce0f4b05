/**
 * From what is typed as TARGET to a store that can be asked.
 *
 * TARGET is a store or the place where it is mounted. A store that some process has open is asked through its
 * control socket; any other is opened here, for as long as the command takes. The same operations run either way.
 * A path is compared with the list of mounts before it is touched: touching a mount whose daemon hangs would hang
 * the command as well.
 */
import { realpathSync } from 'node:fs';
import { basename, dirname, join, resolve, sep } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { listMounts } from '../fuse/mountinfo.ts';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { type Database, open } from '../src/index.ts';
import { connectToStore } from '../src/plugin/control-client.ts';
import type { JsonObject } from '../src/plugin/control-protocol.ts';
import {
  changesStore,
  type ExportPage,
  executeOperation,
  type ListPage,
  type OperationName,
  type ReadPage,
} from '../src/plugin/operations.ts';

/** How long a store that is in use by a process without an open control socket is waited for. */
const IN_USE_PATIENCE_MS = 5000;
const IN_USE_STEP_MS = 50;

export interface Target {
  readonly storePath: string;
  /** Where it is mounted, if the target was found in the list of mounts. */
  readonly mountpoint: string | null;
}

export interface Session {
  readonly storePath: string;
  execute(operation: OperationName, args?: JsonObject): Promise<unknown>;
}

interface ClosableSession extends Session {
  close(): void;
}

/** The path with its symbolic links resolved; itself when that cannot be done. */
export function realPath(path: string): string {
  try {
    return realpathSync(path);
  } catch (error) {
    if (systemErrorCode(error) === undefined) throw error;
    return path;
  }
}

/** What the target is, without opening anything. @throws LsnfsError INVALID_INPUT for a path inside a mount. */
export function resolveTarget(target: string): Target {
  const typed = resolve(target);
  const mounts = listMounts();
  const spellings = [
    () => typed,
    () => join(realPath(dirname(typed)), basename(typed)),
    () => realPath(typed),
  ];
  for (const spelling of spellings) {
    const path = spelling();
    const mount = mounts.find(({ mountpoint, store }) => path === mountpoint || path === store);
    if (mount !== undefined) return { storePath: mount.store, mountpoint: mount.mountpoint };
    const around = mounts.find(({ mountpoint }) => path.startsWith(`${mountpoint}${sep}`));
    if (around !== undefined) {
      const inside = path.slice(around.mountpoint.length + 1);
      throw new LsnfsError(
        'INVALID_INPUT',
        `${typed} is inside a mount: give the mount point ${around.mountpoint} as the target, and ${inside} as the path where a command takes one`,
        { mountpoint: around.mountpoint },
      );
    }
  }
  return { storePath: realPath(typed), mountpoint: null };
}

/** A session with the process that has the store open. */
async function remoteSession(storePath: string): Promise<ClosableSession | undefined> {
  const client = await connectToStore(storePath);
  if (client === undefined) return undefined;
  return {
    storePath,
    execute: (operation, args = {}) => client.request(operation, args),
    close: () => client.close(),
  };
}

/** Asks the process that has the store open, or opens it here when there is none. */
async function connectOrOpen(storePath: string, readOnly: boolean): Promise<Database | ClosableSession> {
  const deadline = Date.now() + IN_USE_PATIENCE_MS;
  for (;;) {
    const session = await remoteSession(storePath);
    if (session !== undefined) return session;
    try {
      return await open(storePath, { readOnly });
    } catch (error) {
      if (!(error instanceof LsnfsError && error.code === 'STORE_IN_USE') || Date.now() > deadline)
        throw error;
    }
    // A daemon that is starting or ending, or another command: one of them will answer, or be gone.
    await sleep(IN_USE_STEP_MS);
  }
}

function isSession(value: Database | Session): value is ClosableSession {
  return 'execute' in value;
}

/**
 * Reaches the store at the first operation, when it is known whether that changes anything. If the process that is
 * asked closes the store just then, it is reached again.
 */
class TargetSession implements Session {
  readonly storePath: string;
  private reached: Database | ClosableSession | undefined;
  private answered = false;

  constructor(storePath: string) {
    this.storePath = storePath;
  }

  async execute(operation: OperationName, args: JsonObject = {}): Promise<unknown> {
    const deadline = Date.now() + IN_USE_PATIENCE_MS;
    for (;;) {
      this.reached ??= await connectOrOpen(this.storePath, !changesStore(operation, args));
      const { reached } = this;
      if (!isSession(reached)) return executeOperation(reached, operation, args);
      try {
        const result = await reached.execute(operation, args);
        this.answered = true;
        return result;
      } catch (error) {
        if (this.answered || !wasNotDone(operation, error) || Date.now() > deadline) throw error;
      }
      await reached.close();
      this.reached = undefined;
      await sleep(IN_USE_STEP_MS);
    }
  }

  async close(): Promise<void> {
    await this.reached?.close();
  }
}

/** Whether the operation failed because the store was being closed, and can be done again without harm. */
function wasNotDone(operation: OperationName, error: unknown): boolean {
  if (!(error instanceof LsnfsError) || error.code !== 'STORE_CLOSED') return false;
  return error.details.unanswered !== true || !changesStore(operation);
}

/** Runs `body` with a session on the target, and closes it however that ends. */
export async function withTarget<Result>(
  target: string,
  body: (session: Session) => Promise<Result>,
): Promise<Result> {
  const { storePath } = resolveTarget(target);
  const session = new TargetSession(storePath);
  try {
    return await body(session);
  } finally {
    await session.close();
  }
}

/**
 * Asks the process that has the store open; or, when there is none, works on the files of the closed store. For what
 * must be possible with a store that cannot be opened.
 */
export async function askOrWork<Result>(
  target: string,
  ask: (session: Session) => Promise<Result>,
  work: (storePath: string) => Promise<Result>,
): Promise<Result> {
  const { storePath } = resolveTarget(target);
  const deadline = Date.now() + IN_USE_PATIENCE_MS;
  for (;;) {
    const session = await remoteSession(storePath);
    try {
      return session === undefined ? await work(storePath) : await ask(session);
    } catch (error) {
      const code = error instanceof LsnfsError ? error.code : undefined;
      const isPassing = session === undefined ? code === 'STORE_IN_USE' : code === 'STORE_CLOSED';
      if (!isPassing || Date.now() > deadline) throw error;
    } finally {
      session?.close();
    }
    await sleep(IN_USE_STEP_MS);
  }
}

/** The pages of a tar archive; the next is asked for while the last is being written. */
export async function* exportPages(session: Session, path: string): AsyncGenerator<ExportPage> {
  let next: Promise<unknown> | undefined = session.execute('export', { path });
  while (next !== undefined) {
    const page = (await next) as ExportPage;
    next = page.cursor === null ? undefined : session.execute('export', { cursor: page.cursor });
    next?.catch(() => {});
    yield page;
  }
}

/** The pages of a listing. */
export async function* listPages(session: Session, path: string, follow: boolean): AsyncGenerator<ListPage> {
  for (let args: JsonObject = { path, follow }; ; ) {
    const page = (await session.execute('list', args)) as ListPage;
    yield page;
    if (page.cursor === null) return;
    args = { cursor: page.cursor };
  }
}

/** Asks the process that has the store open; or, when there is none, opens it here, for what is no operation. */
export function askOrOpen<Result>(
  target: string,
  ask: (session: Session) => Promise<Result>,
  body: (database: Database) => Promise<Result>,
): Promise<Result> {
  return askOrWork(target, ask, async (storePath) => {
    const database = await open(storePath);
    try {
      return await body(database);
    } finally {
      await database.close();
    }
  });
}

/** The content of a file in pieces of base64; the next is asked for while the last is being written. */
export async function* readPages(session: Session, path: string): AsyncGenerator<string> {
  let next: Promise<unknown> | undefined = session.execute('read', { path });
  while (next !== undefined) {
    const page: ReadPage = (await next) as ReadPage;
    next = page.cursor === null ? undefined : session.execute('read', { cursor: page.cursor });
    // Whoever stops reading leaves a request behind, which may fail when the session is closed.
    next?.catch(() => {});
    yield page.data;
  }
}
