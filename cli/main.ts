#!/usr/bin/env node
/**
 * The command line. One file a command in commands/, each of which registers itself: to add one, write it and name
 * it in COMMANDS.
 *
 * A command throws; here it becomes one sentence and an exit status. The process then ends by itself, when all
 * output has been taken, and never by force.
 */
import { readFileSync } from 'node:fs';
import { Command, CommanderError } from 'commander';
import { losslessArguments } from './arguments.ts';
import * as cat from './commands/cat.ts';
import * as check from './commands/check.ts';
import * as commit from './commands/commit.ts';
import * as config from './commands/config.ts';
import * as controldata from './commands/controldata.ts';
import * as diff from './commands/diff.ts';
import * as exportCommand from './commands/export.ts';
import * as gc from './commands/gc.ts';
import * as importCommand from './commands/import.ts';
import * as init from './commands/init.ts';
import * as ls from './commands/ls.ts';
import * as mount from './commands/mount.ts';
import * as range from './commands/range.ts';
import * as retention from './commands/retention.ts';
import * as scrub from './commands/scrub.ts';
import * as setup from './commands/setup.ts';
import * as snapshot from './commands/snapshot.ts';
import * as status from './commands/status.ts';
import * as unmount from './commands/unmount.ts';
import * as waldump from './commands/waldump.ts';
import { EXIT } from './exit-codes.ts';
import { reportFailure } from './failure.ts';
import { endQuietlyWhenUnread } from './output.ts';

const COMMANDS: readonly { register(program: Command): void }[] = [
  init,
  mount,
  unmount,
  commit,
  snapshot,
  status,
  ls,
  cat,
  diff,
  exportCommand,
  importCommand,
  check,
  scrub,
  config,
  retention,
  range,
  gc,
  waldump,
  controldata,
  setup,
];

/** The version in the nearest package.json above this file, compiled or not. */
function packageVersion(): string {
  for (const up of ['..', '../..']) {
    const file = new URL(`${up}/package.json`, import.meta.url);
    try {
      return String((JSON.parse(readFileSync(file, 'utf8')) as { version?: unknown }).version);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  return 'unknown';
}

function buildProgram(): Command {
  const program = new Command('lsnfs')
    .description(
      'A database of files that remembers: mount it, and read every committed moment under /@lsn-N.',
    )
    .version(packageVersion())
    .exitOverride()
    .showSuggestionAfterError()
    .configureOutput({
      outputError: (text, writeError) => {
        const sentence = text
          .replace(/^error: /, '')
          .trimEnd()
          .replaceAll('\n', ' ');
        writeError(`lsnfs: ${sentence}; 'lsnfs help' shows what there is\n`);
      },
    });
  for (const command of COMMANDS) command.register(program);
  return program;
}

async function run(): Promise<number> {
  const program = buildProgram();
  try {
    await program.parseAsync(losslessArguments(process.argv.slice(2)), { from: 'user' });
    return EXIT.done;
  } catch (error) {
    // Commander has said what is wrong with the command line already; help that was asked for is no failure.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    return reportFailure(error);
  }
}

endQuietlyWhenUnread();
process.exitCode = await run();
