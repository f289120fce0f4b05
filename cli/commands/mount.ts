/** lsnfs mount STORE DIR: mounts a store. lsnfs mount: lists the mounts. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { listMounts } from '../../fuse/mountinfo.ts';
import { parseDuration } from '../arguments.ts';
import { jsonOption } from '../command.ts';
import { UsageError } from '../failure.ts';
import { BINDINGS, type Binding, parseGroup, parseMountOptions, parseUser } from '../mount-options.ts';
import { startDaemon } from '../mounting.ts';
import { formatTable, printJson, printLine, write } from '../output.ts';
import { logTo, type ServeOptions, serveMount } from '../serve.ts';
import { realPath } from '../target.ts';

interface Options {
  foreground?: boolean;
  readOnly?: boolean;
  allowOther?: boolean;
  nonempty?: boolean;
  snapdir?: 'hidden' | 'visible';
  commitInterval?: number;
  uid?: number;
  gid?: number;
  binding?: Binding;
  plugins?: boolean;
  options: string[];
  sloppy?: boolean;
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
      new Option('--snapdir <how>', 'whether ls of the root shows the snapshots (default: "hidden")').choices(
        ['hidden', 'visible'],
      ),
    )
    .option(
      '--commit-interval <time>',
      'how long what nobody synced may stay volatile, as 500ms, 1s or 2m',
      parseDuration,
    )
    .addOption(
      new Option(
        '--binding <name>',
        'how the mount is served: "kernel" needs no native code, "fuse-native" is libfuse 2 (default: "kernel")',
      ).choices(BINDINGS),
    )
    .option('--uid <user>', "show all files as this user's, whoever owns them in the store", parseUser)
    .option('--gid <group>', "show all files as this group's", parseGroup)
    .option(
      '-o, --options <list>',
      'options in the manner of mount(8): ro, noexec, allow_other, uid=1000, …',
      (list: string, before: string[]) => [...before, list],
      [],
    )
    .option('--sloppy', 'pass over options of -o that are not known')
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
  const serve = serveOptions(storePath, mountpoint, options);
  const announce = (pid: number) =>
    options.json
      ? printJson({ store: storePath, mountpoint, pid })
      : printLine(`Mounted ${storePath} on ${mountpoint} (process ${pid}).`);
  if (!options.foreground) return announce(await startDaemon(serve));
  const noNotice = () => {};
  await serveMount(serve, logTo(2), noNotice, () => void announce(process.pid));
}

/** What is said by an option of its own counts more than the same in -o. */
function serveOptions(storePath: string, mountpoint: string, options: Options): ServeOptions {
  const listed = parseMountOptions(options.options, options.sloppy === true);
  const commitIntervalMs = options.commitInterval ?? listed.commitIntervalMs;
  const uid = options.uid ?? listed.uid;
  const gid = options.gid ?? listed.gid;
  return {
    storePath,
    mountpoint,
    readOnly: options.readOnly ?? listed.readOnly ?? false,
    allowOther: options.allowOther ?? listed.allowOther ?? false,
    nonEmpty: options.nonempty ?? listed.nonEmpty ?? false,
    snapdir: options.snapdir ?? listed.snapdir ?? 'hidden',
    binding: options.binding ?? listed.binding ?? 'kernel',
    allowPlugins: options.plugins ?? listed.plugins ?? false,
    flags: listed.flags,
    shownOwner: { ...(uid !== undefined && { uid }), ...(gid !== undefined && { gid }) },
    ...(commitIntervalMs !== undefined && { commitIntervalMs }),
    ...(listed.atime !== undefined && { atime: listed.atime }),
  };
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
