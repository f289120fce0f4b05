/** lsnfs log TARGET [PATH]: what happened, newest first. */
import type { Command } from 'commander';
import { InvalidArgumentError } from 'commander';
import type { LogEntry, PathLogEntry, StoreState, TransactionLogEntry } from '../../src/index.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import type { LogPage } from '../../src/plugin/operations.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatBytes, printLine, write } from '../output.ts';
import { type Session, withTarget } from '../target.ts';
import { octalName, visible, visibleJson } from '../text.ts';
import { countOf } from '../verifying.ts';

/** Changes of one transaction that are shown to people. */
const CHANGES_SHOWN = 10;

interface Options {
  readonly since?: string;
  readonly until?: string;
  readonly limit?: number;
  readonly transactions?: boolean;
  readonly follow?: boolean;
  readonly json?: boolean;
}

const WHEN = 'a time ("10 minutes ago", 2026-11-22T101500Z) or a state (@NAME, @lsn-N)';

export function register(program: Command): void {
  const command = program
    .command('log')
    .description('Show what happened, newest first: to the store, or to what is at a path.')
    .argument('<target>', TARGET_HELP)
    .argument('[path]', 'show each state of what is at this path')
    .option('--since <when>', `only what happened from then on: ${WHEN}`)
    .option('--until <when>', 'only what happened until then')
    .option('-n, --limit <count>', 'show so many at most', parseCount)
    .option('-t, --transactions', 'show every transaction of the window, and what it did')
    .option('--follow', "show the history before a rename, under the path's name of that time")
    .action(async (target: string, path: string | undefined, options: Options) => {
      if (path !== undefined && options.transactions)
        throw new UsageError('--transactions shows those of the whole store: leave out the path');
      if (path === undefined && options.follow) throw new UsageError('--follow needs a path');
      const { since, until, limit, transactions, follow } = options;
      const args: JsonObject = {
        ...(path !== undefined && { path }),
        ...(since !== undefined && { since }),
        ...(until !== undefined && { until }),
        ...(limit !== undefined && { limit }),
        ...(transactions && { transactions }),
        ...(follow && { follow }),
      };
      await withTarget(target, (session) => print(session, args, options.json === true));
    });
  jsonOption(command);
}

function parseCount(text: string): number {
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is a whole number from 0 on.');
}

async function* logPages(session: Session, first: JsonObject): AsyncGenerator<LogPage> {
  for (let args = first; ; ) {
    const page = (await session.execute('log', args)) as LogPage;
    yield page;
    if (page.cursor === null) return;
    args = { cursor: page.cursor };
  }
}

async function print(session: Session, args: JsonObject, isJson: boolean): Promise<void> {
  const format =
    args.path !== undefined
      ? new PathLines()
      : args.transactions === true
        ? new TransactionLines()
        : new StateLines();
  let count = 0;
  let isBegun = false;
  // A path that never was must not leave half of a list.
  for await (const { entries } of logPages(session, args)) {
    if (isJson && !isBegun && entries.length > 0) await write('[');
    isBegun ||= entries.length > 0;
    for (const entry of entries) {
      if (isJson) await write((count > 0 ? ',\n' : '') + visibleJson(entry));
      else await write((count === 0 ? format.head(entry) : '') + format.line(entry));
      count++;
    }
  }
  if (isJson) await write(isBegun ? ']\n' : '[]\n');
  else if (count === 0) await printLine('Nothing happened in that time.');
}

/** Lines for people. LSNs never get longer: they come newest first. */
abstract class Lines {
  private lsnWidth = 3;

  /** The titles of the columns; `first` is the first entry. */
  head(first: LogEntry): string {
    this.lsnWidth = Math.max(3, String(first.lsn).length);
    return `${'LSN'.padStart(this.lsnWidth)}  ${'TIME (UTC)'.padEnd(23)}  ${this.titles()}\n`;
  }

  /** Where and when it was, and what. */
  protected moment({ lsn, time }: { lsn: number; time: string }): string {
    return `${String(lsn).padStart(this.lsnWidth)}  ${time.slice(0, 23).replace('T', ' ')}`;
  }

  protected abstract titles(): string;
  abstract line(entry: LogEntry): string;
}

class StateLines extends Lines {
  protected titles(): string {
    return `${'WHAT'.padEnd(8)}  NAME, AND WHY IT IS KEPT`;
  }

