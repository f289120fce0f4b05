/**
 * A volume over a store: the live file system, and doors to the states that names beginning with "@" mean.
 *
 * A door keeps its number when it is closed and opened again, so that an inode behind it has the same number at every
 * look; the lease on the state is held only while somebody holds the door. Doors that were asked for and never
 * taken up are let go after a while.
 */
import { LsnfsError, PosixError } from '../errors.ts';
import type { History, Lease } from '../history/history.ts';
import { parseTarget, type Target } from '../history/targets.ts';
import type { VfsOptions } from './core.ts';
import type { Door, FileSystem, Volume } from './file-system.ts';
import type { LiveFileSystem } from './live-file-system.ts';
import { PastFileSystem } from './past-file-system.ts';
import { SnapshotList } from './snapshot-list.ts';

const AT = 0x40;
/** Door numbers fit the upper 23 bits of a node id. */
const DOORS_MAX = 2 ** 23 - 1;
/** The list of snapshots is number 1, the live file system 0. */
const FIRST_NUMBER = 2;
/** Numbers of closed doors that are remembered: a program that reads "@latest" for ever must not fill memory. */
const NUMBERS_KEPT = 65_536;
/** Doors that nobody holds and that stay open nevertheless. */
const IDLE_DOORS = 16;

class StateDoor implements Door {
  readonly number: number;
  readonly fileSystem: FileSystem;
  readonly lsn: number;
  readonly lease: Lease;
  readonly key: string;
  immutable: boolean;
  holders = 0;
  private readonly volume: StateVolume;

  constructor(
    volume: StateVolume,
    number: number,
    key: string,
    lsn: number,
    lease: Lease,
    immutable: boolean,
  ) {
    this.volume = volume;
    this.number = number;
    this.key = key;
    this.lsn = lsn;
    this.lease = lease;
    this.immutable = immutable;
    this.fileSystem = new PastFileSystem(lease.state, volume.options);
  }

  retain(count: number): void {
    this.holders += count;
  }

  release(count: number): void {
    this.holders = Math.max(0, this.holders - count);
    if (this.holders === 0) this.volume.letGo(this);
  }
}

export class StateVolume implements Volume {
  readonly live: LiveFileSystem;
  readonly history: History;
  readonly options: VfsOptions;
  private readonly list: Door;
  private readonly doors = new Map<string, StateDoor>();
  private readonly byNumber = new Map<number, StateDoor>();
  /** Numbers given, by name and LSN. */
  private readonly numbers = new Map<string, number>();
  private nextNumber = FIRST_NUMBER;

  constructor(history: History, live: LiveFileSystem, options: VfsOptions) {
    this.history = history;
    this.live = live;
    this.options = options;
    history.onReleaseIdle(() => this.closeIdle(0));
    this.list = {
      number: 1,
      fileSystem: new SnapshotList(history, options),
      immutable: false,
      retain() {},
      release() {},
    };
  }

  /** @throws LsnfsError NO_SUCH_STATE for an LSN or a time that cannot be opened, INVALID_INPUT for none at all. */
  door(name: Uint8Array): Door | undefined {
    if (name[0] !== AT) return undefined;
    if (name.length === 1) return this.list;
    const text = Buffer.from(name).toString('utf8', 1);
    let target: Target;
    try {
      target = parseTarget(text);
    } catch (error) {
      if (!(error instanceof LsnfsError) || error.code !== 'INVALID_INPUT') throw error;
      throw new LsnfsError('NO_SUCH_STATE', error.message, error.details);
    }
    if (target.kind === 'name' && !this.history.isSnapshotName(target.name)) return undefined;
    const { lsn, immutable } = this.history.resolve(target);
    const key = `${lsn}@${text}`;
    const open = this.doors.get(key);
    if (open !== undefined) {
      open.immutable = immutable;
      return open;
    }
    const lease = this.history.open(lsn, `@${text}`);
    const door = new StateDoor(this, this.numberOf(key), key, lsn, lease, immutable);
    this.doors.set(key, door);
    this.byNumber.set(door.number, door);
    this.closeIdle();
    return door;
  }

  /** The number that a name and LSN had before, or the next one that no open door has. */
  private numberOf(key: string): number {
    const known = this.numbers.get(key);
    if (known !== undefined) return known;
    if (this.byNumber.size >= DOORS_MAX - 2) throw new PosixError('ENFILE', 'past states that are open');
    while (this.byNumber.has(this.nextNumber)) this.advance();
    const number = this.nextNumber;
    this.advance();
    this.numbers.set(key, number);
    if (this.numbers.size > NUMBERS_KEPT) this.forgetNumbers();
    return number;
  }

  private advance(): void {
    this.nextNumber = this.nextNumber === DOORS_MAX ? FIRST_NUMBER : this.nextNumber + 1;
  }

  /** Forgets the numbers of the doors that have been closed for longest. */
  private forgetNumbers(): void {
    for (const key of this.numbers.keys()) {
      if (this.numbers.size <= NUMBERS_KEPT / 2) return;
      if (!this.doors.has(key)) this.numbers.delete(key);
    }
  }

  doorByNumber(number: number): Door {
    const door = number === 1 ? this.list : this.byNumber.get(number);
    if (door === undefined) throw new PosixError('ESTALE');
    return door;
  }

  /** Nobody holds the door any more. */
  letGo(door: StateDoor): void {
    if (this.doors.get(door.key) !== door) return;
    this.doors.delete(door.key);
    this.byNumber.delete(door.number);
    door.lease.release();
  }

  /** Lets go of doors that were asked for and not taken up, the oldest first. */
  private closeIdle(most = IDLE_DOORS): void {
    let idle = 0;
    for (const door of this.doors.values()) if (door.holders === 0) idle++;
    for (const door of this.doors.values()) {
      if (idle <= most) return;
      if (door.holders > 0) continue;
      this.letGo(door);
      idle--;
    }
  }

  snapshotNames(): Uint8Array[] {
    return this.history.snapshots().map((row) => Buffer.from(row.name, 'utf8'));
  }

  onSnapshotChange(listener: (name: string) => void): void {
    this.history.onSnapshotChange(listener);
  }
}
