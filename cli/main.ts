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
import { EXIT } from './exit-codes.ts';
import { reportFailure } from './failure.ts';
import { endQuietlyWhenUnread } from './output.ts';

/** Loaded when they are asked for: most of a short command's time is loading code. */
const COMMANDS: Readonly<Record<string, () => Promise<{ register(program: Command): void }>>> = {
  init: () => import('./commands/init.ts'),
  mount: () => import('./commands/mount.ts'),
  unmount: () => import('./commands/unmount.ts'),
  commit: () => import('./commands/commit.ts'),
  snapshot: () => import('./commands/snapshot.ts'),
  status: () => import('./commands/status.ts'),
  ls: () => import('./commands/ls.ts'),
  cat: () => import('./commands/cat.ts'),
  diff: () => import('./commands/diff.ts'),
  log: () => import('./commands/log.ts'),
  show: () => import('./commands/show.ts'),
  export: () => import('./commands/export.ts'),
  import: () => import('./commands/import.ts'),
  restore: () => import('./commands/restore.ts'),
  check: () => import('./commands/check.ts'),
  scrub: () => import('./commands/scrub.ts'),
  config: () => import('./commands/config.ts'),
  retention: () => import('./commands/retention.ts'),
  range: () => import('./commands/range.ts'),
  gc: () => import('./commands/gc.ts'),
  compact: () => import('./commands/compact.ts'),
  waldump: () => import('./commands/waldump.ts'),
  controldata: () => import('./commands/controldata.ts'),
  setup: () => import('./commands/setup.ts'),
};

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

/** The program with the command that the first argument names, or with all of them. */
async function buildProgram(first: string): Promise<Command> {
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
  const known = Object.hasOwn(COMMANDS, first) ? [COMMANDS[first]!] : Object.values(COMMANDS);
  for (const command of await Promise.all(known.map((load) => load()))) command.register(program);
  return program;
}

async function run(): Promise<number> {
  try {
    const words = losslessArguments(process.argv.slice(2));
    const program = await buildProgram(words[0] ?? '');
    await program.parseAsync(words, { from: 'user' });
    return EXIT.done;
  } catch (error) {
    // Commander has said what is wrong with the command line already; help that was asked for is no failure.
    if (error instanceof CommanderError) return error.exitCode === 0 ? EXIT.done : EXIT.usage;
    return reportFailure(error);
  }
}

endQuietlyWhenUnread();
process.exitCode = await run();
