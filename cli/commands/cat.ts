/** lsnfs cat TARGET PATH…: writes files of the live state or, below @…, of a past one to standard output. */
import type { Command } from 'commander';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { write } from '../output.ts';
import { readPages, withTarget } from '../target.ts';

export function register(program: Command): void {
  const command = program
    .command('cat')
    .description('Write a file to standard output, from the live state or from a past one.')
    .argument('<target>', TARGET_HELP)
    .argument('<path...>', 'paths in the store; each may begin with @NAME, @lsn-N, @TIME or @latest')
    .action(async (target: string, paths: string[], options: { json?: boolean }) => {
      await withTarget(target, async (session) => {
        for (const path of paths) {
          if (options.json) await write(`{"path":${JSON.stringify(path)},"encoding":"base64","data":"`);
          for await (const data of readPages(session, path)) {
            await write(options.json ? data : Buffer.from(data, 'base64'));
          }
          if (options.json) await write('"}\n');
        }
      });
    });
  jsonOption(command);
}
