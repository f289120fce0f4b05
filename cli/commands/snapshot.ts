/** lsnfs snapshot create|list|delete|rename|hold|release: names for states. */
import type { Command } from 'commander';
import type { SnapshotRow } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { type Column, formatTable, formatTime, printJson, printLine, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { visible } from '../text.ts';

export function register(program: Command): void {
  const snapshot = program
    .command('snapshot')
    .description('Name states, list the names, rename, hold and delete them.');

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
      const isHeld = rows.some(({ holds }) => holds !== undefined);
      const columns: Column[] = [{ title: 'NAME' }, { title: 'LSN', align: 'right' }, { title: 'CREATED' }];
      if (isHeld) columns.push({ title: 'HELD BY' });
      columns.push({ title: 'MESSAGE' });
      const cells = rows.map(({ name, lsn, createdAt, message, holds }) => [
        name,
        String(lsn),
        formatTime(createdAt),
        ...(isHeld ? [holds?.join(', ') ?? ''] : []),
        message ?? '',
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

  const rename = snapshot
    .command('rename')
    .description('Give a snapshot another name.')
    .argument('<target>', TARGET_HELP)
    .argument('<name>', 'the name')
    .argument('<new>', 'the new name')
    .action(async (target: string, name: string, to: string, options: { json?: boolean }) => {
      const row = (await withTarget(target, (session) =>
        session.execute('snapshotRename', { name, to }),
      )) as SnapshotRow;
      if (options.json) await printJson(row);
      else await printLine(`Renamed snapshot ${visible(name)} to ${visible(row.name)}.`);
    });
  jsonOption(rename);

  const hold = snapshot
    .command('hold')
    .description('Keep a snapshot from being deleted, until the same tag is released.')
    .argument('<target>', TARGET_HELP)
    .argument('<name>', 'the name')
    .argument('<tag>', 'who or what needs it')
    .action((target: string, name: string, tag: string, options: { json?: boolean }) =>
      changeHold('snapshotHold', target, name, tag, options),
    );
  jsonOption(hold);

  const release = snapshot
    .command('release')
    .description('End a hold.')
    .argument('<target>', TARGET_HELP)
    .argument('<name>', 'the name')
    .argument('<tag>', 'the tag that it is held by')
    .action((target: string, name: string, tag: string, options: { json?: boolean }) =>
      changeHold('snapshotRelease', target, name, tag, options),
    );
  jsonOption(release);
}

async function changeHold(
  operation: 'snapshotHold' | 'snapshotRelease',
  target: string,
  name: string,
  tag: string,
  options: { readonly json?: boolean },
): Promise<void> {
  const row = (await withTarget(target, (session) =>
    session.execute(operation, { name, tag }),
  )) as SnapshotRow;
  const by = row.holds?.join(', ') ?? 'nobody';
  if (options.json) await printJson(row);
  else await printLine(`Snapshot ${visible(name)} is held by ${visible(by)}.`);
}
