/**
 * A database module for mounts of a tree in memory. Its "log" makes everything durable at once, or, for tests that look at
 * who waits, in a background step of the store thread after the command `let-syncs-go`.
 */
import { writeSync } from 'node:fs';
import type { DatabaseModule, MountedDatabase } from '../../fuse/database.ts';
import type { Invalidation } from '../../fuse/notify.ts';
import { ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { TreeVolume } from './tree-volume.ts';

interface Deferred {
  readonly lsn: number;
  readonly descriptor: number;
  readonly ok: Uint8Array;
}

export interface TreeDatabaseOptions {
  /** Nothing is durable until the command `let-syncs-go`. */
  readonly holdSyncs?: boolean;
  /** Fails to open. */
  readonly failToOpen?: string;
}

class TreeDatabase implements MountedDatabase {
  readonly volume = new TreeVolume();
  private holdSyncs: boolean;
  private readonly deferred: Deferred[] = [];
  private durable = 0;
  private invalidate: (invalidation: Invalidation) => void = () => {};

  constructor(options: TreeDatabaseOptions) {
    this.holdSyncs = options.holdSyncs ?? false;
  }
  deferReply(lsn: number, descriptor: number, ok: Uint8Array): void {
    this.deferred.push({ lsn, descriptor, ok });
  }
  durableLsn(): number {
    return this.holdSyncs ? this.durable : Number.MAX_SAFE_INTEGER;
  }
  hasBackgroundWork(): boolean {
    return this.deferred.length > 0 && !this.holdSyncs;
  }
  backgroundStep(): void {
    for (const { lsn, descriptor, ok } of this.deferred.splice(0)) {
      this.durable = Math.max(this.durable, lsn);
      writeSync(descriptor, ok);
    }
  }
  onInvalidate(listener: (invalidation: Invalidation) => void): void {
    this.invalidate = listener;
  }

  execute(name: string, args: unknown): unknown {
    const { volume } = this;
    const text = String(args);
    switch (name) {
      case 'snapshot':
        return volume.createSnapshot(text);
      case 'delete-snapshot':
        return volume.deleteSnapshot(text);
      case 'lsn':
        return volume.live.lsn;
      case 'doors':
        return volume.openDoors;
      case 'handles':
        return volume.live.openHandles;
      case 'content':
        return this.content(text);
      case 'replace-behind-the-kernel':
        return this.replace(text);
      case 'waiting-syncs':
        return this.deferred.length;
      case 'let-syncs-go':
        this.holdSyncs = false;
        return undefined;
      case 'wait':
        return new Promise((resolve) => setTimeout(() => resolve('waited'), Number(args)));
      case 'throw':
        throw new Error(text);
      case 'crash':
        setImmediate(() => {
          throw new Error(text);
        });
        return new Promise(() => {});
      default:
        throw new Error(`no command ${name}`);
    }
  }

  /** The bytes of a file at the root as the server has them. */
  private content(name: string): Uint8Array {
    const { live } = this.volume;
    const found = live.lookup(ROOT_CALLER, ROOT_INODE, Buffer.from(name));
    if (found === undefined) throw new Error(`no file ${name}`);
    const bytes = new Uint8Array(found.size);
    const handle = live.open(ROOT_CALLER, found.inode, 0);
    live.read(handle, 0, bytes, 0, bytes.length);
    live.release(handle);
    return bytes;
  }

  /** Gives a file at the root other content and another inode, as a restore does, and tells the kernel. */
  private replace(name: string): void {
    const { live } = this.volume;
    const bytes = Buffer.from(name);
    live.unlink(ROOT_CALLER, ROOT_INODE, bytes);
    const { attributes, handle } = live.create(ROOT_CALLER, ROOT_INODE, bytes, 0o644, 1);
    live.write(ROOT_CALLER, handle, 0, Buffer.from('restored'), 0, 8, false);
    live.release(handle);
    this.invalidate({ everything: true, inodes: [attributes.inode] });
  }

  async close(): Promise<void> {}
}

export const openMountedDatabase: DatabaseModule['openMountedDatabase'] = async (options) => {
  const given = (options ?? {}) as TreeDatabaseOptions;
  if (given.failToOpen !== undefined) throw new Error(given.failToOpen);
  return new TreeDatabase(given);
};
