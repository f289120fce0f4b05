/**
 * lsnfs compact TARGET: moves pages from the end of the data file into free space, so that the file gets shorter.
 */
import type { Command } from 'commander';
import type { CompactionProgress, CompactionReport } from '../../src/plugin/compaction-job.ts';
import type { CompactionPage } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatBytes, printJson, write } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { type Session, withTarget } from '../target.ts';
import { visible } from '../text.ts';
import { countOf } from '../verifying.ts';

interface Options {
  readonly dryRun?: boolean;
  readonly fullSpeed?: boolean;
  readonly progress?: boolean;
  readonly json?: boolean;
}

/** Versions that are told one by one. */
const PINS_SHOWN = 10;
/** What takes longer is worth a line of progress, in milliseconds. */
const QUIET_MS = 1000;

export function register(program: Command): void {
  const command = program
    .command('compact')
    .description('Move pages from the end of the data file into free space, and make the file shorter.')
    .argument('<target>', TARGET_HELP)
    .option('-n, --dry-run', 'only say what would be moved')
    .option('--full-speed', 'without regard to gc_io_budget')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, options: Options) => {
      const line = new ProgressLine(options.progress === true);
      const report = await withTarget(target, (session) => compact(session, options, line)).finally(() =>
        line.end(),
      );
      if (options.json) await printJson(report);
      else await write(formatReport(report));
    });
  jsonOption(command);
}

async function compact(session: Session, options: Options, line: ProgressLine): Promise<CompactionReport> {
  const start = performance.now();
  const args = { dryRun: options.dryRun === true, fullSpeed: options.fullSpeed === true };
  let page = (await session.execute('compact', args)) as CompactionPage;
  while (page.result === null) {
    if (options.progress === true || performance.now() - start > QUIET_MS) line.show(describe(page.running));
    page = (await session.execute('compact', { cursor: page.cursor })) as CompactionPage;
  }
  return page.result;
}

function describe(running: CompactionProgress | null): string {
  if (running === null || running.phase === 'collecting') return 'compacting: reclaiming what nothing holds';
  return `compacting: ${countOf(running.pages, 'page')} of ${running.total} moved`;
}

function formatReport(report: CompactionReport): string {
  const { applied, pages, bytes, fileBytesBefore, fileBytes, pinned } = report;
  const lines: string[] = [];
  if (pages === 0) lines.push(applied ? 'Nothing was moved.' : 'Nothing would be moved.');
  else lines.push(`${applied ? 'Moved' : 'Would move'} ${countOf(pages, 'page')} (${formatBytes(bytes)}).`);
  if (fileBytes < fileBytesBefore) {
    const change = `${formatBytes(fileBytes)}, from ${formatBytes(fileBytesBefore)}`;
    lines.push(applied ? `The data file has ${change}.` : `The data file could come down to ${change}.`);
  }
  if (report.waiting !== null)
    lines.push(`It can lose ${formatBytes(report.waitingBytes)} more: ${report.waiting}.`);
  if (report.left > 0) lines.push(`${countOf(report.left, 'page')} could not be read, or found no room.`);
  if (pinned.pages > 0) {
    const amount = `${countOf(pinned.pages, 'page')} (${formatBytes(pinned.bytes)})`;
    lines.push(`Not to be moved: ${amount} near the end of the file, which older versions hold:`);
    for (const { lsn, reasons, bytes: held } of pinned.by.slice(0, PINS_SHOWN))
      lines.push(`  LSN ${lsn}: ${reasons.join(', ')}: ${formatBytes(held)}`);
    const rest = pinned.by.length - PINS_SHOWN;
    if (rest > 0) lines.push(`  and ${rest} more (--json names them all)`);
  }
  return lines.map((text) => `${visible(text)}\n`).join('');
}
