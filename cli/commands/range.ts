/** lsnfs range TARGET: what can be restored to. */
import type { Command } from 'commander';
import type { RangeReport } from '../../src/plugin/retention-report.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatTable, formatTime, printJson, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { countOf } from '../verifying.ts';

export function register(program: Command): void {
  const command = program
    .command('range')
    .description('Show what can be restored to.')
    .argument('<target>', TARGET_HELP)
    .action(async (target: string, options: { json?: boolean }) => {
      const report = (await withTarget(target, (session) => session.execute('range'))) as RangeReport;
      if (options.json) await printJson(report);
      else await write(formatRange(report));
    });
  jsonOption(command);
}

function formatRange({ from, to, versions, versionCount }: RangeReport): string {
  const moment = ({ lsn, time }: { lsn: number; time: string }) => `LSN ${lsn} (${formatTime(time)})`;
  const window = `Every state from ${moment(from)} to ${moment(to)}.\n`;
  const total = `${countOf(versionCount, 'version')} in all.\n`;
  if (versions.length === 0) return `${window}Nothing before that; ${total}`;
  const columns = [{ title: 'LSN', align: 'right' }, { title: 'TIME' }, { title: 'NAMES' }] as const;
  const table = formatTable(
    columns,
    versions.map(({ lsn, time, names }) => [String(lsn), formatTime(time), names.join(', ')]),
  );
  const before = `Before that ${countOf(versions.length, 'single version')}, with nothing between one and the next:\n`;
  return `${window}${before}${table}${total}`;
}
