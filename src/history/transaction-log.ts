/**
 * The transactions of the window, newest first, and what each did.
 *
 * The log can only be read forwards. So each stretch between two versions is first walked to find places about so many
 * bytes apart; then its pieces are read from the last to the first. For the paths and attributes as they were at a
 * transaction, the records of entries and inodes (not of file data) are replayed on a private copy of the version at
 * the beginning of the stretch, up to it.
 */
import { tryDirentInode } from '../encoding/dirent.ts';
import { decodeInode, INODE_CONTENT, InodeRecord } from '../encoding/inode.ts';
import { KIND_INODE, KIND_XATTR, keyInode, TREE } from '../encoding/keys.ts';
import { RECORD, RecordReader, recordName } from '../encoding/record.ts';
import { applyTransaction } from '../store/apply.ts';
import type { Store } from '../store/store.ts';
import type { TreeState } from '../store/tree-state.ts';
import type { LogTransaction } from '../wal/reader.ts';
import { type Aspect, attributeAspects, linksOf, PathFinder, recordOf } from './changes.ts';
import { isAllBefore, isWithin, type LogBounds } from './log-bounds.ts';
import { KIND_OF_RECORD, leadsElsewhere, type TransactionKind } from './transaction-kinds.ts';

const ROOT_INODE = 1;
/** Log and transactions of a piece, at most about. */
const PIECE_BYTES = 4 * 1024 * 1024;
const PIECE_TRANSACTIONS = 16_384;
/** Transactions that are passed over between two yields. */
const TRANSACTIONS_AT_A_TIME = 64;
/** Changes of one transaction that are told with their paths. */
const CHANGES_MAXIMUM = 100;

export interface TransactionChange {
  /** As in history/changes.ts. */
  readonly kind: '+' | '-' | 'M' | 'R';
  readonly path: Buffer;
  readonly from?: Buffer;
  readonly aspects: readonly Aspect[];
}

export interface TransactionEvent {
  readonly kind: TransactionKind;
  /** The states after it and before it. */
  readonly lsn: number;
  readonly beforeLsn: number;
  readonly timeMicroseconds: number;
  readonly origin?: { readonly uid: number; readonly pid: number };
  /** Of a snapshot that it makes or deletes. */
  readonly name?: string;
  readonly message?: string;
  /** How many records of each kind it has, by their names. */
  readonly records: ReadonlyMap<string, number>;
  /** Bytes of file content that it carries or names. */
  readonly contentBytes: number;
  readonly added: number;
  readonly removed: number;
  readonly renamed: number;
  readonly modified: number;
  /** The first of these. */
  readonly changes: readonly TransactionChange[];
}

/** What a transaction says of one inode. */
interface InodeRecords {
  /** Where its record lies in the payload; length 0 for none. */
  start: number;
  length: number;
  content: boolean;
  xattrs: boolean;
}

/** A change before its path is known: `link` is a key of the namespace tree. */
interface Found {
  readonly kind: TransactionChange['kind'];
  readonly link: Buffer | undefined;
  readonly inode: number;
  readonly from?: Buffer;
  readonly aspects: readonly Aspect[];
}

/**
 * Yields every transaction within the bounds that the window still has; and undefined in between, after a piece of work
 * of a few milliseconds. Whoever does not take it to its end must `return` it.
 */
export function* transactionLog(store: Store, bounds: LogBounds): Generator<TransactionEvent | undefined> {
  let upper = Math.min(store.durableLsn, bounds.uptoLsn);
  for (const { lsn, timeMicroseconds } of store.versions().toReversed()) {
    if (lsn >= upper || store.version(lsn) === undefined) continue;
    if (lsn < store.horizonLsn) return;
    if (timeMicroseconds <= bounds.untilMicroseconds) yield* stretch(store, lsn, upper, bounds);
    upper = lsn;
    if (isAllBefore(bounds, lsn, timeMicroseconds)) return;
  }
}

function* stretch(
  store: Store,
  lower: number,
  upper: number,
  bounds: LogBounds,
): Generator<TransactionEvent | undefined> {
  // The log stays while it is read.
  const hold = store.readOnly ? undefined : store.hold();
  try {
    const places = [...(yield* findPlaces(store, lower, upper)), upper];
    for (let i = places.length - 2; i >= 0; i--) {
      const events = yield* piece(store, lower, places[i]!, places[i + 1]!, bounds);
      yield* events.reverse();
    }
  } finally {
    hold?.release();
  }
}

/** Ends of transactions where pieces begin; the first is `lower`. */
function* findPlaces(store: Store, lower: number, upper: number): Generator<undefined, number[]> {
  const places = [lower];
  const reader = store.readLog(lower, upper);
  try {
    let count = 0;
    for (const { startLsn } of reader) {
      count++;
      if (startLsn - places.at(-1)! >= PIECE_BYTES || count >= PIECE_TRANSACTIONS) {
        places.push(startLsn);
        count = 0;
      }
      if (count % TRANSACTIONS_AT_A_TIME === 0) yield undefined;
    }
  } finally {
    reader.close();
  }
  return places;
}

