/**
 * Checks and scrubs of a store: of one that is open, in steps between everything else that its process does; of one
 * that nobody has open, here and at once.
 *
 * A job of an open store first waits for a checkpoint, then holds what that leads to (`Store.hold`) and reads the
 * files. Who steps it is who does the store's background work: the store thread of a mount between requests, or, for
 * a database in a program, the event loop. A scrub reads no faster than its rate: it has as many bytes to spend as time
 * has passed, saved up for a second at most.
 *
 * A store that is closed need not be one that can be opened. Its lock is taken if its id can be found anywhere, and
 * nothing is written but the result of a scrub.
 */
import * as fs from 'node:fs';
import { CONTROL_NAME } from '../encoding/control.ts';
import { LsnfsError } from '../errors.ts';
import { formatTime } from '../history/targets.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { FileDirectory } from '../storage/file-device.ts';
import { checkStoreDirectory } from '../storage/store-files.ts';
import type { CheckProgress } from '../store/check-context.ts';
import { findStoreId, settingsOrDefaults } from '../store/check-control.ts';
import type { Finding } from '../store/check-damage.ts';
import { DATA_NAME } from '../store/initialize.ts';
import { StoreLock } from '../store/lock.ts';
import type { Hold, Store } from '../store/store.ts';
import { type CheckReport, Verification } from '../vfs/verify.ts';
import { readScrubResult, type ScrubResult, writeScrubResult } from './scrub-result.ts';
import { textOfBytes } from './text.ts';

export type VerificationKind = 'check' | 'scrub';

/** A job that runs. */
export interface RunningVerification {
  readonly kind: VerificationKind;
  /** RFC 3339. */
  readonly startedAt: string;
  readonly bytesPerSecond: number | null;
  readonly progress: CheckProgress;
}

export interface ScrubStatus {
  readonly running: RunningVerification | null;
  /** The last one that ended by itself. */
  readonly last: ScrubResult | null;
}

/** The same in short. */
export interface ScrubSummary {
  readonly running: RunningVerification | null;
  readonly last: {
    readonly startedAt: string;
    readonly finishedAt: string;
    readonly versions: number;
    readonly bytesRead: number;
    readonly damageCount: number;
  } | null;
}

/** Checks and scrubs that may run at once. */
const CHECKS_MAX = 4;
/** The least that a scrub may be told to read, in bytes a second. */
const RATE_MINIMUM = 64 * 1024;
/** How long one step of a job that runs on an event loop takes, in milliseconds. */
const TURN_MS = 5;
/** How long a job that has used up its rate sleeps, in milliseconds. */
const SLEEP_MS = 20;
/** Damages that are remembered, to be logged once each. */
const LOGGED_MAX = 10_000;

/** Bytes that may be read by now. */
class Budget {
  private readonly bytesPerSecond: number;
  private available: number;
  private spent = 0;
  private refilledMs = performance.now();

  constructor(bytesPerSecond: number) {
    this.bytesPerSecond = bytesPerSecond;
    this.available = 0;
  }

  /** Whether more may be read, when `total` bytes have been read in all. */
  allows(total: number): boolean {
    const now = performance.now();
    const earned = (this.bytesPerSecond * (now - this.refilledMs)) / 1000;
    this.refilledMs = now;
    this.available = Math.min(this.available + earned, this.bytesPerSecond) - (total - this.spent);
    this.spent = total;
    return this.available > 0;
  }
}

/** One check or scrub. */
export class VerificationJob {
  readonly kind: VerificationKind;
  readonly startedAt: string = new Date().toISOString();
  readonly bytesPerSecond: number | null;
  readonly done: Promise<CheckReport>;
  private readonly verification: Verification;
  private readonly steps: Generator<void, CheckReport>;
  private readonly budget: Budget | undefined;
  private readonly onEnd: (job: VerificationJob) => void;
  private readonly hold: Hold | undefined;
  private settle!: { resolve: (report: CheckReport) => void; reject: (error: unknown) => void };
  private ended = false;

  constructor(
    verification: Verification,
    kind: VerificationKind,
    bytesPerSecond: number | null,
    hold: Hold | undefined,
    onEnd: (job: VerificationJob) => void,
  ) {
    this.verification = verification;
    this.kind = kind;
    this.bytesPerSecond = bytesPerSecond;
    this.budget = bytesPerSecond === null ? undefined : new Budget(bytesPerSecond);
    this.hold = hold;
    this.onEnd = onEnd;
    this.steps = verification.run();
    this.done = new Promise((resolve, reject) => {
      this.settle = { resolve, reject };
    });
    // Whoever started it may not wait for it.
    this.done.catch(() => {});
  }

