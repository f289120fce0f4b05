/**
 * The doors to past states that the kernel knows: which name each was entered by, and how many references the
 * kernel holds to nodes behind it.
 *
 * A door is entered by a lookup at the live root; every node behind it that the kernel takes up holds it open, and
 * the last FORGET closes it. Because the kernel keeps what it has looked up for as long as it has memory, an
 * `@lsn-N` that was visited once would pin its state for ever: doors which no request has touched for a while are
 * listed by `idle`, so that their names can be taken back from the kernel.
 */
import { PosixError } from '../src/errors.ts';
import type { Door, Volume } from '../src/vfs/file-system.ts';

interface DoorUse {
  readonly door: Door;
  readonly name: Uint8Array;
  references: number;
  /** The tick at which a request last came through. */
  lastTick: number;
}

export class Doors {
  private readonly volume: Volume;
  private readonly uses = new Map<number, DoorUse>();
  /** The door that was asked for last: requests come in runs. */
  private recent: DoorUse | undefined;
  private tick = 0;

  constructor(volume: Volume) {
    this.volume = volume;
  }

  /** The door of a name at the root, or undefined. It is held only once `retain` is called. */
  byName(name: Uint8Array): Door | undefined {
    return this.volume.door(name);
  }

  /** The door that a node id of the kernel names. @throws ESTALE */
  byNumber(number: number): Door {
    let use = this.recent;
    if (use === undefined || use.door.number !== number) {
      use = this.uses.get(number);
      // The kernel names only what it holds; anything else is not a node id of ours.
      if (use === undefined) throw new PosixError('ESTALE');
      this.recent = use;
    }
    use.lastTick = this.tick;
    return use.door;
  }

  /** The kernel takes up nodes behind a door. `name` is by what it was entered, when it was. */
  retain(door: Door, count: number, name?: Uint8Array): void {
    let use = this.uses.get(door.number);
    if (use === undefined) {
      use = { door, name: Uint8Array.from(name ?? []), references: 0, lastTick: this.tick };
      this.uses.set(door.number, use);
    }
    use.references += count;
    use.lastTick = this.tick;
    door.retain(count);
  }

  /** The kernel gives nodes back. More than it has is a lie and is cut to what it has. */
  release(number: number, count: number): void {
    const use = this.uses.get(number);
    if (use === undefined) return;
    const released = Math.min(count, use.references);
    use.references -= released;
    if (use.references === 0) {
      this.uses.delete(number);
      if (this.recent === use) this.recent = undefined;
    }
    use.door.release(released);
  }

  get size(): number {
    return this.uses.size;
  }

  isOpen(number: number): boolean {
    return this.uses.has(number);
  }

  /** Starts the next tick and returns the doors that were not used in the last `ticks` ones. */
  idle(ticks: number): { number: number; name: Uint8Array }[] {
    this.tick++;
    const idle: { number: number; name: Uint8Array }[] = [];
    for (const use of this.uses.values()) {
      if (this.tick - use.lastTick > ticks) idle.push({ number: use.door.number, name: use.name });
    }
    return idle;
  }

  /** The mount is gone, and with it every reference of the kernel. */
  releaseAll(): void {
    for (const [number, use] of [...this.uses]) this.release(number, use.references);
  }
}
