/**
 * States of the past by versions and log: what opening a state and replaying a restore rest on.
 */
import type { VersionRoot } from '../encoding/root.ts';
import { LsnfsError } from '../errors.ts';
import type { PageCache } from '../storage/page-cache.ts';
import type { LogTransaction } from '../wal/reader.ts';
import { applyTransaction } from './apply.ts';
import type { PastStates } from './restore.ts';
import { TreeState } from './tree-state.ts';

/** Where the states come from. */
export interface PastSource {
  readonly cache: PageCache;
  /** The root of the newest version at or before an LSN, or undefined. */
  versionRoot(lsn: number): VersionRoot | undefined;
  /** Calls `visit` with each whole transaction in (from, to]. */
  eachTransaction(from: number, to: number, visit: (transaction: LogTransaction) => void): void;
}

export class VersionsAndLog implements PastStates {
  /** LSNs of the versions that were used. */
  readonly used = new Set<number>();
  private readonly source: PastSource;

  constructor(source: PastSource) {
    this.source = source;
  }

  versionRoot(lsn: number): VersionRoot {
    const root = this.source.versionRoot(lsn);
    if (root === undefined) {
      throw new LsnfsError('NO_SUCH_STATE', `there is no version at or before LSN ${lsn}`, { lsn });
    }
    this.used.add(root.lsn);
    return root;
  }

  replayFiles(state: TreeState, from: number, to: number): void {
    const { lsn, timeMicroseconds } = state;
    this.replay(state, from, to, true);
    state.lsn = lsn;
    state.timeMicroseconds = timeMicroseconds;
  }

  open(lsn: number): TreeState {
    const root = this.versionRoot(lsn);
    const state = new TreeState(this.source.cache, root, false);
    if (root.lsn < lsn) this.replay(state, root.lsn, lsn, false);
    return state;
  }

  private replay(state: TreeState, from: number, to: number, filesOnly: boolean): void {
    this.source.eachTransaction(from, to, (transaction) => {
      const { payload, startLsn, endLsn, timeMicroseconds } = transaction;
      applyTransaction(state, payload, startLsn, endLsn, timeMicroseconds, { past: this, filesOnly });
    });
  }
}
