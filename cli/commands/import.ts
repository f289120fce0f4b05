/**
 * lsnfs import TARGET [PATH]: a tar archive from standard input into the live state, all of it or nothing.
 *
 * A transaction of the API is synchronous, so the archive is read with blocking reads while it goes on. That would
 * stand a mount still for as long as the archive's writer takes, and is why a store that is mounted is refused.
 */
import { readSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { LsnfsError, systemErrorCode } from '../../src/errors.ts';
import type { ImportTally } from '../../src/index.ts';
import { namesPastState } from '../../src/plugin/paths.ts';
import { bytesOfText } from '../../src/plugin/text.ts';
import { jsonOption } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatBytes } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { withOwnDatabase } from '../target.ts';
import { visible, visibleJson } from '../text.ts';

/** How long an input that never blocks is left alone before it is asked again. */
const RETRY_MS = 5;
const MOUNTED = 'unmount it, or extract the archive with tar on the mount';

/** A blocking read of standard input; 0 at its end. */
function readInput(target: Uint8Array, start: number, length: number): number {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      return readSync(0, target, start, length, null);
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'EAGAIN') Atomics.wait(clock, 0, 0, RETRY_MS);
      else if (code === 'EOF') return 0;
      else throw new LsnfsError('IO', `standard input cannot be read: ${(error as Error).message}`);
    }
  }
}

function countOf(tally: ImportTally): number {
  return Object.values(tally.entries).reduce((sum, count) => sum + count, 0);
}

export function register(program: Command): void {
  const command = program
    .command('import')
    .description('Put a tar archive from standard input into the live state, in one transaction.')
    .argument('<target>', 'a store that is not mounted')
    .argument('[path]', 'the directory to put it in; made if it is missing', '/')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, path: string, options: { json?: boolean; progress?: boolean }) => {
      if (namesPastState(path)) throw new UsageError(`${path} is a past state, which cannot be changed`);
      if (isatty(0))
        throw new UsageError('standard input is a terminal: give the archive from a file or a pipe');
      const line = new ProgressLine(options.progress === true);
      await withOwnDatabase(target, MOUNTED, async (database) => {
        try {
          const { lsn, result } = await database.transaction((transaction) =>
            transaction.importTar(bytesOfText(path), readInput, {
              warn(message) {
                line.end();
                process.stderr.write(`lsnfs: ${visible(message)}\n`);
              },
              progress: (tally) =>
                line.show(`importing: ${countOf(tally)} entries, ${formatBytes(tally.archiveBytes)}`),
            }),
          );
          line.end();
          const text = `Imported ${countOf(result)} entries with ${formatBytes(result.contentBytes)}, LSN ${lsn}.`;
          process.stderr.write(`${options.json === true ? visibleJson({ lsn, path, ...result }) : text}\n`);
        } finally {
          line.end();
        }
      });
    });
  jsonOption(command);
}
