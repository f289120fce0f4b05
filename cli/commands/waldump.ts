/**
 * lsnfs waldump STORE: prints the log, a line a record, as pg_waldump does. It only reads, takes no lock, and works on
 * a damaged store and on one that is in use: behind a damaged place it goes on where it can, and says so.
 *
 * Output goes out in batches while the log is read; nothing but one transaction is held. Lines that are not records
 * begin with "-- ". With --json each line is an object with a `type`.
 */
import type { Command } from 'commander';
import { CONTROL_NAME } from '../../src/encoding/control.ts';
import { describeRecord, type RecordOp, RecordReader, recordName } from '../../src/encoding/record.ts';
import { LsnfsError } from '../../src/errors.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { type InspectedControl, inspectControl } from '../../src/store/inspect.ts';
import { isAlive, readOwner } from '../../src/store/lock.ts';
import type { LogTransaction } from '../../src/wal/reader.ts';
import { identifyLog, type LogStop, type ScanOptions, type ScanStep, scanLog } from '../../src/wal/scan.ts';
import { WAL_DIRECTORY } from '../../src/wal/segment.ts';
import { parseCount, parseLsnArgument } from '../arguments.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { CorruptionFound } from '../failure.ts';
import { formatTable, write } from '../output.ts';
import { resolveTarget } from '../target.ts';
import { timeText, visible, visibleJson } from '../text.ts';

interface Options {
  from?: number;
  to?: number;
  limit?: number;
  stats?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('waldump')
    .description('Print the records of the log, also of a store that is damaged or in use.')
    .argument('<store>', TARGET_HELP)
    .option('--from <lsn>', 'begin with the first transaction that starts there or later', parseLsnArgument)
    .option('--to <lsn>', 'leave out transactions that end later', parseLsnArgument)
    .option('--limit <count>', 'end after so many records', parseCount)
    .option('--stats', 'count records and bytes by kind instead of printing them')
    .action(async (target: string, options: Options) => {
      const { storePath } = resolveTarget(target);
      const dump = new Dump(options);
      await dump.run(new FileDirectory(storePath));
      if (dump.damages.length === 0) return;
      const [first] = dump.damages;
      const more = dump.damages.length > 1 ? `, and ${dump.damages.length - 1} more` : '';
      throw new CorruptionFound(`damage was found in ${storePath}: ${first}${more}`);
    });
  jsonOption(command);
}

/** Characters that are written together. */
const BATCH = 64 * 1024;

interface KindStatistics {
  count: number;
  bytes: number;
  largest: number;
}

class Dump {
  /** What is damaged, a phrase each. */
  readonly damages: string[] = [];
  private readonly options: Options;
  private readonly records = new RecordReader();
  private readonly kinds = new Map<RecordOp, KindStatistics>();
  private pending = '';
  private printed = 0;
  private transactions = 0;
  private bytes = 0;

  constructor(options: Options) {
    this.options = options;
  }

  async run(directory: FileDirectory): Promise<void> {
    const { from, to, limit, stats } = this.options;
    const found = this.identify(directory);
    const bounds = { ...(from !== undefined && { from }), ...(to !== undefined && { to }) };
    for (const step of scanLog(directory, { ...found, ...bounds })) {
      this.take(step, found.inUse === true);
      if (this.pending.length >= BATCH) await this.flush();
      if (limit !== undefined && this.printed >= limit) {
        this.note(`${limit} records are printed, as many as were asked for`);
        break;
      }
    }
    if (stats) this.printStatistics();
    await this.flush();
  }

