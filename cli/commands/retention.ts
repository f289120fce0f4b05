/** lsnfs retention TARGET: which versions are kept and why, and lets the rest go. */
import type { Command } from 'commander';
import type { RetentionReport } from '../../src/plugin/retention-report.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatTable, formatTime, printJson, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { countOf } from '../verifying.ts';

export function register(program: Command): void {
  const command = program
    .command('retention')
    .description('Show which versions are kept and why, and let the rest go.')
    .argument('<target>', TARGET_HELP)
    .option('-n, --dry-run', 'only say what would go')
    .action(async (target: string, options: { dryRun?: boolean; json?: boolean }) => {
      const args = { dryRun: options.dryRun === true };
      const report = (await withTarget(target, (session) =>
        session.execute('retention', args),
      )) as RetentionReport;
      if (options.json) await printJson(report);
      else await write(formatRetention(report));
    });
  jsonOption(command);
}

function formatRetention({ applied, horizon, kept, dropped }: RetentionReport): string {
  const columns = [
    { title: 'LSN', align: 'right' },
    { title: 'TIME' },
    { title: 'NAMES' },
    { title: 'KEPT BECAUSE' },
  ] as const;
  const rows = [
    ...kept.map(({ lsn, time, names, reasons }) => ({ lsn, time, names, why: reasons.join(', ') })),
    ...dropped.map(({ lsn, time }) => ({ lsn, time, names: [], why: applied ? '(went)' : '(would go)' })),
  ].sort((a, b) => a.lsn - b.lsn);
  const table = formatTable(
    columns,
    rows.map(({ lsn, time, names, why }) => [String(lsn), formatTime(time), names.join(', '), why]),
  );
  const went = `${countOf(dropped.length, 'version')} ${applied ? 'went' : 'would go'}`;
  const window = `every state from LSN ${horizon.lsn} (${formatTime(horizon.time)}) on can be opened`;
  return `${table}${countOf(kept.length, 'version')} kept, ${went}; ${window}.\n`;
}
