/** lsnfs status TARGET: where the store stands. */
import type { Command } from 'commander';
import type { ScrubSummary } from '../../src/index.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatBytes, formatTime, printJson, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { visible } from '../text.ts';
import { countOf, progressText } from '../verifying.ts';

/** What `status` reports at least; members that a newer daemon adds are passed on in --json. */
interface Status {
  readonly store: string;
  readonly mountpoint: string | null;
  readonly pid: number | null;
  readonly lsn: number;
  readonly durableLsn: number;
  readonly checkpointLsn: number;
  readonly horizonLsn: number;
  readonly horizonTime: string | null;
  readonly pageSize: number;
  readonly pages: { readonly total: number; readonly free: number };
  readonly files: number;
  readonly bytes: { readonly live: number; readonly history: number; readonly disk: number };
  readonly wal: { readonly bytes: number; readonly segments: number };
  /** Why the store takes no more changes. */
  readonly failure?: string | null;
  readonly delayed?: string | null;
  /** Who serves the mount, and what it cannot do by that (docs/MOUNT.md). */
  readonly binding?: string;
  readonly lacks?: readonly string[];
  /** Not known of an older daemon. */
  readonly scrub?: ScrubSummary;
}

export function register(program: Command): void {
  const command = program
    .command('status')
    .description('Show where the store stands: LSNs, the horizon, pages, bytes, and who has it mounted.')
    .argument('<target>', TARGET_HELP)
    .action(async (target: string, options: { json?: boolean }) => {
      const status = (await withTarget(target, (session) => session.execute('status'))) as Status;
      if (options.json) await printJson(status);
      else await write(formatStatus(status));
    });
  jsonOption(command);
}

function formatStatus(status: Status): string {
  const mounted = status.mountpoint === null ? 'not mounted' : `${status.mountpoint} (process ${status.pid})`;
  const rows: [string, string][] = [
    ['Store', status.store],
    ['Mounted on', mounted],
    ['LSN', `${status.lsn}, durable ${status.durableLsn}, checkpoint ${status.checkpointLsn}`],
    [
      'Horizon',
      `LSN ${status.horizonLsn}${status.horizonTime === null ? '' : `, ${formatTime(status.horizonTime)}`}`,
    ],
    ['Files', String(status.files)],
    ['Live', formatBytes(status.bytes.live)],
    ['History', formatBytes(status.bytes.history)],
    ['On disk', formatBytes(status.bytes.disk)],
    [
      'Log',
      `${formatBytes(status.wal.bytes)} in ${status.wal.segments} ${status.wal.segments === 1 ? 'segment' : 'segments'}`,
    ],
    ['Scrub', scrubText(status.scrub)],
    ['Pages', `${status.pages.total} of ${status.pageSize} bytes, ${status.pages.free} free`],
  ];
  if (status.lacks !== undefined && status.lacks.length > 0)
    rows.push(['Binding', `${status.binding}, without ${status.lacks.join(', ')}`]);
  if (status.failure != null) rows.push(['Failed', status.failure]);
  if (status.delayed != null) rows.push(['Checkpoints', `wait: ${status.delayed}`]);
  return rows.map(([name, value]) => `${`${name}:`.padEnd(12)}${visible(value)}\n`).join('');
}

function scrubText(scrub: ScrubSummary | undefined): string {
  const last = scrub?.last;
  const ended = last == null ? '' : `${formatTime(last.finishedAt)}, ${foundText(last.damageCount)}`;
  if (scrub?.running == null) return ended === '' ? 'never' : `last ${ended}`;
  const now = `${progressText(scrub.running)}, since ${formatTime(scrub.running.startedAt)}`;
  return ended === '' ? now : `${now}; the last ended ${ended}`;
}

function foundText(damages: number): string {
  return damages === 0 ? 'no damage found' : `${countOf(damages, 'damage')} found`;
}
