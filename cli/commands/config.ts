/** lsnfs config get|set: the settings of a store, also of one that is mounted. */
import type { Command } from 'commander';
import type { SettingReport } from '../../src/plugin/configuration.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatTable, printJson, printLine, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { visible } from '../text.ts';

const KEY_HELP = 'keep_window, keep_size, gc_io_budget, …; "config get TARGET" lists them';

export function register(program: Command): void {
  const config = program.command('config').description('Show and change the settings of a store.');

  const get = config
    .command('get')
    .description('Show all settings, or the value of one.')
    .argument('<target>', TARGET_HELP)
    .argument('[key]', KEY_HELP)
    .action(async (target: string, key: string | undefined, options: { json?: boolean }) => {
      const args = key === undefined ? {} : { key };
      const rows = (await withTarget(target, (session) =>
        session.execute('configGet', args),
      )) as SettingReport[];
      if (options.json) return printJson(key === undefined ? rows : rows[0]);
      if (key !== undefined) return printLine(visible(rows[0]!.text));
      const columns = [{ title: 'KEY' }, { title: 'VALUE' }, { title: 'DEFAULT' }, { title: 'MAY BE' }];
      return write(
        formatTable(
          columns,
          rows.map((row) => [row.name, valueText(row), row.default, row.allowed]),
        ),
      );
    });
  jsonOption(get);

  const set = config
    .command('set')
    .description('Change a setting, in lsnfs.json and in the store that is mounted.')
    .argument('<target>', TARGET_HELP)
    .argument('<key>', KEY_HELP)
    .argument('<value>', '90m, 7d, 10GiB, 24, auto')
    .action(async (target: string, key: string, value: string, options: { json?: boolean }) => {
      const row = (await withTarget(target, (session) =>
        session.execute('configSet', { key, value }),
      )) as SettingReport & { atNextOpening: boolean };
      if (options.json) return printJson(row);
      const said = row.atNextOpening
        ? `${row.name} will be ${row.saved} from the next mount on.`
        : `${row.name} is ${row.text}.`;
      return printLine(visible(said));
    });
  jsonOption(set);
}

function valueText(row: SettingReport): string {
  return row.saved === null ? row.text : `${row.text} (lsnfs.json: ${row.saved})`;
}
