/**
 * What of a transaction concerns one path: found by looking at its records alone.
 *
 * A record says which inode or which entry it changes. So the states of a path can be followed with only the records of its
 * names, in whatever directories, and of the inodes that are ever found at it: the rest of a transaction, and most
 * transactions, are passed over without applying them.
 */
import { KIND_XATTR, keyInode, TREE } from '../encoding/keys.ts';
import { RECORD, RecordReader } from '../encoding/record.ts';
import { KIND_OF_RECORD, leadsElsewhere } from './transaction-kinds.ts';

/** What a transaction did to one inode. */
export interface InodeTouch {
  /** Keys of entries of this directory, in the namespace tree. */
  readonly entries: Buffer[];
  /** Keys of chunks of xattrs, in the inode tree. */
  readonly xattrs: Buffer[];
  /** Bytes of content, [start, end). */
  readonly ranges: (readonly [number, number])[];
}

export const UNTOUCHED: InodeTouch = { entries: [], xattrs: [], ranges: [] };

export class TouchFilter {
  private readonly names: ReadonlySet<string>;
  private readonly targets: ReadonlySet<number>;
  private readonly pageSize: number;
  private readonly reader = new RecordReader();
  private kept: Uint8Array[] = [];
  /** Of the transaction at hand. */
  readonly touches = new Map<number, InodeTouch>();
  /** Whether an entry with one of the names was put or deleted. */
  touchesNames = false;
  leadsElsewhere = false;
  origin: { uid: number; pid: number } | undefined;

  /** `targets` may grow while the filter is in use. */
  constructor(names: readonly Buffer[], targets: ReadonlySet<number>, pageSize: number) {
    this.names = new Set(names.map((name) => name.toString('latin1')));
    this.targets = targets;
    this.pageSize = pageSize;
  }

  get isEmpty(): boolean {
    return this.kept.length === 0;
  }

  /** A copy of the records that were kept. */
  get payload(): Buffer {
    return Buffer.concat(this.kept);
  }

  /** Looks at a transaction. What was kept is good as long as the payload is. @throws LsnfsError CORRUPT_RECORD */
  take(payload: Uint8Array): void {
    const { reader, targets } = this;
    this.kept = [];
    this.touches.clear();
    this.touchesNames = false;
    this.leadsElsewhere = false;
    this.origin = undefined;
    reader.open(payload);
    while (reader.next()) {
      switch (reader.op) {
        case RECORD.put:
        case RECORD.delete:
          if (reader.tree === TREE.namespace) this.takeEntry();
          else if (reader.tree === TREE.inodes && reader.keyLength > 8) this.takeInode();
          break;
        case RECORD.write:
          if (targets.has(reader.inode)) this.touch(reader.offset, reader.offset + reader.valueLength);
          break;
        case RECORD.map:
        case RECORD.unmap:
          if (targets.has(reader.inode)) this.touchBlocks();
          break;
        case RECORD.allocate:
          // What was a hole reads as zeros still.
          if (targets.has(reader.inode)) this.keep(reader.inode);
          break;
        case RECORD.origin:
          this.origin = { uid: reader.uid, pid: reader.pid };
          break;
        default:
          if (leadsElsewhere(KIND_OF_RECORD.get(reader.op))) this.leadsElsewhere = true;
      }
    }
  }

  private takeEntry(): void {
    const { reader } = this;
    if (reader.keyLength <= 8) return;
    const key = Buffer.from(reader.key);
    const directory = keyInode(key);
    const isNamed = this.names.has(key.toString('latin1', 8));
    if (!isNamed && !this.targets.has(directory)) return;
    this.keep(directory).entries.push(key);
    this.touchesNames ||= isNamed;
  }

  private takeInode(): void {
    const { reader } = this;
    const inode = keyInode(reader.key);
    if (!this.targets.has(inode)) return;
    const touch = this.keep(inode);
    if (reader.key[8] === KIND_XATTR) touch.xattrs.push(Buffer.from(reader.key));
  }

  private touch(start: number, end: number): void {
    this.keep(this.reader.inode).ranges.push([start, end]);
  }

  private touchBlocks(): void {
    const { block, count } = this.reader;
    this.touch(block * this.pageSize, (block + count) * this.pageSize);
  }

  /** Keeps the record at hand. */
  private keep(inode: number): InodeTouch {
    const { reader } = this;
    this.kept.push(reader.bytes.subarray(reader.recordStart, reader.recordEnd));
    let touch = this.touches.get(inode);
    if (touch === undefined) {
      touch = { entries: [], xattrs: [], ranges: [] };
      this.touches.set(inode, touch);
    }
    return touch;
  }
}