  get progress(): CheckProgress {
    return this.verification.progress;
  }

  get isEnded(): boolean {
    return this.ended;
  }

  describe(): RunningVerification {
    const { kind, startedAt, bytesPerSecond } = this;
    return { kind, startedAt, bytesPerSecond, progress: { ...this.progress } };
  }

  /** Works for about `budgetMs`. Returns whether there is more to do at once. */
  step(budgetMs: number): boolean {
    const end = performance.now() + budgetMs;
    try {
      do {
        if (this.ended) return false;
        if (this.budget?.allows(this.progress.bytesRead) === false) return false;
        if (this.hold?.isBroken) {
          throw new LsnfsError(
            'EAGAIN',
            `the ${this.kind} was given up, because the live state had to be rebuilt meanwhile; start it again`,
          );
        }
        const step = this.steps.next();
        if (step.done === true) {
          this.end();
          this.settle.resolve(step.value);
          return false;
        }
      } while (performance.now() < end);
      return true;
    } catch (error) {
      this.end();
      this.settle.reject(error);
      return false;
    }
  }

  cancel(why = 'it was stopped'): void {
    if (this.ended) return;
    this.end();
    this.settle.reject(new LsnfsError('EINTR', `the ${this.kind} did not end: ${why}`));
  }

  private end(): void {
    this.ended = true;
    this.verification.close();
    this.hold?.release();
    this.onEnd(this);
  }
}

function makeVerification(
  directory: StorageDirectory,
  kind: VerificationKind,
  options: { durableLsn?: number; onFound?: (finding: Finding) => void },
): Verification {
  return new Verification(directory, {
    ...options,
    structure: kind === 'check',
    textOf: textOfBytes,
    timeText,
  });
}

/** A time on a damaged disk may be none. */
function timeText(microseconds: number): string {
  const isDate = !Number.isNaN(new Date(Math.floor(microseconds / 1000)).getTime());
  return isDate ? formatTime(microseconds) : `${microseconds} µs`;
}

/** The checks and scrubs of an open store. */
export class Verifications {
  private readonly store: Store;
  private readonly warn: (message: string) => void;
  private readonly drivesItself: boolean;
  private readonly jobs = new Set<VerificationJob>();
  private readonly logged = new Set<string>();
  private starting = 0;
  private closed = false;
  private driving = false;
  private lastScrub: ScrubResult | null;

  /** `drivesItself`: the event loop steps the jobs; else somebody calls `backgroundStep`. */
  constructor(store: Store, warn: (message: string) => void, drivesItself: boolean) {
    this.store = store;
    this.warn = warn;
    this.drivesItself = drivesItself;
    this.lastScrub = readScrubResult(store.directory);
  }

  hasWork(): boolean {
    return this.jobs.size > 0;
  }

  /** Works on the jobs, each for about `budgetMs`. */
  backgroundStep(budgetMs: number): boolean {
    let more = false;
    for (const job of [...this.jobs]) more = job.step(budgetMs) || more;
    return more;
  }

  /** Starts a job. @throws LsnfsError EBUSY when enough are running */
  async start(kind: VerificationKind, bytesPerSecond: number | null = null): Promise<VerificationJob> {
    const { store } = this;
    if (bytesPerSecond !== null && bytesPerSecond < RATE_MINIMUM)
      throw new LsnfsError('INVALID_INPUT', `a scrub reads at least ${RATE_MINIMUM} bytes a second`);
    if (kind === 'scrub' && this.scrubJob !== undefined)
      throw new LsnfsError('EBUSY', 'a scrub is running already; "lsnfs scrub --stop" ends it');
    if (this.jobs.size + this.starting >= CHECKS_MAX)
      throw new LsnfsError('EBUSY', `${CHECKS_MAX} checks of this store are running already`);
    this.starting++;
    try {
      // So that what is verified is what there is now.
      if (!store.readOnly && store.failure === undefined) await store.checkpoint();
    } finally {
      this.starting--;
    }
    if (this.closed) throw new LsnfsError('STORE_CLOSED', 'the store is being closed');
    if (kind === 'scrub' && this.scrubJob !== undefined)
      throw new LsnfsError('EBUSY', 'a scrub is running already; "lsnfs scrub --stop" ends it');
    const verification = makeVerification(store.directory, kind, {
      durableLsn: store.durableLsn,
      onFound: (finding) => this.found(kind, finding),
    });
    const rate = kind === 'scrub' ? (bytesPerSecond ?? store.settings.scrubBytesPerSecond) : bytesPerSecond;
    const job = new VerificationJob(verification, kind, rate, store.hold(), (ended) =>
      this.jobs.delete(ended),
    );
    this.jobs.add(job);
    if (kind === 'scrub') void this.keepResult(job);
    if (this.drivesItself) void this.drive();
    return job;
  }

