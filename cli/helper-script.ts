/**
 * The program that mount(8) calls for "mount -t fuse.lsnfs" and for lines of fstab(5): a small script in /sbin that
 * calls this lsnfs. mount(8) looks for it nowhere else, so that npm cannot place it as it places commands.
 */
import {
  chmodSync,
  closeSync,
  fsyncSync,
  openSync,
  readFileSync,
  renameSync,
  rmSync,
  unlinkSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';

/** Where mount(8) looks. */
export const HELPER_DIRECTORY = '/sbin';
export const HELPER_NAME = 'mount.fuse.lsnfs';
/** The second line of every script of ours: it tells them from others. */
const MARK = '# Made by "lsnfs setup", which replaces it, and takes it away with --remove.';

/** A word for the script's language, whatever is in it. */
function quoted(word: string): string {
  return `'${word.replaceAll("'", `'\\''`)}'`;
}

/**
 * The script. Exit statuses are those of mount(8): 1 for wrong usage, 32 when the mount failed.
 * `node` and `command` are absolute paths of Node and of the command line's entry.
 */
export function helperScript(node: string, command: string): string {
  return `#!/bin/sh
${MARK}
# mount(8) calls it: ${HELPER_NAME} STORE DIR [-fnsv] [-o OPTIONS] [-t TYPE]
node=${quoted(node)}
command=${quoted(command)}
if [ ! -x "$node" ] || [ ! -e "$command" ]; then
  echo "${HELPER_NAME}: lsnfs is not at $command any more: install it again and run 'lsnfs setup', or remove $0" >&2
  exit 32
fi
if [ $# -lt 2 ]; then
  echo "usage: ${HELPER_NAME} STORE DIR [-fnsv] [-o OPTIONS]" >&2
  exit 1
fi
store=$1 directory=$2 options= sloppy= verbose=
shift 2
while getopts fnsvo:t: option; do
  case $option in
    f) exit 0 ;;
    o) options=$options,$OPTARG ;;
    s) sloppy=--sloppy ;;
    v) verbose=1 ;;
    n | t) ;;
    *) exit 1 ;;
  esac
done
[ -n "$verbose" ] || exec > /dev/null
"$node" "$command" mount $sloppy --options "$options" -- "$store" "$directory"
case $? in
  0) exit 0 ;;
  2) exit 1 ;;
  *) exit 32 ;;
esac
`;
}

/** What is in place of the helper: a script's text, or undefined for nothing. @throws LsnfsError IO */
function present(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if (systemErrorCode(error) === 'ENOENT') return undefined;
    throw cannot('read', path, error);
  }
}

function cannot(what: string, path: string, error: unknown): LsnfsError {
  const code = systemErrorCode(error);
  if (code === undefined) throw error;
  if (code === 'EACCES' || code === 'EPERM')
    return new LsnfsError('EACCES', `only root may ${what} ${path}: run "sudo lsnfs setup"`, { path });
  return new LsnfsError('IO', `cannot ${what} ${path}: ${(error as Error).message}`, { path });
}

function refuseOthers(path: string, text: string): void {
  if (text.split('\n', 2)[1] === MARK) return;
  throw new LsnfsError(
    'EEXIST',
    `${path} is not of lsnfs: it is left as it is; remove it first if it is not needed`,
    {
      path,
    },
  );
}

export type HelperChange = 'placed' | 'replaced' | 'unchanged' | 'removed' | 'absent';

export interface HelperOptions {
  /** Default: HELPER_DIRECTORY. */
  readonly directory?: string;
  /** Only says what would be done. */
  readonly dryRun: boolean;
}

/**
 * Puts the script in place, unless the same one is there. Returns what was, or would be, done.
 * @throws LsnfsError EEXIST when something of somebody else is there, EACCES, IO
 */
export function placeHelper(script: string, options: HelperOptions): HelperChange {
  const path = helperPath(options);
  const old = present(path);
  if (old === script) return 'unchanged';
  if (old !== undefined) refuseOthers(path, old);
  const change = old === undefined ? 'placed' : 'replaced';
  if (options.dryRun) return change;
  const temporary = `${path}.${process.pid}`;
  try {
    writeWhole(temporary, script);
    renameSync(temporary, path);
  } catch (error) {
    rmSync(temporary, { force: true });
    throw cannot('write', path, error);
  }
  return change;
}

/** Takes the script away. @throws LsnfsError EEXIST when it is of somebody else, EACCES, IO */
export function removeHelper(options: HelperOptions): HelperChange {
  const path = helperPath(options);
  const old = present(path);
  if (old === undefined) return 'absent';
  refuseOthers(path, old);
  if (options.dryRun) return 'removed';
  try {
    unlinkSync(path);
  } catch (error) {
    throw cannot('remove', path, error);
  }
  return 'removed';
}

export function helperPath({ directory = HELPER_DIRECTORY }: Partial<HelperOptions> = {}): string {
  return join(directory, HELPER_NAME);
}

function writeWhole(path: string, text: string): void {
  const descriptor = openSync(path, 'wx', 0o755);
  try {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  } finally {
    closeSync(descriptor);
  }
  // Whatever the umask: every user may mount.
  chmodSync(path, 0o755);
}
