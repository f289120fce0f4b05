/** lsnfs mount STORE DIR: mounts a store. lsnfs mount: lists the mounts. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { listMounts } from '../../fuse/mountinfo.ts';
import { parseDuration } from '../arguments.ts';
import { jsonOption } from '../command.ts';
import { UsageError } from '../failure.ts';
import { startDaemon } from '../mounting.ts';
import { formatTable, printJson, printLine, write } from '../output.ts';
import { logTo, type ServeOptions, serveMount } from '../serve.ts';
import { realPath } from '../target.ts';

interface Options {
  foreground?: boolean;
  readOnly?: boolean;
  allowOther?: boolean;
  nonempty?: boolean;
  snapdir: 'hidden' | 'visible';
  commitInterval?: number;
  plugins?: boolean;
  json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('mount')
    .description('Mount a store on a directory; without arguments, list the mounts.')
    .argument('[store]', 'the store')
    .argument('[dir]', 'an empty directory')
    .option('-f, --foreground', 'stay, and end with Ctrl-C; the log goes to standard error')
    .option('-r, --read-only', 'allow no changes')
    .option('--allow-other', 'let other users in, with the usual permissions')
    .option('--nonempty', 'mount over a directory that has entries, which are hidden meanwhile')
    .addOption(
      new Option('--snapdir <how>', 'whether ls of the root shows the snapshots')
        .choices(['hidden', 'visible'])
        .default('hidden'),
    )
    .option(
      '--commit-interval <time>',
      'how long what nobody synced may stay volatile, as 500ms, 1s or 2m',
      parseDuration,
    )
    .option('--plugins', 'load the modules that lsnfs.json of the store names: code that runs as you')
    .action(async (store: string | undefined, directory: string | undefined, options: Options) => {
      if (store === undefined) return printMounts(options);
      if (directory === undefined)
        throw new UsageError('mount needs a store and a directory; alone it lists the mounts');
      return mountStore(realPath(resolve(store)), resolve(directory), options);
    });
  jsonOption(command);
}

async function mountStore(storePath: string, mountpoint: string, options: Options): Promise<void> {
  const serve: ServeOptions = {
    storePath,
    mountpoint,
    readOnly: options.readOnly ?? false,
    allowOther: options.allowOther ?? false,
    nonEmpty: options.nonempty ?? false,
    snapdir: options.snapdir,
    allowPlugins: options.plugins === true,
    ...(options.commitInterval !== undefined && { commitIntervalMs: options.commitInterval }),
  };
  const announce = (pid: number) =>
    options.json
      ? printJson({ store: storePath, mountpoint, pid })
      : printLine(`Mounted ${storePath} on ${mountpoint} (process ${pid}).`);
  if (!options.foreground) return announce(await startDaemon(serve));
  const noNotice = () => {};
  await serveMount(serve, logTo(2), noNotice, () => void announce(process.pid));
}

async function printMounts(options: Options): Promise<void> {
  const mounts = listMounts();
  if (options.json) return printJson(mounts);
  if (mounts.length === 0) return printLine('Nothing is mounted.');
  return write(
    formatTable(
      [{ title: 'STORE' }, { title: 'MOUNTED ON' }],
      mounts.map(({ store, mountpoint }) => [store, mountpoint]),
    ),
  );
}
