/**
 * Collecting garbage on demand: what would go, and letting it go at once instead of in the background.
 *
 * A collection is retention and reclaiming to their end, and the checkpoints that give the pages out again. It goes on
 * when nobody waits for it any more. There is one at a time; who asks for another meanwhile waits for the same.
 */
import type { History } from '../history/history.ts';
import type { ReclaimResult } from '../store/reclaim.ts';
import type { Store } from '../store/store.ts';
import { type HorizonReport, reportHorizon } from './retention-report.ts';
import { inTurns } from './turns.ts';

export interface CollectionResult extends HorizonReport {
  /** Whether it has been done; otherwise it is what would be. */
  readonly applied: boolean;
  /** Versions that went, and pages and bytes that came free. */
  readonly versions: number;
  readonly pages: number;
  readonly bytes: number;
  /** By how much the data file got shorter. */
  readonly fileBytes: number;
  /** Free pages of the store afterwards, or now. */
  readonly pagesFree: number;
}

/** How long the event loop is kept from turning while garbage is counted, in milliseconds. */
const TURN_MS = 1;

/** One that runs. */
export class CollectionJob {
  readonly done: Promise<CollectionResult>;
  private readonly store: Store;
  private readonly before: ReclaimResult;
  private ended = false;

  constructor(store: Store, history: History, fullSpeed: boolean) {
    this.store = store;
    this.before = { ...store.reclaimed };
    const diskBefore = store.dataBytes;
    this.done = store
      .collect(fullSpeed)
      .then(() => {
        const progress = this.describe();
        return {
          applied: true,
          ...progress,
          bytes: progress.pages * store.live.pageSize,
          fileBytes: Math.max(0, diskBefore - store.dataBytes),
          pagesFree: store.statistics().pages.free,
          ...reportHorizon({ history, store }, history.decideRetention()),
        };
      })
      .finally(() => {
        this.ended = true;
      });
    // Whoever waits hears of a failure; when nobody does any more, `status` says why the store has failed.
    this.done.catch(() => {});
  }

  get isEnded(): boolean {
    return this.ended;
  }

  /** What has come free so far. */
  describe(): { versions: number; pages: number } {
    const { reclaimed } = this.store;
    const { versions, pages } = this.before;
    return { versions: reclaimed.versions - versions, pages: reclaimed.pages - pages };
  }
}

export class Collections {
  private readonly store: Store;
  private readonly history: History;
  private running: CollectionJob | undefined;

  constructor(store: Store, history: History) {
    this.store = store;
    this.history = history;
  }

  /** Starts one, or joins the one that runs. */
  start(fullSpeed: boolean): CollectionJob {
    if (this.running === undefined || this.running.isEnded)
      this.running = new CollectionJob(this.store, this.history, fullSpeed);
    return this.running;
  }

  /** What a collection would give back now. */
  async preview(): Promise<CollectionResult> {
    const { store, history } = this;
    // What was changed since the last checkpoint would have a version of its own.
    if (!store.readOnly && store.failure === undefined) await store.checkpoint();
    history.releaseIdle();
    const decision = history.decideRetention();
    const garbage = store.measureRetention(decision.baseLsn, decision.kept.keys());
    const { versions, pages } = await inTurns(garbage, TURN_MS);
    return {
      applied: false,
      versions,
      pages,
      bytes: pages * store.live.pageSize,
      fileBytes: 0,
      pagesFree: store.statistics().pages.free,
      ...reportHorizon({ history, store }, decision),
    };
  }
}
