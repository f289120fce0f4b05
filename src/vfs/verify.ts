/**
 * The whole check of a store, from the control block to the paths: what `lsnfs check` and `lsnfs scrub` run.
 *
 * The store's check goes first and leaves versions, and the state that the log makes of the newest of them. Then the
 * structure of the newest state is read, and that of each older version by what differs (check.ts); at last the paths
 * that the damages hit are looked up, each in the newest state that it hits, and all of it becomes a report in JSON.
 *
 * A scrub is the same without the structure: it is for finding what the disk has lost, and runs for hours.
 */
import { inodeKey } from '../encoding/keys.ts';
import { isTemporary } from '../encoding/page.ts';
import { LsnfsError } from '../errors.ts';
import type { StorageDirectory } from '../storage/device.ts';
import { StoreCheck } from '../store/check.ts';
import type { CheckProgress } from '../store/check-context.ts';
import { type Damage, DamageList, type Finding, type Loss, NEWEST_STATE } from '../store/check-damage.ts';
import type { LogSummary } from '../store/check-log.ts';
import { DATA_NAME } from '../store/initialize.ts';
import { TreeState } from '../store/tree-state.ts';
import { StructureCheck } from './check.ts';
import { findPaths, type HitPath, type HitPaths } from './check-paths.ts';

/** Damages that are listed; more are counted. */
const DAMAGES_MAX = 1000;
/** Text of all paths of a report together, in characters: it must fit a reply of the control socket. */
const PATH_TEXT_MAX = 2 ** 20;
/** States in which paths are looked up: each costs a reading of its namespace. */
const PATH_STATES_MAX = 32;

export interface VerifyOptions {
  /** Whether directories, links and files are held against each other (default). */
  readonly structure?: boolean;
  /** Of a store that is open: the log is verified up to here. */
  readonly durableLsn?: number;
  /** Told of each damage when it is found. */
  readonly onFound?: (finding: Finding) => void;
  /** Names as text. */
  readonly textOf: (name: Uint8Array) => string;
  /** Times as text. */
  readonly timeText: (microseconds: number) => string;
}

/** Versions that follow each other. */
export interface VersionRange {
  readonly fromLsn: number;
  readonly toLsn: number;
  /** RFC 3339. */
  readonly fromTime: string;
  readonly toTime: string;
  readonly count: number;
}

export interface DamageReport {
  readonly kind: Finding['kind'];
  /** File in the store's directory, and the offset of the damage in it. */
  readonly file: string;
  readonly offset: number | null;
  readonly page: number | null;
  readonly pages: number;
  /** Place in the log. */
  readonly lsn: number | null;
  /** What was expected and what was found. */
  readonly message: string;
  /** Versions that are hit, oldest first. */
  readonly versions: readonly VersionRange[];
  /** States between versions that are hit: those at or after `from` and before `to`. */
  readonly states: readonly { readonly from: number; readonly to: number | null }[];
  readonly snapshots: readonly string[];
  /** Whether the newest state is hit. */
  readonly live: boolean;
  readonly inode: number | null;
  /** The bytes of that inode's content which are hit, if not all. */
  readonly start: number | null;
  readonly end: number | null;
  /** As they are called in the newest of the states that are hit. */
  readonly paths: readonly string[];
  readonly morePaths: number;
}

export interface CheckReport {
  /** LSN of the newest state that was verified, and of the newest version. */
  readonly lsn: number;
  readonly checkpointLsn: number;
  readonly versions: number;
  readonly oldestLsn: number;
  /** Versions in which pages are lost, so that links and counts could not be held against each other. */
  readonly notFullyChecked: readonly VersionRange[];
  readonly pages: { readonly inUse: number; readonly free: number };
  /** How full the leaves of trees are, from 0 to 1. */
  readonly fill: number;
  readonly log: LogSummary | null;
  readonly bytesRead: number;
  readonly damageCount: number;
  /** At most 1000. */
  readonly damages: readonly DamageReport[];
  /** What could not be verified, and why. */
  readonly notes: readonly string[];
}

export class Verification {
  private readonly store: StoreCheck;
  private readonly options: VerifyOptions;
  private readonly damages: DamageList;
  private readonly notFullyChecked: number[] = [];
  private pathTextLeft = PATH_TEXT_MAX;
  /** Numbers of versions by their LSNs. */
  private numbers: ReadonlyMap<number, number> | undefined;

  constructor(directory: StorageDirectory, options: VerifyOptions) {
    this.options = options;
    this.damages = new DamageList(DAMAGES_MAX, options.onFound);
    this.store = new StoreCheck(directory, {
      damages: this.damages,
      ...(options.durableLsn !== undefined && { durableLsn: options.durableLsn }),
    });
  }

  get progress(): CheckProgress {
    return this.store.context.progress;
  }

