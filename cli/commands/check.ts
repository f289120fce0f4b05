/**
 * lsnfs check TARGET: verifies everything, on disk, and says what is hit by what is damaged.
 *
 * A mounted store is checked by its daemon between everything else that it does; a closed one here, also when it could
 * not be opened or mounted. Exit status 4 when damage is found.
 */
import type { Command } from 'commander';
import { type CheckReport, verifyClosedStore } from '../../src/index.ts';
import type { CheckPage } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { CorruptionFound } from '../failure.ts';
import { printJson, write } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { askOrWork, resolveTarget, type Session } from '../target.ts';
import { countOf, formatDamages, formatReport, progressText } from '../verifying.ts';

interface Options {
  readonly quiet?: boolean;
  readonly progress?: boolean;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('check')
    .description('Verify everything: control block, log, every page of every version, directories and links.')
    .argument('<target>', TARGET_HELP)
    .option('-q, --quiet', 'print nothing unless damage is found')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, options: Options) => {
      const line = new ProgressLine(options.progress === true);
      const report = await askOrWork(
        target,
        (session) => askForCheck(session, line),
        (storePath) =>
          verifyClosedStore(storePath, { onProgress: (running) => line.show(progressText(running)) }),
      ).finally(() => line.end());
      const { storePath } = resolveTarget(target);
      await printCheck(storePath, 'check', report, options);
    });
  jsonOption(command);
}

/** Prints what was found. @throws CorruptionFound */
export async function printCheck(
  storePath: string,
  kind: 'check' | 'scrub',
  report: CheckReport,
  options: { readonly json?: boolean; readonly quiet?: boolean },
): Promise<void> {
  if (options.json) await printJson({ store: storePath, ...report });
  else {
    if (!options.quiet || report.damageCount > 0) await write(formatReport(storePath, kind, report));
    await write(formatDamages(report));
  }
  if (report.damageCount > 0)
    throw new CorruptionFound(`${countOf(report.damageCount, 'damage')} found in ${storePath}`);
}

async function askForCheck(session: Session, line: ProgressLine): Promise<CheckReport> {
  let page = (await session.execute('check')) as CheckPage;
  while (page.report === null) {
    line.show(progressText(page.running));
    page = (await session.execute('check', { cursor: page.cursor })) as CheckPage;
  }
  return page.report;
}