  /** What the log is read with: from the control file, or, where that is unusable, from a segment. */
  private identify(directory: FileDirectory): Omit<ScanOptions, 'from' | 'to'> {
    const hasLog = directory.exists(WAL_DIRECTORY);
    const hasControl = directory.exists(CONTROL_NAME);
    if (!hasLog && !hasControl) {
      throw new LsnfsError(
        'NO_STORE',
        `there is no store at ${directory.path}: neither control file nor log`,
      );
    }
    if (!hasLog)
      throw new LsnfsError('CORRUPT_LOG', `${directory.path} has no log: the directory wal is missing`);
    const owner = readOwner(directory.path);
    const inUse = owner !== undefined && isAlive(owner);
    const control = hasControl ? inspectControl(directory) : undefined;
    const block = control?.used === undefined ? undefined : control.slots[control.used];
    if (block !== undefined && !(block instanceof LsnfsError)) {
      const { storeId, segmentSize, checkpoint } = block;
      return { storeId, segmentSize, knownDurableLsn: checkpoint.lsn, inUse };
    }
    const why = unusable(control);
    const found = identifyLog(directory);
    if (found === undefined) {
      throw new CorruptionFound(`${why}, and no segment of the log has a header that says whose it is`);
    }
    this.damages.push(why);
    this.note(`${why}: store and segment size are taken from the header of ${found.segment}`);
    return { storeId: found.storeId, segmentSize: found.segmentSize, inUse };
  }

  private take(step: ScanStep, inUse: boolean): void {
    switch (step.kind) {
      case 'transaction':
        this.transaction(step.transaction);
        return;
      case 'partial': {
        const text = `LSN ${step.from} lies within a transaction: the first whole one after it begins at ${step.to}`;
        this.line({ type: 'partial', from: step.from, to: step.to }, `-- ${text}`);
        return;
      }
      case 'damage': {
        const { kind: type, ...facts } = step;
        if (step.wasDurable) this.damages.push(phraseOf(step));
        const judged = step.wasDurable
          ? 'the log was durable beyond it'
          : 'nothing so far says that the log was durable beyond it, and recovery ends here';
        const text = `DAMAGE at ${placeOf(step)}: ${step.reason}; the last whole transaction ends at ${step.lsn}; ${judged}; ${step.resumesAt - step.stoppedAt} bytes are passed over, to LSN ${step.resumesAt}`;
        this.line({ type, ...facts }, `-- ${text}`);
        return;
      }
      case 'proof': {
        const { kind: type, ...facts } = step;
        this.damages.push(phraseOf(step.damage));
        const text = `the transaction at ${step.frameLsn} says that the log was durable up to ${step.durableLsn}: ${phraseOf(step.damage)} is damage`;
        this.line({ type, ...facts }, `-- ${text}`);
        return;
      }
      case 'end': {
        const { kind: type, ...facts } = step;
        if (step.how === 'damaged') this.damages.push(`the log ends at ${placeOf(step)} (${step.reason})`);
        const note =
          inUse && step.how === 'torn' ? '; the store is in use, and this may just be being written' : '';
        const text = `${ENDS[step.how]} at ${placeOf(step)}: ${step.reason}; the last whole transaction ends at ${step.lsn}${note}`;
        this.line({ type, ...facts }, `-- ${text}`);
      }
    }
  }

  private transaction(transaction: LogTransaction): void {
    const { limit, stats } = this.options;
    this.transactions++;
    this.bytes += transaction.endLsn - transaction.frameLsn;
    const { records } = this;
    records.open(transaction.payload);
    try {
      while ((limit === undefined || this.printed < limit) && records.next()) {
        this.printed++;
        if (stats) this.count(records);
        else this.record(transaction, records);
      }
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
      this.damages.push(`a record of the transaction at ${transaction.frameLsn} (${error.message})`);
      const facts = { type: 'damagedRecord', transaction: transaction.frameLsn, reason: error.message };
      this.line(
        facts,
        `-- DAMAGE in the transaction at ${transaction.frameLsn}: ${error.message}; the rest of it is passed over`,
      );
    }
  }

