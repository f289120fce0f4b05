/** lsnfs snapshot create|list|delete: names for states. */
import type { Command } from 'commander';
import type { SnapshotRow } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatTable, formatTime, printJson, printLine, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { visible } from '../text.ts';

export function register(program: Command): void {
  const snapshot = program.command('snapshot').description('Name states, list the names, delete them.');

  const create = snapshot
    .command('create')
    .description('Name the present state; everything that was written before is in it.')
    .argument('<target>', TARGET_HELP)
    .argument('<name>', 'the name; the state is then read under /@NAME')
    .option('-m, --message <text>', 'why it was made')
    .action(async (target: string, name: string, options: { message?: string; json?: boolean }) => {
      const args = options.message === undefined ? { name } : { name, message: options.message };
      const row = (await withTarget(target, (session) =>
        session.execute('snapshotCreate', args),
      )) as SnapshotRow;
      if (options.json) await printJson(row);
      else await printLine(`Made snapshot ${visible(row.name)} at LSN ${row.lsn}.`);
    });
  jsonOption(create);

  const list = snapshot
    .command('list')
    .description('List the snapshots, oldest first.')
    .argument('<target>', TARGET_HELP)
    .action(async (target: string, options: { json?: boolean }) => {
      const rows = (await withTarget(target, (session) => session.execute('snapshotList'))) as SnapshotRow[];
      if (options.json) return printJson(rows);
      if (rows.length === 0) return printLine('There are no snapshots.');
      const columns = [
        { title: 'NAME' },
        { title: 'LSN', align: 'right' },
        { title: 'CREATED' },
        { title: 'MESSAGE' },
      ] as const;
      const cells = rows.map((row) => [
        row.name,
        String(row.lsn),
        formatTime(row.createdAt),
        row.message ?? '',
      ]);
      return write(formatTable(columns, cells));
    });
  jsonOption(list);

  const remove = snapshot
    .command('delete')
    .description('Delete the name of a state.')
    .argument('<target>', TARGET_HELP)
    .argument('<name>', 'the name')
    .action(async (target: string, name: string, options: { json?: boolean }) => {
      await withTarget(target, (session) => session.execute('snapshotDelete', { name }));
      if (options.json) await printJson({ name });
      else await printLine(`Deleted snapshot ${visible(name)}.`);
    });
  jsonOption(remove);
}
