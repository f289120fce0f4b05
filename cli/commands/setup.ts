/** lsnfs setup: puts in place what mount(8) and fstab need of lsnfs, which npm cannot. */
import { realpathSync, statSync } from 'node:fs';
import type { Command } from 'commander';
import { jsonOption } from '../command.ts';
import { type HelperChange, helperPath, helperScript, placeHelper, removeHelper } from '../helper-script.ts';
import { printJson, printLine } from '../output.ts';

interface Options {
  dryRun?: boolean;
  remove?: boolean;
  json?: boolean;
}

const SENTENCES: Record<HelperChange, string> = {
  placed: 'Placed PATH: mount(8) and /etc/fstab know the type fuse.lsnfs now.',
  replaced: 'Replaced PATH: mount(8) and /etc/fstab come to this lsnfs now.',
  unchanged: 'PATH is in place already.',
  removed: 'Removed PATH.',
  absent: 'There is no PATH.',
};
const WOULD: Partial<Record<HelperChange, string>> = {
  placed: 'Would place PATH.',
  replaced: 'Would replace PATH.',
  removed: 'Would remove PATH.',
};

export function register(program: Command): void {
  const command = program
    .command('setup')
    .description('Let mount -t fuse.lsnfs and /etc/fstab find lsnfs: places a script in /sbin.')
    .option('--dry-run', 'only say what would be done')
    .option('--remove', 'take the script away')
    .action((options: Options) => setUp(options));
  jsonOption(command);
}

async function setUp(options: Options): Promise<void> {
  const dryRun = options.dryRun === true;
  const command = realpathSync(process.argv[1]!);
  const change = options.remove
    ? removeHelper({ dryRun })
    : placeHelper(helperScript(process.execPath, command), { dryRun });
  if (!options.remove) warnOfOthers([process.execPath, command]);
  const path = helperPath();
  if (options.json) return printJson({ path, change, dryRun });
  const sentence = (dryRun && WOULD[change]) || SENTENCES[change];
  return printLine(sentence.replace('PATH', path));
}

/** What root will run at every mount should be root's. */
function warnOfOthers(paths: readonly string[]): void {
  for (const path of paths) {
    const { uid, mode } = statSync(path);
    if (uid === 0 && (mode & 0o022) === 0) continue;
    process.stderr.write(
      `lsnfs: ${path} can be changed by other users than root, who would run as root when root mounts; better install lsnfs as root, outside of home directories\n`,
    );
  }
}