  private record(transaction: LogTransaction, records: RecordReader): void {
    const { frameLsn, endLsn, previousChecksum, timeMicroseconds } = transaction;
    const length = records.recordEnd - records.recordStart;
    const previous = previousChecksum.toString(16).padStart(8, '0');
    const time = timeText(timeMicroseconds);
    const description = describeRecord(records);
    if (this.options.json) {
      const facts = { type: 'record', transaction: frameLsn, end: endLsn, bytes: endLsn - frameLsn };
      const record = { record: recordName(records.op), length, description };
      this.pending += `${visibleJson({ ...facts, previousChecksum: previous, time, ...record })}\n`;
      return;
    }
    const place = `tx: ${String(frameLsn).padStart(10)}, end: ${String(endLsn).padStart(10)}`;
    const sizes = `len (rec/tot): ${String(length).padStart(6)}/${String(endLsn - frameLsn).padStart(6)}`;
    this.pending += visible(`${place}, ${sizes}, prev: ${previous}, time: ${time}, desc: ${description}`);
    this.pending += '\n';
  }

  private count(records: RecordReader): void {
    const length = records.recordEnd - records.recordStart;
    const kind = this.kinds.get(records.op);
    if (kind === undefined) this.kinds.set(records.op, { count: 1, bytes: length, largest: length });
    else {
      kind.count++;
      kind.bytes += length;
      kind.largest = Math.max(kind.largest, length);
    }
  }

  private printStatistics(): void {
    const { transactions, bytes } = this;
    const kinds = [...this.kinds].sort(([a], [b]) => a - b);
    const recordBytes = kinds.reduce((sum, [, kind]) => sum + kind.bytes, 0);
    if (this.options.json) {
      const rows = kinds.map(([op, kind]) => ({ record: recordName(op), ...kind }));
      this.pending += `${visibleJson({ type: 'stats', transactions, bytes, records: this.printed, recordBytes, kinds: rows })}\n`;
      return;
    }
    const right = { align: 'right' } as const;
    const share = (part: number, whole: number) =>
      whole === 0 ? '-' : `${((100 * part) / whole).toFixed(2)} %`;
    const titles = ['RECORD', 'COUNT', 'OF COUNT', 'BYTES', 'OF BYTES', 'LARGEST'];
    const rows = kinds.map(([op, { count, bytes: size, largest }]) => [
      recordName(op),
      String(count),
      share(count, this.printed),
      String(size),
      share(size, recordBytes),
      String(largest),
    ]);
    const columns = titles.map((title, index) => (index === 0 ? { title } : { title, ...right }));
    this.pending += formatTable(columns, rows);
    this.pending += `${transactions} transactions of ${bytes} bytes in the log, of which ${recordBytes} are records\n`;
  }

  private note(message: string): void {
    this.line({ type: 'note', message }, `-- ${message}`);
  }

  private line(facts: object, text: string): void {
    this.pending += `${this.options.json ? visibleJson(facts) : visible(text)}\n`;
  }

  private async flush(): Promise<void> {
    const { pending } = this;
    this.pending = '';
    if (pending !== '') await write(pending);
  }
}

const ENDS = {
  limit: 'ended by --to',
  unwritten: 'end of the log',
  torn: 'end of the log (what was being written there is no whole transaction)',
  damaged: 'DAMAGE, and nothing can be read behind it,',
} as const;

function placeOf(stop: LogStop): string {
  return `LSN ${stop.stoppedAt} (${stop.segment}, offset ${stop.offset})`;
}

function phraseOf(stop: LogStop): string {
  return `the log at ${placeOf(stop)} (${stop.reason})`;
}

/** Why the control file is of no use. @throws LsnfsError NEWER_FORMAT */
function unusable(control: InspectedControl | undefined): string {
  if (control === undefined) return 'the control file is missing';
  const reasons = control.slots.map((slot, index) => {
    if (!(slot instanceof LsnfsError)) return `slot ${index} is valid`;
    if (slot.code === 'NEWER_FORMAT') throw slot;
    return `slot ${index}: ${slot.message}`;
  });
  return `the control file is unusable (${reasons.join('; ')})`;
}