  override line(entry: LogEntry): string {
    const { kind, names, reasons } = entry as StoreState;
    const texts = names.map(({ name, message, holds }) => {
      const held = holds === undefined ? '' : ` (held by ${holds.map(visible).join(', ')})`;
      return `${visible(name)}${message === undefined ? '' : `: ${visible(message)}`}${held}`;
    });
    // That a snapshot is kept for its name goes without saying.
    const own = new Set(names.map(({ name }) => `snapshot ${name}`));
    const others = reasons.filter((reason) => !own.has(reason)).map(visible);
    if (others.length > 0) texts.push(`[${others.join(', ')}]`);
    return `${this.moment(entry)}  ${kind.padEnd(8)}  ${texts.join('  ')}`.trimEnd().concat('\n');
  }
}

class PathLines extends Lines {
  private path: string | undefined;

  protected titles(): string {
    return `${'SIZE'.padStart(10)}  WHAT HAPPENED`;
  }

  override line(entry: LogEntry): string {
    const told = entry as PathLogEntry;
    const { size, path, exact, after, kind } = told;
    const sizeText = size === null ? '-' : formatBytes(size);
    const before = this.path !== undefined && this.path !== path ? `(as ${octalName(path, false)}) ` : '';
    this.path = path;
    const when = exact || kind === 'existed' ? '' : `, some time after LSN ${after}`;
    return `${this.moment(entry)}  ${sizeText.padStart(10)}  ${before}${whatHappened(told)}${when}${byWhom(told)}\n`;
  }
}

function whatHappened({ kind, changes, type, from, to }: PathLogEntry): string {
  switch (kind) {
    case 'created':
      return `created (${type})`;
    case 'removed':
      return 'removed';
    case 'modified':
      return `modified (${changes.join(', ')})`;
    case 'replaced':
      return `replaced by another ${type}`;
    case 'renamed':
      return from === undefined
        ? `renamed to ${octalName(to!, false)}`
        : `renamed from ${octalName(from, false)}`;
    case 'linked':
      return `linked to ${octalName(from!, false)}`;
    case 'existed':
      return `was there (${type}); no older state is kept`;
  }
}

function byWhom({ origin }: { readonly origin?: { uid: number; pid: number } }): string {
  return origin === undefined ? '' : ` by uid ${origin.uid}, process ${origin.pid}`;
}

class TransactionLines extends Lines {
  protected titles(): string {
    return 'WHAT IT DID';
  }

  override line(entry: LogEntry): string {
    const told = entry as TransactionLogEntry;
    const { entries, kind } = told;
    const head = `${this.moment(entry)}  ${kind === 'change' ? summary(told) : ownText(told)}${byWhom(told)}\n`;
    const shown = entries.slice(0, CHANGES_SHOWN).map(({ kind: mark, path, from, changes }) => {
      const name = octalName(path, false);
      const text = from === undefined ? name : `${octalName(from, false)} -> ${name}`;
      return `    ${mark} ${text}${changes.length > 0 ? ` (${changes.join(', ')})` : ''}\n`;
    });
    const more = told.added + told.removed + told.renamed + told.modified - shown.length;
    if (more > 0 && entries.length > CHANGES_SHOWN) shown.push(`    … and ${countOf(more, 'more change')}\n`);
    return head + shown.join('');
  }
}

function summary({ added, removed, renamed, modified, bytesWritten, records }: TransactionLogEntry): string {
  const counts = [
    [added, 'added'],
    [removed, 'removed'],
    [renamed, 'renamed'],
    [modified, 'modified'],
  ] as const;
  const parts = counts.filter(([count]) => count > 0).map(([count, what]) => `${count} ${what}`);
  if (bytesWritten > 0) parts.push(`${formatBytes(bytesWritten)} written`);
  if (parts.length > 0) return parts.join(', ');
  const takesAway = (records.DELETE ?? 0) > 0 && records.PUT === undefined;
  return takesAway ? 'a removed file was cleared away' : 'times only';
}

function ownText({ kind, name, message }: TransactionLogEntry): string {
  const named = name === undefined ? '' : ` ${visible(name)}`;
  const said = message === undefined ? '' : `: ${visible(message)}`;
  if (kind === 'snapshot-delete') return `snapshot${named} deleted`;
  if (kind === 'registry') return 'a snapshot was renamed, held or released';
  return `${kind}${named}${said}`;
}
