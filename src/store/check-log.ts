/**
 * Verifies the log from its first segment to its end, and makes the newest state of it.
 *
 * Every frame is read through the reader that recovery uses, every record is decoded, and the data that records name
 * is read unless a version has led to it already. Where the log is damaged, reading goes on with the next transaction
 * that can be found behind the damage. What was being written when the power failed is no damage: the end of the log is
 * judged as recovery judges it (see wal/reader.ts).
 *
 * Transactions behind the newest version are applied to private pages over it: the state that opening the store would
 * give, or that it has while it is open.
 */
import { crc32 } from '../encoding/checksum.ts';
import type { ControlBlock } from '../encoding/control.ts';
import {
  FRAME_ALIGNMENT,
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_MAXIMUM,
  FrameReader,
  frameSize,
  SEGMENT_HEADER_SIZE,
} from '../encoding/frame.ts';
import { RECORD, RecordReader } from '../encoding/record.ts';
import type { VersionRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { Device, StorageDirectory } from '../storage/device.ts';
import type { PageCache } from '../storage/page-cache.ts';
import { LogReader, type LogReaderOptions, type LogTransaction } from '../wal/reader.ts';
import { FIRST_LSN, listSegments, segmentName, segmentOfEnd } from '../wal/segment.ts';
import { applyTransaction } from './apply.ts';
import type { CheckContext } from './check-context.ts';
import type { Damage, Loss } from './check-damage.ts';
import type { PageCheck } from './check-pages.ts';
import { dataSum, USE } from './check-table.ts';
import { VersionsAndLog } from './past-states.ts';
import { TreeState } from './tree-state.ts';

export interface LogCheckOptions {
  readonly directory: StorageDirectory;
  readonly control: ControlBlock;
  /** The data file, as `pages` has read it. */
  readonly cache: PageCache;
  readonly pages: PageCheck;
  /** Root of the newest version, if it could be read: what the log is replayed on. */
  readonly root: VersionRoot | undefined;
  /** The oldest LSN from which every state can be opened. */
  readonly horizonLsn: number;
  /** Of a store that is open: its log is verified up to here. */
  readonly durableLsn?: number;
}

/** What is to be known of a log that was verified. */
export interface LogSummary {
  /** Where the first whole transaction that was read begins, and the last one ends. */
  fromLsn: number;
  toLsn: number;
  segments: number;
  transactions: number;
  /** Why the log ends there, in a sentence. */
  end: string;
}

export class LogCheck {
  readonly summary: LogSummary = { fromLsn: 0, toLsn: 0, segments: 0, transactions: 0, end: '' };
  /** The newest state, when all of the log behind the newest version could be applied to it. */
  state: TreeState | undefined;
  private readonly context: CheckContext;
  private readonly options: LogCheckOptions;
  private readonly buffer: Buffer;
  private readonly records = new RecordReader();
  /** For the replay of restores. */
  private readonly past: VersionsAndLog;
  /** An LSN that is known to have been durable. */
  private knownDurableLsn: number;
  /** End of the last transaction that was read. */
  private position = 0;
  private timeMicroseconds = 0;
  private seenCheckpoint = false;

  constructor(context: CheckContext, options: LogCheckOptions) {
    this.context = context;
    this.options = options;
    this.buffer = Buffer.allocUnsafeSlow(options.cache.pageSize);
    const { checkpoint } = options.control;
    // The checkpoint record was durable before the slot was written; a new store has none.
    const first = checkpoint.position === FIRST_LSN && checkpoint.lsn === FIRST_LSN;
    this.seenCheckpoint = first;
    this.knownDurableLsn = options.durableLsn ?? (first ? 0 : checkpoint.position + FRAME_ALIGNMENT);
    this.past = new VersionsAndLog({
      cache: options.cache,
      versionRoot: (lsn) => this.versionRoot(lsn),
      eachTransaction: (from, to, visit) => this.eachTransaction(from, to, visit),
    });
    if (options.root !== undefined) this.state = new TreeState(options.cache, options.root, false);
  }

  *run(): Generator<void> {
    const { directory, control, horizonLsn } = this.options;
    const { segmentSize } = control;
    let segments: number[];
    try {
      segments = listSegments(directory, segmentSize);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.damaged(0, `the log cannot be read: ${error.message}`);
      return;
    }
    this.summary.segments = segments.length;
    const last = segmentOfEnd(this.knownDurableLsn, segmentSize);
    const oldest = segmentOfEnd(Math.max(horizonLsn, 1), segmentSize);
    const first = Math.min(segments[0] ?? last, oldest);
    if (this.options.durableLsn === undefined) yield* this.findClaims(segments);
    this.position = first * segmentSize;
    this.context.progress.logBytesTotal = Math.max(0, this.knownDurableLsn - this.position);
    this.summary.fromLsn = first === 0 ? FIRST_LSN : this.position;
    // Each turn reads up to a damage; the next goes on behind it.
    for (let from: number | undefined = this.position; from !== undefined; ) {
      const segment = Math.floor(from / segmentSize);
      if (!segments.includes(segment)) {
        const next = segments.find((index) => index > segment);
        if (from < this.knownDurableLsn) {
          const message = `segment ${segmentName(segment, segmentSize)} is missing: the log is known to reach LSN ${this.knownDurableLsn}`;
          this.damaged(from, message, next === undefined ? this.knownDurableLsn : next * segmentSize);
        }
        from = next === undefined || from >= this.knownDurableLsn ? undefined : next * segmentSize;
      } else from = yield* this.read(from);
    }
    if (!this.seenCheckpoint && this.position >= control.checkpoint.position) {
      const { position, lsn } = control.checkpoint;
      this.damaged(
        position,
        `the control block names a checkpoint record of LSN ${lsn} at ${position}, and there is none`,
      );
    }
    if (this.state !== undefined && this.state.lsn > this.position) this.state = undefined;
  }

  /** Looks through the log behind the newest version for what it says was durable. */
  private *findClaims(segments: readonly number[]): Generator<void> {
    const { control } = this.options;
    const from = control.checkpoint.lsn;
    if (!segments.includes(segmentOfEnd(from, control.segmentSize))) return;
    const reader = this.reader(from, { knownDurableLsn: 0 });
    try {
      while (reader.next() !== undefined) if (this.context.spend(1)) yield;
      this.knownDurableLsn = Math.max(this.knownDurableLsn, reader.end?.durableLsn ?? 0);
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      const claimed = error.details.durableLsn;
      if (typeof claimed === 'number') this.knownDurableLsn = Math.max(this.knownDurableLsn, claimed);
    } finally {
      reader.close();
    }
  }

  private reader(from: number, options: Partial<LogReaderOptions>): LogReader {
    const { directory, control, durableLsn } = this.options;
    const { storeId, segmentSize } = control;
    return new LogReader(directory, {
      storeId,
      segmentSize,
      from,
      ...(durableLsn !== undefined && { limit: durableLsn, searchBehindEnd: false }),
      ...options,
    });
  }

  /** Reads from a place in the log to its end, or to a damage. Returns where to go on. */
  private *read(from: number): Generator<void, number | undefined> {
    const { knownDurableLsn } = this;
    const reader = this.reader(from, { knownDurableLsn, skipPartial: true });
    const { segmentSize } = this.options.control;
    try {
      for (;;) {
        const transaction = reader.next();
        if (transaction === undefined) break;
        if (this.isTorn(transaction)) {
          this.summary.end = `the transaction that ends at ${transaction.endLsn} names data that was not written`;
          return undefined;
        }
        this.check(transaction);
        const bytes = transaction.endLsn - this.position;
        this.position = transaction.endLsn;
        this.summary.toLsn = transaction.endLsn;
        this.summary.transactions++;
        this.context.progress.logBytes += bytes;
        this.context.progress.bytesRead += bytes;
        if (this.context.spend(1 + bytes / 4096)) yield;
      }
      this.summary.end = reader.end?.reason ?? '';
      this.position = Math.max(this.position, reader.end?.lsn ?? 0);
      return undefined;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      const { position } = error.details;
      const at = typeof position === 'number' && error.code === 'CORRUPT_LOG' ? position : this.position;
      const next = yield* this.findTransaction(at);
      const end = next ?? (Math.floor(at / segmentSize) + 1) * segmentSize;
      this.damaged(at, `${error.message}; what can be read goes on at ${end}`, end);
      this.state = undefined;
      this.position = end;
      return next ?? (end < this.knownDurableLsn ? end : undefined);
    } finally {
      reader.close();
    }
  }

  /** Where the next transaction begins of which a frame behind `from` in its segment is the first. */
  private *findTransaction(from: number): Generator<void, number | undefined> {
    const { directory, control } = this.options;
    const { segmentSize, storeId } = control;
    const index = Math.floor(from / segmentSize);
    const name = segmentName(index, segmentSize);
    if (!directory.exists(name)) return undefined;
    const frame = new FrameReader(storeId);
    const window = Buffer.allocUnsafeSlow(4 * FRAME_PAYLOAD_MAXIMUM);
    const longest = frameSize(FRAME_PAYLOAD_MAXIMUM);
    const device = directory.open(name, { readOnly: true });
    try {
      let at = Math.max(SEGMENT_HEADER_SIZE, (from % segmentSize) + FRAME_ALIGNMENT);
      while (at + FRAME_HEADER_SIZE <= segmentSize) {
        const length = this.readSome(device, at, window, segmentSize);
        const end = length === window.length ? length - longest : length - FRAME_HEADER_SIZE;
        if (end <= 0) return undefined;
        for (let i = 0; i < end; i += FRAME_ALIGNMENT) {
          const lsn = index * segmentSize + at + i;
          const room = segmentSize - at - i;
          const size = frame.peek(window, i, lsn, room);
          if (typeof size === 'string' || i + size > length) continue;
          if (frame.parse(window, i, lsn, room) === undefined && frame.transactionStart === lsn) return lsn;
        }
        at += Math.ceil(end / FRAME_ALIGNMENT) * FRAME_ALIGNMENT;
        yield;
      }
      return undefined;
    } finally {
      device.close();
    }
  }

  private readSome(device: Device, at: number, window: Buffer, segmentSize: number): number {
    try {
      return device.read(at, window, 0, Math.min(window.length, segmentSize - at));
    } catch (error) {
      if (error instanceof LsnfsError) return 0;
      throw error;
    }
  }

  /** Whether a transaction counts no more than a torn end, because not all of its data arrived. */
  private isTorn(transaction: Readonly<LogTransaction>): boolean {
    if (transaction.endLsn <= this.knownDurableLsn) return false;
    const { records } = this;
    records.open(transaction.payload);
    while (records.next()) {
      if (records.op !== RECORD.map) continue;
      for (let i = 0; i < records.count; i++) {
        if (this.dataProblem(records.page + i, records.checksum(i)) !== undefined) return true;
      }
    }
    return false;
  }

  private check(transaction: Readonly<LogTransaction>): void {
    const { checkpoint } = this.options.control;
    if (transaction.timeMicroseconds < this.timeMicroseconds) {
      this.damaged(
        transaction.frameLsn,
        `the transaction that ends at ${transaction.endLsn} is said to be earlier than the one before it`,
      );
    }
    this.timeMicroseconds = transaction.timeMicroseconds;
    const { records } = this;
    records.open(transaction.payload);
    while (records.next()) {
      if (records.op === RECORD.map) this.checkMap(transaction);
      else if (records.op === RECORD.checkpoint && transaction.startLsn === checkpoint.position) {
        this.seenCheckpoint = true;
        const { lsn, rootPage, rootLsn, rootChecksum } = records;
        const same =
          lsn === checkpoint.lsn &&
          rootPage === checkpoint.rootPage &&
          rootLsn === checkpoint.rootLsn &&
          rootChecksum === checkpoint.rootChecksum;
        if (!same) {
          const message = `the checkpoint record at ${transaction.startLsn} names page ${rootPage} for LSN ${lsn}, the control block page ${checkpoint.rootPage} for LSN ${checkpoint.lsn}`;
          this.damaged(transaction.frameLsn, message);
        }
      }
    }
    this.replay(transaction);
  }

  private replay(transaction: Readonly<LogTransaction>): void {
    const { state } = this;
    if (state === undefined || transaction.endLsn <= state.lsn) return;
    if (transaction.startLsn !== state.lsn) {
      this.state = undefined;
      return;
    }
    const { payload, startLsn, endLsn, timeMicroseconds } = transaction;
    try {
      applyTransaction(state, payload, startLsn, endLsn, timeMicroseconds, { past: this.past });
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.state = undefined;
      this.context.note(
        `the log behind the newest version cannot be replayed, so the newest state was not verified: ${error.message}`,
      );
    }
  }

  /** The root of the newest version at or before an LSN that is not damaged. */
  private versionRoot(lsn: number): VersionRoot | undefined {
    const { versions, roots } = this.options.pages;
    return roots[versions.findIndex((version) => version.lsn <= lsn)];
  }

  private eachTransaction(from: number, to: number, visit: (transaction: LogTransaction) => void): void {
    const reader = this.reader(from, { limit: to, knownDurableLsn: to, searchBehindEnd: false });
    try {
      for (const transaction of reader) visit(transaction);
    } finally {
      reader.close();
    }
  }

  /** Data that was written beside the log: read, unless the versions led to it already. */
  private checkMap(transaction: Readonly<LogTransaction>): void {
    const { records } = this;
    const { pages, horizonLsn, control, cache } = this.options;
    const { table } = pages;
    const isAfter = transaction.startLsn >= control.checkpoint.lsn;
    let damage: Damage | undefined;
    for (let i = 0; i < records.count; i++) {
      const page = records.page + i;
      const block = records.block + i;
      const use = page < table.limit ? table.use(page) : USE.unknown;
      // Before the horizon, nobody can ask for the states that had it.
      if (!isAfter && (use === USE.free || transaction.endLsn <= horizonLsn)) continue;
      const sum = dataSum(records.checksum(i), records.inode, block);
      if (use === USE.data && table.sum(page) === sum) continue;
      const what = this.dataProblem(page, records.checksum(i));
      if (what === undefined) {
        if (use === USE.dead) {
          table.setUse(page, USE.data);
          table.setSum(page, sum);
        }
        continue;
      }
      const start = block * cache.pageSize;
      const loss: Loss = { kind: 'inode', inode: records.inode, start, end: start + cache.pageSize };
      const offset = page * cache.pageSize;
      const message = `block ${block} of inode ${records.inode} (page ${page} at offset ${offset} of the data file), written by the transaction that ends at ${transaction.endLsn}, is corrupt: ${what}`;
      damage = this.context.damages.add({
        kind: 'data',
        file: 'data',
        offset,
        page,
        lsn: transaction.frameLsn,
        message,
        loss,
      });
      damage?.states.push([transaction.endLsn, this.versionAfter(transaction.endLsn)]);
    }
    this.context.progress.damages = this.context.damages.count;
  }

  private dataProblem(page: number, checksum: number): string | undefined {
    try {
      this.options.cache.readData(page, 1, this.buffer, 0);
    } catch (error) {
      if (error instanceof LsnfsError) return error.message;
      throw error;
    }
    this.context.progress.bytesRead += this.buffer.length;
    const found = crc32(this.buffer);
    return found === checksum ? undefined : `checksum: expected ${checksum}, found ${found}`;
  }

  /** LSN of the first version at or after an LSN, or infinity: from there on the log is not needed. */
  private versionAfter(lsn: number): number {
    let found = Number.POSITIVE_INFINITY;
    for (const version of this.options.pages.versions) {
      if (version.lsn < lsn) break;
      found = version.lsn;
    }
    return found;
  }

  /** The log is damaged at an LSN, and can be read again from `until` on. */
  private damaged(lsn: number, message: string, until?: number): void {
    const { segmentSize } = this.options.control;
    const damage = this.context.damages.add({
      kind: 'log',
      file: segmentName(Math.floor(lsn / segmentSize), segmentSize),
      offset: lsn % segmentSize,
      lsn,
      message,
    });
    this.context.progress.damages = this.context.damages.count;
    // States are lost from the damage on to the first version behind its end.
    if (until !== undefined) damage?.states.push([lsn + 1, this.versionAfter(until)]);
  }
}
