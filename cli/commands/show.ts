/** lsnfs show TARGET @STATE: what there is to know of one state. */
import type { Command } from 'commander';
import type { StateReport } from '../../src/index.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatBytes, formatTime, printJson, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { visible } from '../text.ts';
import { countOf } from '../verifying.ts';

export function register(program: Command): void {
  const command = program
    .command('show')
    .description('Show what there is to know of one state: names, why it is kept, what it holds.')
    .argument('<target>', TARGET_HELP)
    .argument('<state>', '@NAME, @lsn-N, @TIME or @latest')
    .action(async (target: string, state: string, options: { json?: boolean }) => {
      const report = (await withTarget(target, (session) =>
        session.execute('show', { state }),
      )) as StateReport;
      if (options.json) await printJson(report);
      else await write(formatState(report));
    });
  jsonOption(command);
}

function formatState(report: StateReport): string {
  const { base, names, reasons, openBy, pages, alone } = report;
  const rows: [string, string][] = [
    ['LSN', String(report.lsn)],
    ['Time', formatTime(report.time)],
  ];
  for (const { name, createdAt, message, holds } of names) {
    const said = message === undefined ? '' : `: ${message}`;
    const held = holds === undefined ? '' : `, held by ${holds.join(', ')}`;
    rows.push(['Snapshot', `${name}${said} (made ${formatTime(createdAt)}${held})`]);
  }
  rows.push(
    report.isVersion
      ? ['Version', `yes, root page ${base.rootPage}`]
      : [
          'Version',
          `no: made from that at LSN ${base.lsn}, root page ${base.rootPage}, and ${formatBytes(base.logBytes)} of log`,
        ],
  );
  if (report.isVersion)
    rows.push(['Kept', reasons.length === 0 ? 'no longer: it goes next' : reasons.join(', ')]);
  if (openBy.length > 0) rows.push(['Open by', openBy.join(', ')]);
  rows.push(
    ['Files', String(report.files)],
    [
      'Holds',
      `${formatBytes(report.bytes)} in ${countOf(pages.trees + pages.data, 'page')}: ${pages.trees} of trees, ${pages.data} of data`,
    ],
  );
  if (alone !== null) {
    rows.push([
      'Alone',
      `${formatBytes(alone.bytes)} in ${countOf(alone.pages, 'page')} that nothing else holds: what would come free without it`,
    ]);
  }
  return rows.map(([name, value]) => `${`${name}:`.padEnd(12)}${visible(value)}\n`).join('');
}
