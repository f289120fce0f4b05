/**
 * lsnfs restore TARGET (--to-lsn N | --to-time T | --to-name NAME): makes the live files what they were.
 *
 * Nothing is destroyed: what the files were before gets a name, and restoring that undoes it.
 */
import type { Command } from 'commander';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import type { RestoreResult } from '../../src/plugin/restoration.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatTime, printJson, write } from '../output.ts';
import { withTarget } from '../target.ts';
import { shellWord, visible } from '../text.ts';

interface Options {
  readonly toLsn?: string;
  readonly toTime?: string;
  readonly toName?: string;
  readonly exclusive?: boolean;
  readonly path?: string[];
  readonly dryRun?: boolean;
  readonly json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('restore')
    .description('Make the files, all or at some paths, what they were; the state before gets a name.')
    .argument('<target>', TARGET_HELP)
    .option('--to-lsn <lsn>', 'the state at an LSN')
    .option('--to-time <time>', 'the state at a time: 2026-11-22T10:15:00Z, or "10 minutes ago"')
    .option('--to-name <name>', 'the state of a snapshot')
    .option('--exclusive', 'the state just before the target')
    .option('--path <path>', 'only what is at or below this path; may be given again', collect)
    .option('-n, --dry-run', 'only say what would change')
    .action(async (target: string, options: Options) => {
      const args = argumentsOf(options);
      const result = (await withTarget(target, (session) =>
        session.execute('restore', args),
      )) as RestoreResult;
      if (options.json) await printJson(result);
      else await write(formatResult(target, result));
    });
  jsonOption(command);
}

function collect(path: string, paths: string[] = []): string[] {
  return [...paths, path];
}

function argumentsOf({ toLsn, toTime, toName, exclusive, path, dryRun }: Options): JsonObject {
  const given = [toLsn, toTime, toName].filter((target) => target !== undefined).length;
  if (given !== 1) {
    throw new UsageError('say with exactly one of --to-lsn, --to-time and --to-name what is to be restored');
  }
  return {
    ...(toLsn !== undefined && { lsn: toLsn.replace(/^@?lsn-/, '') }),
    ...(toTime !== undefined && { time: toTime.replace(/^@/, '') }),
    ...(toName !== undefined && { name: toName.replace(/^@/, '') }),
    ...(path !== undefined && { paths: path }),
    exclusive: exclusive === true,
    dryRun: dryRun === true,
  };
}

function formatResult(target: string, result: RestoreResult): string {
  const { to, paths, before, changes, applied, lsn } = result;
  const what = paths.length === 0 ? 'Everything' : paths.join(', ');
  const state = `LSN ${to.lsn}, ${formatTime(to.time)}`;
  const lines: string[] = [];
  if (before === null) lines.push(`${what} is what it was at ${state}: nothing to restore.`);
  else if (applied) {
    lines.push(`${what} is again what it was at ${state}.`);
    lines.push(`The state before is the snapshot ${before.name}; the present one begins at LSN ${lsn}.`);
    lines.push(`To undo it: lsnfs restore ${shellWord(target)} --to-name ${shellWord(before.name)}`);
  } else {
    lines.push(`${what} would be again what it was at ${state}.`);
    if (changes !== null) {
      const { added, removed, modified, renamed } = changes;
      lines.push(
        `That would add ${added}, remove ${removed}, modify ${modified} and rename ${renamed}; "lsnfs diff" lists them.`,
      );
    }
    lines.push(`The state before would be the snapshot ${before.name}.`);
  }
  return lines.map((text) => `${visible(text)}\n`).join('');
}
