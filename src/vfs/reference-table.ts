/**
 * How many references clients hold to each inode (nlookup of FUSE). A kernel knows as many inodes as its memory
 * allows, so the table is compact: open addressing with linear probing over two typed arrays, 12 bytes a slot, at
 * most three quarters full. It is in parts, each of which grows and shrinks by itself: with millions of inodes the
 * request that makes one table larger would wait for seconds. A count that would pass 2^32 - 1 stays there: such an
 * inode is kept until the next mount, which is safe.
 */
const PARTS = 256;
/** Slots of a part at least. */
const MINIMUM_CAPACITY = 16;
const SATURATED = 0xffffffff;

export class ReferenceTable {
  private readonly parts = Array.from({ length: PARTS }, () => new Part());

  /** Inodes with at least one reference. */
  get size(): number {
    return this.parts.reduce((sum, { size }) => sum + size, 0);
  }

  /** Bytes of memory that the table takes. */
  get byteLength(): number {
    return this.parts.reduce((sum, { byteLength }) => sum + byteLength, 0);
  }

  /** The inodes with references; none may be added meanwhile. */
  *inodes(): Generator<number> {
    for (const part of this.parts) yield* part.inodes();
  }

  private part(inode: number): Part {
    return this.parts[mixed(inode) >>> 24]!;
  }

  get(inode: number): number {
    return this.part(inode).get(inode);
  }

  add(inode: number, count: number): void {
    this.part(inode).add(inode, count);
  }

  /** Takes `count` references away. Returns how many are left. */
  subtract(inode: number, count: number): number {
    return this.part(inode).subtract(inode, count);
  }

  clear(): void {
    for (const part of this.parts) part.clear();
  }
}

/** The part that an inode is in comes of the upper bits, its slot there of the lower ones. */
function mixed(inode: number): number {
  return Math.imul(inode | 0, 0x9e3779b1);
}

class Part {
  /** Inode numbers; 0 marks a free slot. */
  private keys = new Float64Array(MINIMUM_CAPACITY);
  private counts = new Uint32Array(MINIMUM_CAPACITY);
  private mask = MINIMUM_CAPACITY - 1;
  private used = 0;

  get size(): number {
    return this.used;
  }

  get byteLength(): number {
    return this.keys.byteLength + this.counts.byteLength;
  }

  *inodes(): Generator<number> {
    for (const inode of this.keys) if (inode !== 0) yield inode;
  }

  get(inode: number): number {
    const slot = this.slotOf(inode);
    return this.keys[slot] === inode ? this.counts[slot]! : 0;
  }

  add(inode: number, count: number): void {
    let slot = this.slotOf(inode);
    if (this.keys[slot] !== inode) {
      if ((this.used + 1) * 4 > this.keys.length * 3) {
        this.resize(this.keys.length * 2);
        slot = this.slotOf(inode);
      }
      this.keys[slot] = inode;
      this.counts[slot] = 0;
      this.used++;
    }
    this.counts[slot] = Math.min(SATURATED, this.counts[slot]! + count);
  }

  subtract(inode: number, count: number): number {
    const slot = this.slotOf(inode);
    if (this.keys[slot] !== inode) return 0;
    const held = this.counts[slot]!;
    if (held === SATURATED) return held;
    if (held > count) {
      this.counts[slot] = held - count;
      return held - count;
    }
    this.remove(slot);
    return 0;
  }

  clear(): void {
    this.keys = new Float64Array(MINIMUM_CAPACITY);
    this.counts = new Uint32Array(MINIMUM_CAPACITY);
    this.mask = MINIMUM_CAPACITY - 1;
    this.used = 0;
  }

  private home(inode: number): number {
    return (mixed(inode) >>> 4) & this.mask;
  }

  private slotOf(inode: number): number {
    const keys = this.keys;
    const mask = this.mask;
    let slot = this.home(inode);
    while (keys[slot] !== 0 && keys[slot] !== inode) slot = (slot + 1) & mask;
    return slot;
  }

  /** Frees a slot and moves those after it that would be cut off from their home. */
  private remove(slot: number): void {
    const { keys, counts, mask } = this;
    let free = slot;
    for (let next = (slot + 1) & mask; keys[next] !== 0; next = (next + 1) & mask) {
      const distanceHome = (next - this.home(keys[next]!)) & mask;
      if (distanceHome < ((next - free) & mask)) continue;
      keys[free] = keys[next]!;
      counts[free] = counts[next]!;
      free = next;
    }
    keys[free] = 0;
    counts[free] = 0;
    this.used--;
    if (this.used * 8 < keys.length && keys.length > MINIMUM_CAPACITY) this.resize(keys.length / 2);
  }

  private resize(capacity: number): void {
    const { keys, counts } = this;
    this.keys = new Float64Array(capacity);
    this.counts = new Uint32Array(capacity);
    this.mask = capacity - 1;
    for (let i = 0; i < keys.length; i++) {
      if (keys[i] === 0) continue;
      const slot = this.slotOf(keys[i]!);
      this.keys[slot] = keys[i]!;
      this.counts[slot] = counts[i]!;
    }
  }
}
