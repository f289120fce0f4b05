/** What commands have in common. */
import type { Command } from 'commander';

export const TARGET_HELP = 'a store, or the directory where it is mounted';

export function jsonOption(command: Command): Command {
  return command.option('--json', 'print JSON');
}