  /** Does a bounded piece of work between two yields. @throws LsnfsError NEWER_FORMAT */
  *run(): Generator<void, CheckReport> {
    const { store, progress } = this;
    yield* store.run();
    if (this.options.structure !== false && store.cache !== undefined) {
      progress.phase = 'structure';
      yield* this.checkStructure();
    }
    progress.phase = 'paths';
    const paths = yield* this.findPaths();
    progress.phase = 'done';
    return this.report(paths);
  }

  /** Lets go of the files; `run` may be left at any point. */
  close(): void {
    this.store.close();
  }

  /** The state with a number, or undefined when its root is damaged. */
  private state(number: number): TreeState | undefined {
    const { cache, pages, log } = this.store;
    if (number === NEWEST_STATE) return log?.state;
    const root = pages?.roots[number];
    return root === undefined || cache === undefined ? undefined : new TreeState(cache, root, false);
  }

  /** The first number: the newest state, if the log makes one that is no version. */
  private get firstState(): number {
    const state = this.store.log?.state;
    return state !== undefined && state.lsn > (this.store.versions[0]?.lsn ?? 0) ? NEWEST_STATE : 0;
  }

  private *checkStructure(): Generator<void> {
    const { progress, store } = this;
    progress.versions = 0;
    const check = new StructureCheck();
    const open = new Map<number, Map<string, Damage | undefined>>();
    let isFirst = true;
    for (let number = this.firstState; number < store.versions.length; number++) {
      progress.versions++;
      const state = this.state(number);
      if (state === undefined) {
        this.notFullyChecked.push(number);
        continue;
      }
      let scanned = isFirst;
      if (!isFirst) {
        try {
          yield* check.advance(state);
        } catch (error) {
          // A page that differs is damaged, which has been told: what can be read is read as a whole.
          if (!(error instanceof LsnfsError)) throw error;
          scanned = true;
        }
      }
      if (scanned) yield* check.scan(state);
      isFirst = false;
      if (check.isPartial) this.notFullyChecked.push(number);
      this.compare(check, state, number, open, scanned);
      yield;
    }
    for (const messages of open.values()) {
      for (const damage of messages.values()) endAt(damage, store.versions.length - 1);
    }
  }

  /** Damages go on from version to version until what is wrong is not wrong any more. */
  private compare(
    check: StructureCheck,
    state: TreeState,
    number: number,
    open: Map<number, Map<string, Damage | undefined>>,
    scanned: boolean,
  ): void {
    for (const [inode, messages] of open) {
      const now = check.problems.get(inode);
      if (now === undefined && !scanned) continue;
      for (const [message, damage] of messages) {
        if (now?.has(message)) continue;
        endAt(damage, number - 1);
        messages.delete(message);
      }
      if (messages.size === 0) open.delete(inode);
    }
    for (const [inode, messages] of check.problems) {
      for (const message of messages) {
        const known = open.get(inode) ?? new Map<string, Damage | undefined>();
        if (known.has(message)) continue;
        open.set(inode, known);
        known.set(message, this.foundStructure(state, number, inode, message));
      }
    }
  }

  private foundStructure(
    state: TreeState,
    number: number,
    inode: number,
    message: string,
  ): Damage | undefined {
    let page: number | undefined;
    try {
      if (inode !== 0 && state.inodes.find(inodeKey(inode))) page = state.inodes.page.number;
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
    }
    if (page !== undefined && isTemporary(page)) page = undefined;
    const damage = this.damages.add({
      kind: 'structure',
      file: DATA_NAME,
      message: inode === 0 ? message : `inode ${inode}: ${message}`,
      ...(page !== undefined && { page, offset: page * state.pageSize }),
      ...(inode !== 0 && { loss: { kind: 'inode', inode } }),
    });
    this.progress.damages = this.damages.count;
    damage?.hit(number);
    return damage;
  }

  private *findPaths(): Generator<void, Map<Damage, HitPaths>> {
    const groups = new Map<number, { damage: Damage; loss: Loss }[]>();
    for (const damage of this.damages.listed) {
      const { loss } = damage.finding;
      if (loss === undefined) continue;
      const number = damage.versions[0]?.[0] ?? this.firstState;
      const group = groups.get(number);
      if (group === undefined) groups.set(number, [{ damage, loss }]);
      else group.push({ damage, loss });
    }
    const result = new Map<Damage, HitPaths>();
    let states = 0;
    for (const [number, group] of groups) {
      const state = this.state(number);
      if (state === undefined) continue;
      if (++states > PATH_STATES_MAX) {
        this.store.context.note(
          `the paths of some damages were not looked up: they hit ${groups.size} different states`,
        );
        break;
      }
      const found = yield* findPaths(
        state,
        group.map(({ loss }) => loss),
      );
      group.forEach(({ damage }, index) => {
        result.set(damage, found[index]!);
      });
    }
    return result;
  }

