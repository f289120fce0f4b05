/** A volume of trees in memory: the live one, `@lsn-N` for the present state, `@NAME` for frozen copies, and `@`. */
import { PosixError } from '../../src/errors.ts';
import { type Door, ROOT_CALLER, ROOT_INODE, type Volume } from '../../src/vfs/file-system.ts';
import { TreeFileSystem } from './tree-file-system.ts';

class TreeDoor implements Door {
  readonly number: number;
  readonly fileSystem: TreeFileSystem;
  readonly immutable: boolean;
  references = 0;
  private readonly closed: () => void;

  constructor(number: number, fileSystem: TreeFileSystem, immutable: boolean, closed: () => void) {
    this.number = number;
    this.fileSystem = fileSystem;
    this.immutable = immutable;
    this.closed = closed;
  }
  retain(count: number): void {
    this.references += count;
  }
  release(count: number): void {
    this.references -= count;
    if (this.references <= 0) this.closed();
  }
}

export class TreeVolume implements Volume {
  readonly live = new TreeFileSystem();
  private readonly snapshots = new Map<string, TreeFileSystem>();
  private readonly doors = new Map<string, TreeDoor>();
  private readonly listeners: ((name: string) => void)[] = [];
  private nextDoor = 1;

  get openDoors(): string[] {
    return [...this.doors.keys()];
  }

  door(name: Uint8Array): Door | undefined {
    const text = Buffer.from(name).toString('latin1');
    const open = this.doors.get(text);
    if (open !== undefined) return open;
    let fileSystem: TreeFileSystem | undefined;
    if (text === '@') fileSystem = this.listing();
    else if (text === `@lsn-${this.live.lsn}` || text === '@latest') fileSystem = this.live.freeze();
    else fileSystem = this.snapshots.get(text.slice(1));
    if (fileSystem === undefined) return undefined;
    const immutable = text !== '@' && text !== '@latest';
    const door = new TreeDoor(this.nextDoor++, fileSystem, immutable, () => this.doors.delete(text));
    this.doors.set(text, door);
    return door;
  }

  /** `/@`: a symbolic link for each snapshot. */
  private listing(): TreeFileSystem {
    const fileSystem = new TreeFileSystem();
    for (const name of this.snapshots.keys()) {
      fileSystem.symlink(
        ROOT_CALLER,
        ROOT_INODE,
        Buffer.from(name, 'latin1'),
        Buffer.from(`../@${name}`, 'latin1'),
      );
    }
    return fileSystem.freeze();
  }

  doorByNumber(number: number): Door {
    for (const door of this.doors.values()) if (door.number === number) return door;
    throw new PosixError('ESTALE');
  }
  snapshotNames(): Uint8Array[] {
    return [...this.snapshots.keys()].map((name) => Buffer.from(name, 'latin1'));
  }
  onSnapshotChange(listener: (name: string) => void): void {
    this.listeners.push(listener);
  }
  createSnapshot(name: string): void {
    this.snapshots.set(name, this.live.freeze());
    this.changed(name);
  }
  deleteSnapshot(name: string): void {
    this.snapshots.delete(name);
    this.changed(name);
  }
  private changed(name: string): void {
    this.doors.delete(`@${name}`);
    this.doors.delete('@');
    for (const listener of this.listeners) listener(name);
  }
}
