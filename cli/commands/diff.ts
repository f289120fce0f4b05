/**
 * lsnfs diff TARGET FROM [TO] [PATH…]: what changed between two states, as `zfs diff` prints it. Exit status 3 when
 * something did.
 *
 * Names are escaped as `zfs diff` does it, as octal numbers: what could steer a terminal or break a line always, and
 * with -H everything but printable ASCII, so that a line can be taken apart at its tabs.
 */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import { isTimeForm } from '../../src/encoding/names.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import type { DiffEntry, DiffStatistics } from '../../src/plugin/difference.ts';
import type { DiffPage } from '../../src/plugin/operations.ts';
import type { EntryType } from '../../src/plugin/view.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { DifferencesFound, UsageError } from '../failure.ts';
import { printJson, write } from '../output.ts';
import { patchOf } from '../patch.ts';
import { type Session, withTarget } from '../target.ts';
import { octalName, visibleJson } from '../text.ts';

/** As `find -type` has them. */
const TYPES: Readonly<Record<string, EntryType>> = {
  f: 'file',
  d: 'directory',
  l: 'symlink',
  p: 'fifo',
  s: 'socket',
  c: 'character-device',
  b: 'block-device',
};

interface Options {
  readonly scripted?: boolean;
  readonly nameOnly?: boolean;
  readonly stat?: boolean;
  readonly patch?: boolean;
  readonly type?: EntryType[];
  readonly json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('diff')
    .description('Show what changed between two states: + added, - removed, M modified, R renamed.')
    .argument('<target>', TARGET_HELP)
    .argument('<from>', 'a state: @NAME, @lsn-N, @TIME, @latest or @live')
    .argument('[to]', 'the other state, with its "@" unless it is an LSN or a time; default: @live')
    .argument('[path...]', 'only what is, or was, one of these or below one')
    .option('-H, --scripted', 'for scripts: fields between tabs, and names in printable ASCII')
    .option('-n, --name-only', 'print paths only')
    .option('-s, --stat', 'print how many changes there are, and what it cost to find them')
    .option('-p, --patch', 'print a unified diff of text files below each change')
    .option('-t, --type <types>', 'only files (f), directories (d), links (l), p, s, c, b; "f,d"', parseTypes)
    .action(
      async (target: string, from: string, to: string | undefined, paths: string[], options: Options) => {
        const modes = [options.nameOnly, options.stat, options.patch].filter(Boolean).length;
        if (modes > 1) throw new UsageError('only one of --name-only, --stat and --patch goes at a time');
        if (options.patch && (options.json || options.scripted))
          throw new UsageError('--patch goes with neither --json nor --scripted');
        const isState = to === undefined || namesState(to);
        const args: JsonObject = {
          from,
          ...(isState && to !== undefined && { to }),
          paths: isState ? paths : [to, ...paths],
          ...(options.type !== undefined && { types: options.type }),
        };
        const found = await withTarget(target, (session) => print(session, args, options));
        if (found) throw new DifferencesFound();
      },
    );
  jsonOption(command);
}

function parseTypes(text: string): EntryType[] {
  return text.split(',').map((letter) => {
    if (Object.hasOwn(TYPES, letter)) return TYPES[letter]!;
    throw new InvalidArgumentError(`Types are letters with commas between: ${Object.keys(TYPES).join(',')}.`);
  });
}

/** Whether an argument that may be a state or a path is a state. "./@x" and "/@x" are paths. */
function namesState(text: string): boolean {
  return text.startsWith('@') || /^(lsn-.+|\d+)$/.test(text) || isTimeForm(text);
}

async function* diffPages(session: Session, first: JsonObject): AsyncGenerator<DiffPage> {
  for (let args = first; ; ) {
    const page = (await session.execute('diff', args)) as DiffPage;
    yield page;
    if (page.cursor === null) return;
    args = { cursor: page.cursor };
  }
}

/** Prints what there is. Returns whether there was anything. */
async function print(session: Session, args: JsonObject, options: Options): Promise<boolean> {
  let count = 0;
  let last: DiffPage | undefined;
  const isList = options.json && !options.stat;
  // A state that cannot be opened must not leave half of a list.
  for await (const page of diffPages(session, args)) {
    if (isList && last === undefined) await write('[');
    last = page;
    const { entries } = page;
    if (entries.length === 0) continue;
    if (isList) {
      const values = options.nameOnly ? entries.map(({ path }) => path) : entries;
      await write((count > 0 ? ',' : '') + visibleJson(values).slice(1, -1));
    } else if (options.patch) {
      for (const entry of entries) {
        await write(lineOf(entry, options));
        await write(await patchOf(session, page, entry));
      }
    } else if (!options.stat) {
      await write(entries.map((entry) => lineOf(entry, options)).join(''));
    }
    count += entries.length;
  }
  if (isList) await write(']\n');
  if (options.stat) await printStatistics(last!, options);
  return count > 0;
}

function lineOf(entry: DiffEntry, { nameOnly, scripted }: Options): string {
  const path = octalName(entry.path, scripted === true);
  if (nameOnly) return `${path}\n`;
  const from = octalName(entry.from ?? entry.path, scripted === true);
  const { kind, changes } = entry;
  const fields: string[] = [kind];
  if (scripted) {
    if (kind === 'R') fields.push(from);
    fields.push(path);
    if (changes.length > 0) fields.push(changes.join(','));
  } else {
    fields.push(kind === 'R' ? `${from} -> ${path}` : path);
    if (changes.length > 0) fields.push(`(${changes.join(', ')})`);
  }
  return `${fields.join('\t')}\n`;
}

async function printStatistics({ from, to, statistics }: DiffPage, options: Options): Promise<void> {
  if (options.json) return printJson({ from, to, ...statistics });
  const { added, removed, modified, renamed, pagesRead, milliseconds }: DiffStatistics = statistics;
  await write(
    options.scripted
      ? `${[added, removed, modified, renamed, pagesRead, milliseconds.toFixed(1)].join('\t')}\n`
      : `${added} added, ${removed} removed, ${modified} modified, ${renamed} renamed
from LSN ${from} to ${to}: ${pagesRead} pages read, ${milliseconds.toFixed(1)} ms
`,
  );
}