/** The transactions in (from, to], oldest first; the version is at `lower`. */
function* piece(
  store: Store,
  lower: number,
  from: number,
  to: number,
  bounds: LogBounds,
): Generator<undefined, TransactionEvent[]> {
  const leases = [store.leaseState(lower)];
  const reader = store.readLog(lower, to);
  const events: TransactionEvent[] = [];
  try {
    let { state } = leases[0]!;
    let count = 0;
    for (const transaction of reader) {
      if (++count % TRANSACTIONS_AT_A_TIME === 0) yield undefined;
      const parts = new TransactionParts(transaction, store.live.pageSize);
      const { startLsn, endLsn, timeMicroseconds } = transaction;
      const isTold = startLsn >= from && isWithin(bounds, endLsn, timeMicroseconds);
      const found = isTold ? parts.find(state) : undefined;
      if (leadsElsewhere(parts.kind)) {
        leases.push(store.leaseState(endLsn));
        state = leases.at(-1)!.state;
      } else if (parts.structure.length > 0) {
        applyTransaction(state, Buffer.concat(parts.structure), startLsn, endLsn, timeMicroseconds);
      }
      if (found !== undefined) events.push(parts.event(state, found));
    }
  } finally {
    reader.close();
    for (const lease of leases) lease.release();
  }
  return events;
}

/** One transaction, taken apart. */
class TransactionParts {
  private readonly transaction: LogTransaction;
  kind: TransactionKind = 'change';
  /** Records of entries and inodes. */
  readonly structure: Uint8Array[] = [];
  private origin: { uid: number; pid: number } | undefined;
  private name: string | undefined;
  private message = '';
  private readonly records = new Map<string, number>();
  private contentBytes = 0;
  /** By the key of an entry, as latin1: the inode that it means now, or 0. */
  private readonly entries = new Map<string, number>();
  private readonly inodes = new Map<number, InodeRecords>();
  private readonly counts = { added: 0, removed: 0, renamed: 0, modified: 0 };

  /** @throws LsnfsError CORRUPT_RECORD */
  constructor(transaction: LogTransaction, pageSize: number) {
    this.transaction = transaction;
    const reader = new RecordReader(transaction.payload);
    while (reader.next()) {
      const name = recordName(reader.op);
      this.records.set(name, (this.records.get(name) ?? 0) + 1);
      this.kind = KIND_OF_RECORD.get(reader.op) ?? this.kind;
      switch (reader.op) {
        case RECORD.put:
        case RECORD.delete:
          this.takeKey(reader);
          break;
        case RECORD.write:
          this.addContent(reader.inode, reader.valueLength);
          break;
        case RECORD.map:
          this.addContent(reader.inode, reader.count * pageSize);
          break;
        case RECORD.unmap:
          this.addContent(reader.inode, 0);
          break;
        case RECORD.snapshot:
        case RECORD.snapshotDelete:
          this.name = reader.name;
          if (reader.op === RECORD.snapshot) this.message = reader.message;
          break;
        case RECORD.origin:
          this.origin = { uid: reader.uid, pid: reader.pid };
          break;
        default:
      }
    }
  }

  private inode(inode: number): InodeRecords {
    let records = this.inodes.get(inode);
    if (records === undefined) {
      records = { start: 0, length: 0, content: false, xattrs: false };
      this.inodes.set(inode, records);
    }
    return records;
  }

  private addContent(inode: number, bytes: number): void {
    this.inode(inode).content = true;
    this.contentBytes += bytes;
  }

  private takeKey(reader: RecordReader): void {
    const { tree, op, keyLength, keyStart, bytes } = reader;
    if (tree === TREE.registry) this.kind = 'registry';
    if (keyLength <= 8 || (tree !== TREE.namespace && tree !== TREE.inodes)) return;
    if (tree === TREE.namespace) {
      const key = Buffer.from(reader.key).toString('latin1');
      this.entries.set(
        key,
        op === RECORD.delete ? 0 : tryDirentInode(bytes, reader.valueStart, reader.valueLength),
      );
    } else if (bytes[keyStart + 8] === KIND_INODE) {
      const records = this.inode(keyInode(reader.key));
      records.start = reader.valueStart;
      records.length = op === RECORD.delete ? 0 : reader.valueLength;
    } else {
      if (bytes[keyStart + 8] === KIND_XATTR) this.inode(keyInode(reader.key)).xattrs = true;
      return;
    }
    this.structure.push(bytes.subarray(reader.recordStart, reader.recordEnd));
  }

