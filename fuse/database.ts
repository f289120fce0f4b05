/**
 * What the mount needs of a database. The store thread loads a module that makes one and knows nothing else of it.
 */
import type { Volume } from '../src/vfs/file-system.ts';
import type { Invalidation } from './notify.ts';

export interface MountedDatabase {
  readonly volume: Volume;
  /** The live file system inherits default ACLs and applies `Caller.umask` itself. Default: no, and no ACLs. */
  readonly inheritsAcls?: boolean;
  /**
   * When everything up to `lsn` is durable, writes `ok` to the descriptor, or `failure` when that fails: exactly
   * one of the two, once, and from whatever thread.
   */
  deferReply(lsn: number, descriptor: number, ok: Uint8Array, failure: Uint8Array): void;
  /** Changes are asked for by whom this object, which changes, says at their time: process 0 for nobody. Default: not told. */
  askedBy?(caller: { readonly uid: number; readonly pid: number }): void;
  /** Everything that ends at or before it is on stable storage. */
  durableLsn(): number;
  /**
   * Makes everything up to `lsn` durable before it returns, where that is quick. Returns whether it is durable. Default: never.
   */
  syncNow?(lsn: number): boolean;
  /** Whether `backgroundStep` has something to do. Asked after every request: a look at a field. */
  hasBackgroundWork(): boolean;
  /** Whether it will have within some milliseconds. As cheap. */
  hasWorkLater?(): boolean;
  /** Does a bounded piece of work that nobody waits for (a checkpoint, GC), within about `budgetMs`; GC then rests for `restMs` at least. */
  backgroundStep(budgetMs: number, restMs: number): void;
  /**
   * A command from the main thread, the control socket for one. Its promise may need the event loop of this
   * thread, which turns between requests while a command is under way.
   */
  execute(name: string, args: unknown): Promise<unknown> | unknown;
  /** Calls the listener with what changed in the live tree other than through the mount (a restore, the API). */
  onInvalidate?(listener: (invalidation: Invalidation) => void): void;
  /** Ends everything: what is not durable becomes so. */
  close(): Promise<void>;
}

/** What the mount gives to the database. */
export interface MountContext {
  readonly readOnly: boolean;
  /**
   * Writing `bytes` to `descriptor` ends the store thread's blocking read, and its event loop turns once. For
   * threads which have done something that the store thread waits for.
   */
  readonly wake: { readonly descriptor: number; readonly bytes: Uint8Array };
  readonly log: (message: string) => void;
}

/** What a database module exports. */
export interface DatabaseModule {
  openMountedDatabase(options: unknown, context: MountContext): Promise<MountedDatabase>;
}
