/**
 * lsnfs gc TARGET: lets go of what retention does not keep, and waits until its pages are free.
 *
 * Without the command the same happens in the background. On a mount the states that somebody has open are told with the
 * processes that use them, as far as this user may see.
 */
import type { Command } from 'commander';
import type { CollectionResult } from '../../src/plugin/collection.ts';
import type { CollectionPage } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { describeUsers, type MountUser, usersOfMount } from '../mount-users.ts';
import { formatBytes, formatTime, printJson, write } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { resolveTarget, type Session, withTarget } from '../target.ts';
import { visible } from '../text.ts';
import { countOf } from '../verifying.ts';

interface Options {
  readonly dryRun?: boolean;
  readonly fullSpeed?: boolean;
  readonly progress?: boolean;
  readonly json?: boolean;
}

/** A state that somebody has open, with the processes that use it through the mount. */
interface OpenState {
  readonly lsn: number;
  readonly by: readonly string[];
  readonly processes: readonly MountUser[];
}

export function register(program: Command): void {
  const command = program
    .command('gc')
    .description(
      'Let go of old versions, reclaim their pages, and say what came free and what holds the rest.',
    )
    .argument('<target>', TARGET_HELP)
    .option('-n, --dry-run', 'only say what would come free')
    .option('--full-speed', 'without regard to gc_io_budget')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, options: Options) => {
      const line = new ProgressLine(options.progress === true);
      const { result, mountpoint } = await withTarget(target, async (session) => ({
        result: await collect(session, options, line),
        mountpoint: resolveTarget(session.storePath).mountpoint,
      })).finally(() => line.end());
      const open = result.open.map((state) => ({ ...state, processes: usersOf(mountpoint, state.by) }));
      if (options.json) await printJson({ ...result, open });
      else await write(formatResult(result, open));
    });
  jsonOption(command);
}

async function collect(session: Session, options: Options, line: ProgressLine): Promise<CollectionResult> {
  const args = { dryRun: options.dryRun === true, fullSpeed: options.fullSpeed === true };
  let page = (await session.execute('gc', args)) as CollectionPage;
  while (page.result === null) {
    const { versions, pages } = page.running ?? { versions: 0, pages: 0 };
    line.show(`reclaiming: ${countOf(versions, 'version')}, ${countOf(pages, 'page')} so far`);
    page = (await session.execute('gc', { cursor: page.cursor })) as CollectionPage;
  }
  return page.result;
}

/** The processes that use one of these doors. */
function usersOf(mountpoint: string | null, doors: readonly string[]): MountUser[] {
  if (mountpoint === null) return [];
  const users = doors
    .filter((door) => door.startsWith('@'))
    .flatMap((door) => usersOfMount(`${mountpoint}/${door}`));
  return [...new Map(users.map((user) => [user.pid, user])).values()];
}

function formatResult(result: CollectionResult, open: readonly OpenState[]): string {
  const { applied, versions, pages, bytes, fileBytes, horizon, oldest } = result;
  const amount = `${countOf(versions, 'version')}, ${countOf(pages, 'page')} (${formatBytes(bytes)})`;
  const lines = [applied ? `Reclaimed ${amount}.` : `Would reclaim ${amount}.`];
  if (fileBytes > 0) lines.push(`The data file is ${formatBytes(fileBytes)} shorter.`);
  lines.push(`Horizon: LSN ${horizon.lsn}, ${formatTime(horizon.time)}: ${horizon.why}.`);
  lines.push(`Oldest version: LSN ${oldest.lsn}, ${formatTime(oldest.time)}: ${oldest.reasons.join(', ')}.`);
  for (const { lsn, by, processes } of open) {
    const users = processes.length === 0 ? '' : ` (${describeUsers(processes)}, at ${processes[0]!.path})`;
    lines.push(`Open: LSN ${lsn}, by ${[...new Set(by)].join(', ')}${users}.`);
  }
  return lines.map((text) => `${visible(text)}\n`).join('');
}
