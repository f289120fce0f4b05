/**
 * Restoring: the live files become, whole or below some paths, what they were in a past state.
 *
 * Nothing is destroyed: the state before gets a name, by which it can be looked at, compared, and restored again. What
 * is asked for is checked before anything is done. The restore itself is one transaction; on a mount nothing else
 * is served while it is made.
 */
import { LsnfsError } from '../errors.ts';
import { History } from '../history/history.ts';
import { formatTime, type Target } from '../history/targets.ts';
import type { Store } from '../store/store.ts';
import type { LiveFileSystem } from '../vfs/live-file-system.ts';
import type { ClientChanges } from '../vfs/restore.ts';
import { compareStates } from './difference.ts';
import { textOfBytes } from './text.ts';
import { type PathLike, pathBytes } from './view.ts';

export interface RestoreOptions {
  /** Only what is at and below these paths is restored. Symbolic links are not followed. Default: everything. */
  readonly paths?: readonly PathLike[];
  /** The state just before the target, as PostgreSQL's recovery_target_inclusive = off. Default: no. */
  readonly exclusive?: boolean;
  /** Only says what would be done. Default: no. */
  readonly dryRun?: boolean;
}

export interface RestoreResult {
  /** Whether anything was done: not in a dry run, and not where nothing differs. */
  readonly applied: boolean;
  /** The state that was restored: LSN and time (RFC 3339) of its last transaction. */
  readonly to: { readonly lsn: number; readonly time: string };
  /** Empty for everything. */
  readonly paths: readonly string[];
  /** What differs between now and then, where that was asked for; only what is below the paths. */
  readonly changes: {
    readonly added: number;
    readonly removed: number;
    readonly modified: number;
    readonly renamed: number;
  } | null;
  /** The snapshot of the state before, or that it would be; null where nothing differs. */
  readonly before: { readonly name: string; readonly lsn: number } | null;
  /** Where the restored state ends; it is durable. Where nothing was done, the present LSN. */
  readonly lsn: number;
}

/** What a restore needs of a database. */
export interface RestorableDatabase {
  readonly store: Store;
  readonly history: History;
  readonly live: LiveFileSystem;
  commit(): Promise<unknown>;
  /** Whether a snapshot can have the name. */
  isFreeName(name: string): boolean;
  /** Tells whoever caches files what changed. */
  announce(changes: ClientChanges): void;
}

/** How long a dry run works between two turns of the event loop is the comparison's business; see difference.ts. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** @throws LsnfsError NO_SUCH_STATE with the range and the nearest LSN, NO_SUCH_SNAPSHOT, READ_ONLY; PosixError ENOENT */
export async function restore(
  database: RestorableDatabase,
  target: Target,
  options: RestoreOptions = {},
): Promise<RestoreResult> {
  const { store, history } = database;
  const paths = (options.paths ?? []).map((path) => Buffer.from(pathBytes(path)));
  const names = paths.map(textOfBytes);
  if (!store.readOnly && store.failure === undefined) await database.commit();
  const lsn = history.resolveRestore(target, options.exclusive === true);
  const lease = history.open(lsn, `restore, process ${process.pid}`);
  try {
    const { state } = lease;
    const to = { lsn: state.lsn, time: formatTime(lease.timeMicroseconds) };
    const plan = () => (paths.length === 0 ? undefined : database.live.planRestore(store.live, state, paths));
    if (options.dryRun === true) {
      // A path that exists in neither state is an error here, too.
      plan();
      const changes = await countChanges(database, state.lsn, paths);
      const total = changes.added + changes.removed + changes.modified + changes.renamed;
      const before = total === 0 ? null : { name: nameFor(database), lsn: store.live.lsn };
      return { applied: false, to, paths: names, changes, before, lsn: store.live.lsn };
    }
    const planned = plan();
    if (planned === undefined ? state.lsn === store.live.lsn : planned.isEmpty) {
      return { applied: false, to, paths: names, changes: null, before: null, lsn: store.live.lsn };
    }
    let changes: ClientChanges | undefined;
    const what = names.length === 0 ? '' : `${names.join(', ')} `;
    const message = History.shortMessage(`before ${what}was restored to LSN ${to.lsn}, ${to.time}`);
    const name = nameFor(database);
    const done = store.restore(name, message, () => {
      changes =
        planned === undefined
          ? database.live.restore(store.live, state.lsn)
          : database.live.restorePaths(store.live, planned);
    });
    // At once, before anybody is served from what is old: the promise is about durability.
    if (changes !== undefined) database.announce(changes);
    const { before, lsn: end } = await done;
    history.announce(name);
    return { applied: true, to, paths: names, changes: null, before: { name, lsn: before.lsn }, lsn: end };
  } finally {
    lease.release();
  }
}

async function countChanges(
  database: RestorableDatabase,
  lsn: number,
  paths: readonly Buffer[],
): Promise<NonNullable<RestoreResult['changes']>> {
  const comparison = await compareStates(database, 'live', { kind: 'lsn', lsn }, { paths });
  try {
    while (!comparison.step()) await turn();
    const { added, removed, modified, renamed } = comparison.statistics;
    return { added, removed, modified, renamed };
  } finally {
    comparison.close();
  }
}

/** A free name for the state before a restore. */
function nameFor({ store, isFreeName }: RestorableDatabase): string {
  const base = `before-restore-${formatTime(store.now()).slice(0, 19).replaceAll(':', '')}Z`;
  for (let i = 1; ; i++) {
    const name = i === 1 ? base : `${base}-${i}`;
    if (isFreeName(name)) return name;
  }
}

/** What a person typed: exactly one of them. @throws LsnfsError INVALID_INPUT */
export function oneTarget(targets: readonly (Target | undefined)[]): Target {
  const given = targets.filter((target) => target !== undefined);
  if (given.length === 1) return given[0]!;
  throw new LsnfsError(
    'INVALID_INPUT',
    'say with exactly one of --to-lsn, --to-time and --to-name which state is to be restored',
  );
}
