/** lsnfs commit TARGET: makes everything so far durable and prints the LSN. */
import type { Command } from 'commander';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { printJson, printLine } from '../output.ts';
import { withTarget } from '../target.ts';

export function register(program: Command): void {
  const command = program
    .command('commit')
    .description('Make everything that was written so far durable, and print the LSN of that state.')
    .argument('<target>', TARGET_HELP)
    .action(async (target: string, options: { json?: boolean }) => {
      const { lsn } = (await withTarget(target, (session) => session.execute('commit'))) as { lsn: number };
      if (options.json) await printJson({ lsn });
      else await printLine(String(lsn));
    });
  jsonOption(command);
}
