/** lsnfs unmount DIR: unmounts, and returns when the daemon has closed the store. */
import type { Command } from 'commander';
import { jsonOption } from '../command.ts';
import { printJson } from '../output.ts';
import { unmountAndWait } from '../unmounting.ts';

export function register(program: Command): void {
  const command = program
    .command('unmount')
    .alias('umount')
    .description('Unmount, and wait until everything is on disk and the daemon has ended.')
    .argument('<dir>', 'the directory where a store is mounted, or the store')
    .action(async (directory: string, options: { json?: boolean }) => {
      const { store, mountpoint } = await unmountAndWait(directory);
      if (options.json) await printJson({ store, mountpoint });
    });
  jsonOption(command);
}
