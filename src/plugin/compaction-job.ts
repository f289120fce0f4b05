/**
 * Compaction on demand: what would move, and moving it, between two collections of garbage: the first makes room below,
 * the second gives back the old places that nothing holds. It goes on when nobody waits for it any more. There is one
 * at a time; who asks for another meanwhile waits for the same.
 */
import type { History, PinningVersion } from '../history/history.ts';
import { formatTime } from '../history/targets.ts';
import type { CompactionOutcome } from '../store/compactor.ts';
import { settingText } from '../store/setting-text.ts';
import type { Store } from '../store/store.ts';
import { reasonsInWords } from './retention-report.ts';

/** A version that keeps pages where they are. */
export interface Pin {
  readonly lsn: number;
  readonly time: string;
  /** Why it is kept, in words. */
  readonly reasons: readonly string[];
  /** Pages that it holds near the end of the file. */
  readonly pages: number;
  readonly bytes: number;
}

export interface CompactionReport {
  /** Whether it has been done; otherwise it is what would be. */
  readonly applied: boolean;
  /** Pages that were moved, or would be. */
  readonly pages: number;
  readonly bytes: number;
  /** Size of the data file before, and now; with `dryRun`, what it can become. */
  readonly fileBytesBefore: number;
  readonly fileBytes: number;
  /** What the file can still lose when `waiting` has passed. */
  readonly waitingBytes: number;
  /** Why that has not come free yet, in words; null when nothing waits. */
  readonly waiting: string | null;
  /** Pages near the end that could not be moved because older versions hold them, and which these are. */
  readonly pinned: { readonly pages: number; readonly bytes: number; readonly by: readonly Pin[] };
  /** Pages that were not moved although nothing holds them: damaged data, or changes came first. */
  readonly left: number;
}

/** What one that runs has done so far: "collecting" garbage before or after, or "moving". */
export interface CompactionProgress {
  readonly phase: 'collecting' | 'moving';
  readonly pages: number;
  readonly total: number;
}

export class CompactionJob {
  readonly done: Promise<CompactionReport>;
  private progress: CompactionProgress = { phase: 'collecting', pages: 0, total: 0 };
  private ended = false;

  constructor(store: Store, history: History, fullSpeed: boolean) {
    this.done = this.run(store, history, fullSpeed).finally(() => {
      this.ended = true;
    });
    // Whoever waits hears of a failure.
    this.done.catch(() => {});
  }

  get isEnded(): boolean {
    return this.ended;
  }

  describe(): CompactionProgress {
    return this.progress;
  }

  private async run(store: Store, history: History, fullSpeed: boolean): Promise<CompactionReport> {
    const before = store.dataBytes;
    await store.collect(fullSpeed);
    const pinning = history.pinningVersions();
    const outcome = await store.compact({
      pinning: pinning.map(({ lsn }) => lsn),
      fullSpeed,
      dryRun: false,
      onProgress: ({ movable }, { pages }) => {
        this.progress = { phase: 'moving', pages, total: movable };
      },
    });
    this.progress = { ...this.progress, phase: 'collecting' };
    if (outcome.moved.pages > 0) await store.collect(fullSpeed);
    return report(store, history, pinning, outcome, before, true);
  }
}

export class Compactions {
  private readonly store: Store;
  private readonly history: History;
  private running: CompactionJob | undefined;

  constructor(store: Store, history: History) {
    this.store = store;
    this.history = history;
  }

  /** Starts one, or joins the one that runs. */
  start(fullSpeed: boolean): CompactionJob {
    if (this.running === undefined || this.running.isEnded)
      this.running = new CompactionJob(this.store, this.history, fullSpeed);
    return this.running;
  }

  /** What would be moved now. Garbage that has not been collected counts as in use. */
  async preview(): Promise<CompactionReport> {
    const { store, history } = this;
    if (!store.readOnly && store.failure === undefined) await store.checkpoint();
    history.releaseIdle();
    const pinning = history.pinningVersions();
    const lsns = pinning.map(({ lsn }) => lsn);
    const outcome = await store.compact({ pinning: lsns, fullSpeed: true, dryRun: true });
    return report(store, history, pinning, outcome, store.dataBytes, false);
  }
}

function report(
  store: Store,
  history: History,
  pinning: readonly PinningVersion[],
  outcome: CompactionOutcome,
  fileBytesBefore: number,
  applied: boolean,
): CompactionReport {
  const { pageSize } = store.live;
  const { cut, frontier, movable, moved, pinned } = outcome;
  const pages = applied ? moved.pages : movable;
  const reachable = cut * pageSize;
  const fileBytes = applied || cut === frontier ? store.dataBytes : reachable;
  const waitingBytes = applied && cut < frontier ? Math.max(0, store.dataBytes - reachable) : 0;
  // The tail keeps a little room.
  const isWaiting = waitingBytes > (fileBytesBefore - reachable) / 2 && waitingBytes > 0;
  const holding = pinning.filter(({ lsn }) => outcome.pinnedBy.has(lsn));
  const words = reasonsInWords(
    { store, history },
    holding.map(({ lsn, reasons }) => [lsn, reasons] as const),
  );
  const by = holding.map(({ lsn }) => {
    const held = outcome.pinnedBy.get(lsn)!;
    const time = formatTime(store.version(lsn)?.timeMicroseconds ?? 0);
    return { lsn, time, reasons: words.get(lsn)!, pages: held, bytes: held * pageSize };
  });
  return {
    applied,
    pages,
    bytes: pages * pageSize,
    fileBytesBefore,
    fileBytes,
    waitingBytes: isWaiting ? waitingBytes : 0,
    waiting: isWaiting ? waitingReason(store) : null,
    pinned: { pages: pinned, bytes: pinned * pageSize, by },
    left: moved.left,
  };
}

function waitingReason({ settings }: Store): string {
  const window = settingText('keepWindowMs', settings.keepWindowMs);
  const minimum = settingText('minRetentionMs', settings.minRetentionMs);
  return `versions of the window hold the old places until they go (keep_window ${window}, min_retention ${minimum})`;
}
