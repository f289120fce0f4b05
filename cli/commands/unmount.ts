/** lsnfs unmount DIR: unmounts, and returns when the daemon has closed the store. */
import type { Command } from 'commander';
import { jsonOption } from '../command.ts';
import { UsageError } from '../failure.ts';
import { printJson } from '../output.ts';
import { unmountAndWait, unmountForcibly, unmountLazily } from '../unmounting.ts';

interface Options {
  lazy?: boolean;
  force?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('unmount')
    .alias('umount')
    .description('Unmount, and wait until everything is on disk and the daemon has ended.')
    .argument('<dir>', 'the directory where a store is mounted, or the store')
    .option('-l, --lazy', 'do not wait for programs that use it: out of sight at once, gone when they end')
    .option('--force', 'save what programs have written, and cut them off; end a daemon that hangs')
    .action(async (directory: string, options: Options) => {
      if (options.lazy && options.force)
        throw new UsageError('--lazy waits for programs and --force does not: give one of them');
      const way = options.lazy ? unmountLazily : options.force ? unmountForcibly : unmountAndWait;
      const { store, mountpoint } = await way(directory);
      if (options.json) await printJson({ store, mountpoint });
    });
  jsonOption(command);
}
