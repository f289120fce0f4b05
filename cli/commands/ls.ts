/** lsnfs ls TARGET [PATH]: lists a directory of the live state or, below @…, of a past one. */
import type { Command } from 'commander';
import type { ListEntry } from '../../src/plugin/operations.ts';
import { bytesOfText } from '../../src/plugin/text.ts';
import type { EntryType } from '../../src/plugin/view.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { formatTime, write } from '../output.ts';
import { listPages, withTarget } from '../target.ts';
import { visibleJson } from '../text.ts';

interface Options {
  long?: boolean;
  all?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('ls')
    .description('List a directory, or show one file, of the live state or of a past one.')
    .argument('<target>', TARGET_HELP)
    .argument('[path]', 'a path in the store; it may begin with @NAME, @lsn-N, @TIME or @latest', '/')
    .option('-l, --long', 'type, mode, links, owner, size and time')
    .option('-a, --all', 'names that begin with a dot, too')
    .action(async (target: string, path: string, options: Options) => {
      await withTarget(target, async (session) => {
        let first = true;
        if (options.json) await write('[');
        for await (const page of listPages(session, path, !options.long && !options.json)) {
          const entries = page.entries.filter(
            (entry) => options.all || !page.directory || !entry.name.startsWith('.'),
          );
          if (entries.length === 0) continue;
          if (options.json) await write((first ? '' : ',') + visibleJson(entries).slice(1, -1));
          else await write(options.long ? formatLong(entries) : formatShort(entries));
          first = false;
        }
        if (options.json) await write(']\n');
      });
    });
  jsonOption(command);
}

/** A name as its bytes; on a terminal, what could steer it is escaped. */
function displayName(name: string): Buffer {
  if (!process.stdout.isTTY) return bytesOfText(name);
  return Buffer.from(name.replace(/[\p{Cc}\p{Surrogate}]/gu, escapeCharacter), 'utf8');
}

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  // A lone surrogate stands for the byte in its low part (text.ts).
  return `\\x${(code & 0xff).toString(16).padStart(2, '0')}`;
}

function formatShort(entries: readonly ListEntry[]): Buffer {
  const newline = Buffer.from('\n');
  return Buffer.concat(entries.flatMap((entry) => [displayName(entry.name), newline]));
}

const TYPE_LETTERS: Record<EntryType, string> = {
  file: '-',
  directory: 'd',
  symlink: 'l',
  fifo: 'p',
  socket: 's',
  'character-device': 'c',
  'block-device': 'b',
};

/** "drwxr-sr-t" */
function formatMode(type: EntryType, mode: number): string {
  const triple = (bits: number, special: boolean, letter: string) => {
    const execute = (bits & 1) !== 0;
    const last = special ? (execute ? letter : letter.toUpperCase()) : execute ? 'x' : '-';
    return `${bits & 4 ? 'r' : '-'}${bits & 2 ? 'w' : '-'}${last}`;
  };
  const user = triple((mode >> 6) & 7, (mode & 0o4000) !== 0, 's');
  const group = triple((mode >> 3) & 7, (mode & 0o2000) !== 0, 's');
  const other = triple(mode & 7, (mode & 0o1000) !== 0, 't');
  return `${TYPE_LETTERS[type]}${user}${group}${other}`;
}

/** Columns are aligned within a page of entries: a directory may be longer than memory. */
function formatLong(entries: readonly ListEntry[]): Buffer {
  const rows = entries.map((entry) => ({
    mode: formatMode(entry.type, entry.mode),
    links: String(entry.links),
    owner: `${entry.uid}:${entry.gid}`,
    size: entry.device === undefined ? String(entry.size) : `${entry.device.major}, ${entry.device.minor}`,
    time: formatTime(entry.modifiedAt),
    entry,
  }));
  const width = (pick: (row: (typeof rows)[number]) => string) =>
    rows.reduce((most, row) => Math.max(most, pick(row).length), 0);
  const linksWidth = width((row) => row.links);
  const ownerWidth = width((row) => row.owner);
  const sizeWidth = width((row) => row.size);
  return Buffer.concat(
    rows.flatMap((row) => {
      const facts = [
        row.mode,
        row.links.padStart(linksWidth),
        row.owner.padEnd(ownerWidth),
        row.size.padStart(sizeWidth),
        row.time,
      ];
      const { name, target } = row.entry;
      const arrow = target === undefined ? [] : [Buffer.from(' -> '), displayName(target)];
      return [Buffer.from(`${facts.join(' ')} `), displayName(name), ...arrow, Buffer.from('\n')];
    }),
  );
}
