/** lsnfs export TARGET [@STATE] [PATH]: a state, or a part of it, as a tar archive on standard output. */
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { TARGET_HELP } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatBytes, write } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { exportPages, withTarget } from '../target.ts';
import { visible } from '../text.ts';

/** The path that the arguments mean: a state, a path, or a path in a state. */
function pathOf(state: string | undefined, path: string | undefined): string {
  if (state === undefined) return '/';
  if (path === undefined) return state;
  if (!state.startsWith('@')) throw new UsageError(`${state} is no state: one begins with "@"`);
  return `${state}/${path}`;
}

export function register(program: Command): void {
  program
    .command('export')
    .description('Write a state, or a part of it, to standard output as a tar archive.')
    .argument('<target>', TARGET_HELP)
    .argument('[state]', '@NAME, @lsn-N, @TIME or @latest; the live state if there is none')
    .argument('[path]', 'what to export: a directory as ".", anything else under its own name')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(
      async (
        target: string,
        state: string | undefined,
        path: string | undefined,
        options: { progress?: boolean },
      ) => {
        const full = pathOf(state, path);
        if (isatty(1))
          throw new UsageError('an archive is not for a terminal: send it into a file or a pipe');
        const progress = new ProgressLine(options.progress === true);
        await withTarget(target, async (session) => {
          let bytes = 0;
          try {
            for await (const { data, entries, skipped } of exportPages(session, full)) {
              const piece = Buffer.from(data, 'base64');
              bytes += piece.length;
              await write(piece);
              progress.show(`exporting: ${entries} entries, ${formatBytes(bytes)}`);
              for (const name of skipped) {
                progress.end();
                process.stderr.write(
                  `lsnfs: ${visible(name)} is a socket, which no tar archive holds: left out\n`,
                );
              }
            }
          } finally {
            progress.end();
          }
        });
      },
    );
}