  private report(paths: ReadonlyMap<Damage, HitPaths>): CheckReport {
    const { store } = this;
    const { pages, versions, log, context } = store;
    const { fill } = pages ?? {};
    const newest = versions[0]?.lsn ?? 0;
    return {
      lsn: Math.max(newest, log?.state?.lsn ?? 0),
      checkpointLsn: newest,
      versions: versions.length,
      oldestLsn: versions.at(-1)?.lsn ?? 0,
      notFullyChecked: this.rangesOf(this.notFullyChecked.map((number) => [number, number])),
      pages: { inUse: pages?.pagesInUse ?? 0, free: pages?.pagesFree ?? 0 },
      fill: fill === undefined || fill.leafCapacity === 0 ? 1 : fill.leafBytes / fill.leafCapacity,
      log: log?.summary ?? null,
      bytesRead: context.progress.bytesRead,
      damageCount: this.damages.count,
      damages: this.damages.listed.map((damage) => this.describe(damage, paths.get(damage))),
      notes: context.notes,
    };
  }

  private describe(damage: Damage, paths: HitPaths | undefined): DamageReport {
    const { finding, versions, states } = damage;
    const { loss } = finding;
    const lastLsn = Math.max(this.store.versions[0]?.lsn ?? 0, this.store.log?.state?.lsn ?? 0);
    const isHit = (lsn: number): boolean => states.some(([from, to]) => lsn >= from && lsn < to);
    return {
      kind: finding.kind,
      file: finding.file,
      offset: finding.offset ?? null,
      page: finding.page ?? null,
      pages: finding.pages ?? (finding.page === undefined ? 0 : 1),
      lsn: finding.lsn ?? null,
      message: finding.message,
      versions: this.rangesOf(versions),
      states: states.map(([from, to]) => ({ from, to: Number.isFinite(to) ? to : null })),
      snapshots: this.snapshotsHit(damage),
      live: (versions[0] !== undefined && versions[0][0] <= 0) || isHit(lastLsn),
      inode: loss?.kind === 'inode' ? loss.inode : null,
      start: loss?.kind === 'inode' ? (loss.start ?? null) : null,
      end: loss?.kind === 'inode' ? (loss.end ?? null) : null,
      ...this.listPaths(paths),
    };
  }

  private listPaths(found: HitPaths | undefined): Pick<DamageReport, 'paths' | 'morePaths'> {
    const paths: string[] = [];
    for (const hit of found?.paths ?? []) {
      const text = this.pathText(hit);
      this.pathTextLeft -= text.length;
      if (this.pathTextLeft < 0) break;
      paths.push(text);
    }
    return { paths, morePaths: (found?.more ?? 0) + (found?.paths.length ?? 0) - paths.length };
  }

  private pathText({ path, from, to }: HitPath): string {
    const { textOf } = this.options;
    const text = textOf(path);
    if (from === undefined && to === undefined) return text;
    const low = from === undefined ? '' : ` from ${JSON.stringify(textOf(from))}`;
    const high = to === undefined ? ' on' : ` to below ${JSON.stringify(textOf(to))}`;
    return `${text} (entries${low}${high})`;
  }

  /** Ranges of numbers as ranges of versions, oldest first. */
  private rangesOf(ranges: readonly (readonly [number, number])[]): VersionRange[] {
    const { versions } = this.store;
    const { timeText } = this.options;
    const result: VersionRange[] = [];
    let before: [number, number] | undefined;
    const joined: [number, number][] = [];
    for (const [newest, oldest] of ranges) {
      if (before !== undefined && newest === before[1] + 1) before[1] = oldest;
      else {
        before = [newest, oldest];
        joined.push(before);
      }
    }
    for (const [newest, oldest] of joined.reverse()) {
      const first = versions[oldest];
      const last = versions[Math.max(0, newest)];
      if (first === undefined || last === undefined || oldest < 0) continue;
      result.push({
        fromLsn: first.lsn,
        toLsn: last.lsn,
        fromTime: timeText(first.timeMicroseconds),
        toTime: timeText(last.timeMicroseconds),
        count: oldest - Math.max(0, newest) + 1,
      });
    }
    return result;
  }

  private snapshotsHit({ versions, states }: Damage): string[] {
    this.numbers ??= new Map(this.store.versions.map(({ lsn }, number) => [lsn, number]));
    const { numbers } = this;
    return (this.store.pages?.snapshots ?? [])
      .filter(({ lsn }) => {
        const number = numbers.get(lsn);
        if (number === undefined) return states.some(([from, to]) => lsn >= from && lsn < to);
        return versions.some(([newest, oldest]) => number >= newest && number <= oldest);
      })
      .map(({ name }) => name);
  }
}

function endAt(damage: Damage | undefined, number: number): void {
  const last = damage?.versions.at(-1);
  if (last !== undefined && last[1] < number) last[1] = number;
}