  private get scrubJob(): VerificationJob | undefined {
    return [...this.jobs].find(({ kind }) => kind === 'scrub');
  }

  scrubStatus(): ScrubStatus {
    return { running: this.scrubJob?.describe() ?? null, last: this.lastScrub };
  }

  scrubSummary(): ScrubSummary {
    const { running, last } = this.scrubStatus();
    if (last === null) return { running, last };
    const { versions, bytesRead, damageCount } = last.report;
    const { startedAt, finishedAt } = last;
    return { running, last: { startedAt, finishedAt, versions, bytesRead, damageCount } };
  }

  /** Ends the scrub that runs. Returns whether there was one. */
  stopScrub(): boolean {
    const job = this.scrubJob;
    job?.cancel();
    return job !== undefined;
  }

  /** A scrub is a daemon's own work: what it finds, its log hears, once. A check has somebody to tell. */
  private found(kind: VerificationKind, { file, offset, message }: Finding): void {
    if (kind !== 'scrub') return;
    const line = `${file}${offset === undefined ? '' : ` at ${offset}`}: ${message}`;
    if (this.logged.has(line) || this.logged.size >= LOGGED_MAX) return;
    this.logged.add(line);
    this.warn(`scrub found damage: ${line}`);
  }

  private async keepResult(job: VerificationJob): Promise<void> {
    try {
      const report = await job.done;
      this.lastScrub = { startedAt: job.startedAt, finishedAt: new Date().toISOString(), report };
      if (report.damageCount > LOGGED_MAX || report.damageCount > report.damages.length)
        this.warn(`scrub found ${report.damageCount} damages; ${report.damages.length} of them are listed`);
      if (!this.store.readOnly) writeScrubResult(this.store.directory, this.lastScrub);
    } catch (error) {
      if (error instanceof LsnfsError && error.code === 'EINTR') return;
      this.warn(`the scrub failed: ${error instanceof Error ? error.message : String(error)}`);
    }
  }

  private async drive(): Promise<void> {
    if (this.driving) return;
    this.driving = true;
    try {
      while (this.jobs.size > 0) {
        if (this.backgroundStep(TURN_MS)) await new Promise((resolve) => setImmediate(resolve));
        else if (this.jobs.size > 0) await new Promise((resolve) => setTimeout(resolve, SLEEP_MS));
      }
    } finally {
      this.driving = false;
    }
  }

  /** Ends all jobs, and starts no more. */
  close(): void {
    this.closed = true;
    for (const job of [...this.jobs]) job.cancel('the store is being closed');
  }
}

export interface VerifyClosedOptions {
  readonly kind?: VerificationKind;
  /** Of a scrub; default: the store's setting. */
  readonly bytesPerSecond?: number;
  readonly onProgress?: (running: RunningVerification) => void;
}

/**
 * Checks or scrubs a store that nobody has open, whether or not it could be opened.
 * @throws LsnfsError NO_STORE, STORE_IN_USE, NEWER_FORMAT
 */
export async function verifyClosedStore(
  path: string,
  options: VerifyClosedOptions = {},
): Promise<CheckReport> {
  const kind = options.kind ?? 'check';
  if (!fs.statSync(path, { throwIfNoEntry: false })?.isDirectory())
    throw new LsnfsError('NO_STORE', `there is no store at ${path}`, { store: path });
  checkStoreDirectory(path);
  const directory = new FileDirectory(path);
  if (!directory.exists(CONTROL_NAME) && !directory.exists(DATA_NAME))
    throw new LsnfsError('NO_STORE', `${path} is not a store: it has neither a control block nor data`, {
      store: path,
    });
  const lock = await StoreLock.acquire(path, findStoreId(directory), null);
  try {
    const rate =
      kind === 'check' ? null : (options.bytesPerSecond ?? settingsOrDefaults(directory).scrubBytesPerSecond);
    const job = new VerificationJob(makeVerification(directory, kind, {}), kind, rate, undefined, () => {});
    while (!job.isEnded) {
      const more = job.step(TURN_MS);
      options.onProgress?.(job.describe());
      await new Promise((resolve) => (more ? setImmediate(resolve) : setTimeout(resolve, SLEEP_MS)));
    }
    const report = await job.done;
    if (kind === 'scrub')
      writeScrubResult(directory, { startedAt: job.startedAt, finishedAt: new Date().toISOString(), report });
    return report;
  } finally {
    await lock.release();
  }
}
