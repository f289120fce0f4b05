/**
 * The database of a mount: opened on the store thread, with the log's writer on a thread of its own.
 */
import { LsnfsError } from '../src/errors.ts';
import type { JsonObject } from '../src/plugin/control-protocol.ts';
import { openServed } from '../src/plugin/database.ts';
import { executeOperation, type OperationName } from '../src/plugin/operations.ts';
import { ROOT_CALLER } from '../src/vfs/file-system.ts';
import { ThreadedLog } from '../src/wal/threaded-log.ts';
import type { MountContext, MountedDatabase } from './database.ts';
import type { RestoredFile } from './refresh.ts';

/** What the module is given, from the process that mounts. */
export interface MountedDatabaseOptions {
  readonly store: string;
  readonly mountpoint: string;
  readonly commitIntervalMs?: number;
  /** Instead of what the store's settings say. */
  readonly atime?: 'relatime' | 'noatime';
  /** Whether the modules that the store's settings name are loaded. Default: no. */
  readonly allowPlugins?: boolean;
}

/** What a message between threads holds of attributes, which are an object of the file system. */
function restoredFile({ inode, size, modifySeconds, modifyNanoseconds }: RestoredFile): RestoredFile {
  return { inode, size, modifySeconds, modifyNanoseconds };
}

export async function openMountedDatabase(given: unknown, context: MountContext): Promise<MountedDatabase> {
  const options = given as MountedDatabaseOptions;
  const database = await openServed(
    options.store,
    {
      readOnly: context.readOnly,
      allowPlugins: options.allowPlugins === true,
      warn: context.log,
      ...(options.commitIntervalMs !== undefined && { commitIntervalMs: options.commitIntervalMs }),
    },
    {
      mountpoint: options.mountpoint,
      background: 'caller',
      openLog: (logOptions) => new ThreadedLog(logOptions),
      vfs: {
        checkPermissions: false,
        kernelHandles: true,
        ...(options.atime !== undefined && { atime: options.atime }),
      },
    },
  );
  const { store } = database;
  const { recovered } = store;
  if (recovered.transactions > 0) {
    context.log(
      `replayed ${recovered.transactions} transactions from the log, up to LSN ${recovered.endLsn}, where it ends: ${recovered.reason}`,
    );
  }
  return {
    volume: database.volume,
    inheritsAcls: true,
    askedBy: (caller) => {
      store.live.origin = caller;
    },
    deferReply: (lsn, descriptor, ok, failure) => store.log.writeWhenDurable(lsn, descriptor, ok, failure),
    durableLsn: () => store.log.durableLsn,
    syncNow: (lsn) => store.log.syncNow(lsn),
    hasBackgroundWork: () => store.hasBackgroundWork() || database.verifications.hasWork(),
    hasWorkLater: () => store.hasWorkLater(),
    backgroundStep: (budgetMs, restMs) => {
      store.log.poll();
      store.backgroundStep(budgetMs, restMs);
      database.verifications.backgroundStep(budgetMs);
    },
    execute: (name, args) => {
      if (typeof args !== 'object' || args === null)
        throw new LsnfsError('INVALID_INPUT', 'arguments are an object');
      const result = executeOperation(database, name as OperationName, args as JsonObject);
      // Whoever waits for the disk is woken by the thread that writes it.
      const { lsn } = store.live;
      if (!store.readOnly && lsn > store.log.durableLsn) {
        store.log.writeWhenDurable(lsn, context.wake.descriptor, context.wake.bytes, context.wake.bytes);
      }
      return result;
    },
    onInvalidate: (listener) => {
      database.onChange(({ open = [], ...changes }) => {
        const { live } = database.volume;
        const files = open.map((inode) => restoredFile(live.getattr(ROOT_CALLER, inode)));
        listener({ ...changes, open: files });
      });
    },
    close: () => database.close(),
  };
}
