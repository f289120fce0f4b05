/** lsnfs unmount DIR: unmounts, and returns when the daemon has closed the store. */
import type { Command } from 'commander';
import { jsonOption } from '../command.ts';
import { printJson } from '../output.ts';
import { unmountAndWait, unmountLazily } from '../unmounting.ts';

export function register(program: Command): void {
  const command = program
    .command('unmount')
    .alias('umount')
    .description('Unmount, and wait until everything is on disk and the daemon has ended.')
    .argument('<dir>', 'the directory where a store is mounted, or the store')
    .option('-l, --lazy', 'do not wait for programs that use it: out of sight at once, gone when they end')
    .action(async (directory: string, options: { lazy?: boolean; json?: boolean }) => {
      const { store, mountpoint } = await (options.lazy ? unmountLazily : unmountAndWait)(directory);
      if (options.json) await printJson({ store, mountpoint });
    });
  jsonOption(command);
}