  /** What it changes in a state: the first of it, with paths of what goes; and counts all. */
  find(state: TreeState): Found[] {
    const found: Found[] = [];
    const add = (change: () => Found): void => {
      if (found.length < CHANGES_MAXIMUM) found.push(change());
    };
    const paths = new PathFinder(state);
    const { gone, come } = this.entriesThatChange(state);
    for (const [inode, links] of come) {
      for (const link of links) {
        const from = gone.get(inode)?.pop();
        if (from === undefined) {
          this.counts.added++;
          add(() => ({ kind: '+', link, inode, aspects: [] }));
        } else {
          this.counts.renamed++;
          add(() => ({ kind: 'R', link, inode, from: paths.ofLink(from), aspects: [] }));
        }
      }
    }
    for (const [inode, links] of gone) {
      for (const link of links) {
        this.counts.removed++;
        add(() => ({ kind: '-', link, inode, from: paths.ofLink(link), aspects: [] }));
      }
    }
    for (const [inode, records] of this.inodes) {
      if (inode === ROOT_INODE && recordOf(state, inode) === undefined) {
        this.counts.added++;
        add(() => ({ kind: '+', link: undefined, inode, aspects: [] }));
        continue;
      }
      const aspects = this.aspectsOf(state, inode, records);
      if (aspects.length === 0) continue;
      this.counts.modified++;
      add(() => ({ kind: 'M', link: undefined, inode, aspects }));
    }
    return found;
  }

  /** By inode: keys of entries that it loses and gets. */
  private entriesThatChange(state: TreeState): { gone: Map<number, Buffer[]>; come: Map<number, Buffer[]> } {
    const gone = new Map<number, Buffer[]>();
    const come = new Map<number, Buffer[]>();
    const add = (to: Map<number, Buffer[]>, inode: number, key: Buffer): void => {
      const keys = to.get(inode);
      if (keys === undefined) to.set(inode, [key]);
      else keys.push(key);
    };
    const { namespace } = state;
    for (const [text, now] of this.entries) {
      const key = Buffer.from(text, 'latin1');
      const was = namespace.find(key)
        ? tryDirentInode(namespace.page.bytes, namespace.valueStart, namespace.valueLength)
        : 0;
      if (was === now) continue;
      if (was !== 0) add(gone, was, key);
      if (now !== 0) add(come, now, key);
    }
    return { gone, come };
  }

  /** What changes of an inode that has a name; of a directory, its entries are told themselves, and not its times. */
  private aspectsOf(state: TreeState, inode: number, records: InodeRecords): Aspect[] {
    const old = recordOf(state, inode);
    if (records.length === 0) return [];
    const inline = records.length - INODE_CONTENT;
    if (old === undefined) {
      this.contentBytes += inline;
      return [];
    }
    const now = new InodeRecord();
    const { payload } = this.transaction;
    const bytes = Buffer.from(payload.buffer, payload.byteOffset, payload.length);
    decodeInode(now, inode, bytes, records.start, records.length);
    if (now.links === 0) return [];
    const attributes = attributeAspects(old, now, records.xattrs);
    if (now.isDirectory) return attributes.filter((aspect) => aspect !== 'times');
    const aspects: Aspect[] = [];
    const isWrittenInline =
      inline > 0 && (old.content === null || old.content.compare(now.content!, 0, inline, 0, old.size) !== 0);
    if (isWrittenInline) this.contentBytes += inline;
    if (records.content || isWrittenInline || old.size !== now.size) aspects.push('content');
    if (old.size !== now.size) aspects.push('size');
    if (old.links !== now.links) aspects.push('links');
    return [...aspects, ...attributes];
  }

  /** One of the names of an inode: one that it had before, if it has kept any. */
  private nameOf(state: TreeState, inode: number): Buffer | undefined {
    const links = linksOf(state, inode);
    return links.find((link) => !this.entries.has(link.toString('latin1'))) ?? links[0];
  }

  /** `state` is the one after it. */
  event(state: TreeState, found: readonly Found[]): TransactionEvent {
    const { startLsn, endLsn, timeMicroseconds } = this.transaction;
    const { origin, name, message } = this;
    const paths = new PathFinder(state);
    const changes: TransactionChange[] = [];
    for (const { kind, inode, from, aspects, link = this.nameOf(state, inode) } of found) {
      if (kind === '-') changes.push({ kind, path: from!, aspects });
      else if (inode === ROOT_INODE) changes.push({ kind, path: Buffer.from('/'), aspects });
      else if (link !== undefined) {
        changes.push({ kind, path: paths.ofLink(link), ...(from !== undefined && { from }), aspects });
      }
    }
    return {
      kind: this.kind,
      lsn: endLsn,
      beforeLsn: startLsn,
      timeMicroseconds,
      ...(origin !== undefined && { origin }),
      ...(name !== undefined && { name }),
      ...(message !== '' && { message }),
      records: this.records,
      contentBytes: this.contentBytes,
      ...this.counts,
      changes,
    };
  }
}
