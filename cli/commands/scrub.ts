/**
 * lsnfs scrub TARGET: reads and verifies all data and pages of all versions, no faster than it is allowed to.
 *
 * A mounted store is scrubbed by its daemon in the background: the command starts that, and returns. A closed one is
 * scrubbed here. Exit status 4 when it was waited for, and damage was found.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Command } from 'commander';
import { LsnfsError } from '../../src/errors.ts';
import { type CheckReport, type ScrubStatus, verifyClosedStore } from '../../src/index.ts';
import { parseRate } from '../arguments.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatBytes, printJson, printLine } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { askOrWork, resolveTarget, type Session } from '../target.ts';
import { progressText } from '../verifying.ts';
import { printCheck } from './check.ts';

/** Between two looks at a scrub that is waited for. */
const LOOK_MS = 250;

interface Options {
  readonly wait?: boolean;
  readonly stop?: boolean;
  readonly rate?: number;
  readonly progress?: boolean;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('scrub')
    .description('Read and verify all data of all versions, in the background if the store is mounted.')
    .argument('<target>', TARGET_HELP)
    .option('-w, --wait', 'wait until it has ended')
    .option('-s, --stop', 'end the one that is running')
    .option(
      '--rate <bytes>',
      'what it may read a second: 500K, 32M, 1G; default: scrubBytesPerSecond',
      parseRate,
    )
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, options: Options) => {
      if (options.stop) {
        if (options.wait || options.rate !== undefined)
          throw new UsageError('--stop goes with neither --wait nor --rate');
        return stop(target, options);
      }
      const line = new ProgressLine(options.progress === true);
      const report = await askOrWork(
        target,
        (session) => scrubMounted(session, line, options),
        (storePath) =>
          verifyClosedStore(storePath, {
            kind: 'scrub',
            ...(options.rate !== undefined && { bytesPerSecond: options.rate }),
            onProgress: (running) => line.show(progressText(running)),
          }),
      ).finally(() => line.end());
      if (report !== undefined) await printCheck(resolveTarget(target).storePath, 'scrub', report, options);
    });
  jsonOption(command);
}

async function stop(target: string, options: Options): Promise<void> {
  const stopped = await askOrWork(
    target,
    async (session) => ((await session.execute('scrub', { action: 'stop' })) as { stopped: boolean }).stopped,
    async () => false,
  );
  if (options.json) await printJson({ stopped });
  else await printLine(stopped ? 'Stopped the scrub.' : 'No scrub is running.');
}

/** Starts a scrub; its report, if it is to be waited for. */
async function scrubMounted(
  session: Session,
  line: ProgressLine,
  options: Options,
): Promise<CheckReport | undefined> {
  const args = { action: 'start', ...(options.rate !== undefined && { bytesPerSecond: options.rate }) };
  let status = (await session.execute('scrub', args)) as ScrubStatus;
  const { running } = status;
  if (!options.wait) {
    const rate = running?.bytesPerSecond ?? 0;
    if (options.json) await printJson(status);
    else
      await printLine(
        `Scrubbing at up to ${formatBytes(rate)} a second; "lsnfs status" shows how far it is.`,
      );
    return undefined;
  }
  const startedAt = running?.startedAt ?? status.last?.startedAt;
  while (status.running !== null && status.running.startedAt === startedAt) {
    line.show(progressText(status.running));
    await sleep(LOOK_MS);
    status = (await session.execute('scrub', { action: 'status' })) as ScrubStatus;
  }
  if (status.last?.startedAt !== startedAt || status.last === null)
    throw new LsnfsError('EINTR', 'the scrub was stopped before its end');
  return status.last.report;
}
