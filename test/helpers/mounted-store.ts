/**
 * A store of its own for a test, mounted by the real daemon through the command line.
 *
 * Two promises. At the end of every test the whole store is verified: it is opened, each page of each version is
 * read, the live file system and every snapshot are checked, and the daemon's log must hold no stack trace. And
 * nothing is left behind, whatever happens: a guardian process waits at the end of a pipe that this process holds.
 * When the pipe closes, because the test ended or because AVA did, it kills the daemon, unmounts and removes the files.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import {
  closeSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readFileSync,
  realpathSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { initialize, open } from '../../src/index.ts';
import { connectToStore } from '../../src/plugin/control-client.ts';
import type { JsonObject } from '../../src/plugin/control-protocol.ts';
import { checkStore } from '../../src/store/check.ts';
import type { Settings } from '../../src/store/settings.ts';
import type { StateReader } from '../../src/store/state.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { COMMAND, lsnfs, type Outcome, runProgram } from './command-line.ts';
import { LIMIT_MS } from './waiting.ts';

/** A python program that is beside the tests' sources; the compiler does not copy it. */
export function scriptPath(name: string): string {
  const fromHere = import.meta.url.endsWith('.ts') ? `../mount/${name}` : `../../../test/mount/${name}`;
  return new URL(fromHere, import.meta.url).pathname;
}

/**
 * Reads process ids of daemons, one a line; at the end of the input it ends the last, and what is left of the test's
 * programs (they work below its directory, or were told of it), unmounts and removes.
 */
const GUARDIAN = `
base=$1 pid=
while read -r line; do pid=$line; done
# A disk that a test has frozen: whoever waits for it could not be ended.
awk -v base="$base/" 'index($5, base) == 1 && / - ext4 / { print $5 }' /proc/self/mountinfo | while read -r disk; do fsfreeze -u "$disk"; done
# First, so that no program waits for an answer any more.
if [ -n "$pid" ] && grep -qsF -- "$base" "/proc/$pid/cmdline"; then kill -KILL "$pid"; fi
programs() {
  for process in /proc/[0-9]*; do
    case $(readlink "$process/cwd") in
      "$base" | "$base"/*) echo "\${process#/proc/}" ;;
      *) if grep -qsF -- "$base/" "$process/cmdline"; then echo "\${process#/proc/}"; fi ;;
    esac
  done
}
# Asked to, a database removes its shared memory.
kill -INT $(programs)
for _ in 1 2 3 4 5 6 7 8 9 10; do [ -z "$(programs)" ] && break; sleep 0.1; done
kill -KILL $(programs)
for _ in 1 2 3 4 5 6 7 8; do
  mounts=$(awk -v base="$base/" 'index($5, base) == 1 { print $5 }' /proc/self/mountinfo)
  [ -n "$mounts" ] || break
  for mount in $mounts; do umount -l -- "$mount"; done
done
# Programs of the test may be ending still, and making files.
for _ in 1 2 3 4 5 6 7 8 9; do
  rm -rf --one-file-system -- "$base" && break
  sleep 0.5
done
`;

export interface MountedStoreOptions {
  /** What lsnfs.json says before the first mount. */
  readonly settings?: Partial<Settings>;
  /** Bytes of a log segment. */
  readonly segmentSize?: number;
  /** Prepares the file system that the store is to lie on, before it is made; `base/disk` is its directory. */
  readonly prepareDisk?: string;
  /** Of all its mounts. Default: the command's own. */
  readonly binding?: 'kernel' | 'fuse-native';
}

/** Who runs a test: AVA, or a script of its own. */
export interface Owner {
  teardown(work: () => unknown): void;
}

export interface ForegroundMount {
  /** Whether the mount answers; false when the process has ended before. */
  readonly ready: Promise<boolean>;
  /** Its exit code; null after a signal. */
  readonly exited: Promise<number | null>;
}

export class MountedStore {
  /** A directory of the test's own, outside the mount. */
  readonly base: string;
  readonly store: string;
  readonly mountpoint: string;
  /** The daemon's process id, 0 when none runs. */
  pid = 0;
  /** What the verification at the end is to overlook; for tests that damage the store. */
  readonly expectedProblems: RegExp[] = [];
  /** What the log may hold beside the usual. */
  expectsStackTraces = false;
  private readonly guardian: ChildProcess;
  /** Options of every mount. */
  private mountOptions: readonly string[] = [];

  /** A mounted store that is verified and removed at the end of the test. */
  static async create(t: Owner, options: MountedStoreOptions = {}): Promise<MountedStore> {
    const mounted = await MountedStore.createUnmounted(t, options);
    await mounted.mount();
    return mounted;
  }

  /** The same, not mounted yet. */
  static async createUnmounted(t: Owner, options: MountedStoreOptions = {}): Promise<MountedStore> {
    const mounted = new MountedStore();
    if (options.binding !== undefined) mounted.mountOptions = ['--binding', options.binding];
    t.teardown(() => mounted.cleanUp());
    // Teardowns run in reverse: verified before it is removed, also when the test failed.
    t.teardown(async () => {
      const problems = await mounted.problems();
      if (problems.length > 0) throw new Error(`the store is not sound:\n${problems.join('\n')}`);
    });
    if (options.prepareDisk !== undefined) await mounted.shell(options.prepareDisk, mounted.disk);
    const { segmentSize } = options;
    await initialize(mounted.store, segmentSize === undefined ? {} : { segmentSize });
    if (options.settings !== undefined) mounted.configure(options.settings);
    return mounted;
  }

  private constructor() {
    this.base = mkdtempSync(join(realpathSync(tmpdir()), 'lsnfs-programs-'));
    this.guardian = spawn('bash', ['-c', GUARDIAN, 'guardian', this.base], {
      detached: true,
      stdio: ['pipe', 'ignore', 'ignore'],
      cwd: '/',
    });
    this.guardian.stdin!.on('error', () => {});
    mkdirSync(this.disk);
    this.store = join(this.disk, 'store');
    this.mountpoint = join(this.base, 'mnt');
    mkdirSync(this.mountpoint);
  }

  /** The directory that holds the store. */
  get disk(): string {
    return join(this.base, 'disk');
  }

  /** What lsnfs.json says from the next mount on. */
  configure(settings: Partial<Settings>): void {
    writeFileSync(join(this.store, 'lsnfs.json'), `${JSON.stringify(settings)}\n`);
  }

  /** Mounts. Returns what the command said beside that. */
  async mount(...options: string[]): Promise<string> {
    const outcome = await lsnfs(
      'mount',
      this.store,
      this.mountpoint,
      '--json',
      ...this.mountOptions,
      ...options,
    );
    this.succeed(outcome);
    this.adopt((JSON.parse(outcome.stdout) as { pid: number }).pid);
    return outcome.stderr;
  }

  /** A daemon that the test has started in a way of its own. */
  adopt(pid: number): void {
    this.pid = pid;
    this.guardian.stdin!.write(`${pid}\n`);
  }

  /**
   * Starts `lsnfs mount --foreground`, whose process is the daemon: it can be killed from its first moment on. Its log
   * goes to the store's. `prefix` is a program that starts it, and becomes it.
   */
  startForeground(prefix: readonly string[] = []): ForegroundMount {
    const words = [...prefix, process.execPath, COMMAND];
    words.push('mount', this.store, this.mountpoint, '--foreground', '--json', ...this.mountOptions);
    const log = openSync(join(this.store, 'lsnfs.log'), 'a', 0o600);
    const child = spawn(words[0]!, words.slice(1), { cwd: '/', stdio: ['ignore', 'pipe', log] });
    closeSync(log);
    this.pid = child.pid!;
    this.guardian.stdin!.write(`${this.pid}\n`);
    const exited = new Promise<number | null>((resolve, reject) => {
      child.once('error', reject);
      child.once('close', (code) => resolve(code));
    });
    const ready = new Promise<boolean>((resolve) => {
      child.stdout!.once('data', () => resolve(true));
      exited.then(
        () => resolve(false),
        () => resolve(false),
      );
    });
    return { ready, exited };
  }

  async unmount(): Promise<void> {
    this.succeed(await lsnfs('unmount', this.mountpoint));
    this.pid = 0;
  }

  /** SIGKILL for the daemon; returns when it is gone. The dead mount stays. */
  async kill(): Promise<void> {
    const { pid } = this;
    this.pid = 0;
    process.kill(pid, 'SIGKILL');
    while (isRunning(pid)) await sleep(2);
  }

  /** lsnfs with these words; its output, parsed. Throws when it fails. */
  async json<Result>(...words: string[]): Promise<Result> {
    const outcome = await lsnfs(...words, '--json');
    return JSON.parse(this.succeed(outcome)) as Result;
  }

  /** Makes what was written durable. Returns the LSN. */
  async commit(): Promise<number> {
    return ((await this.ask('commit', {})) as { lsn: number }).lsn;
  }

  /** Returns the snapshot's LSN. */
  async snapshot(name: string): Promise<number> {
    return ((await this.ask('snapshotCreate', { name })) as { lsn: number }).lsn;
  }

  /** What the commands do, without a process for each. */
  async ask(operation: string, words: JsonObject): Promise<unknown> {
    const client = await connectToStore(this.store);
    if (client === undefined) throw new Error('the daemon does not answer');
    try {
      return await client.request(operation, words);
    } finally {
      client.close();
    }
  }

  /** Runs a bash script, in the mount unless told otherwise; all its processes end with its time. */
  run(script: string, cwd: string = this.mountpoint, timeoutMs = LIMIT_MS): Promise<Outcome> {
    return runScript(script, cwd, timeoutMs);
  }

  /** The same; throws with its output unless it succeeds. Returns its standard output. */
  async shell(script: string, cwd: string = this.mountpoint, timeoutMs = LIMIT_MS): Promise<string> {
    return this.succeed(await this.run(script, cwd, timeoutMs), script);
  }

  /** Every entry below a directory, a line each, with content and all attributes; see tree-listing.py. */
  async listing(directory: string, ...options: string[]): Promise<string[]> {
    return (await this.listings([directory], ...options))[0]!;
  }

  /** The same for many directories. */
  async listings(directories: readonly string[], ...options: string[]): Promise<string[][]> {
    const words = [...options, ...directories].map((word) => `'${word}'`).join(' ');
    const text = await this.shell(`python3 '${scriptPath('tree-listing.py')}' ${words}`, '/');
    return text
      .split('\f\n')
      .slice(1)
      .map((part) => part.split('\n').slice(0, -1));
  }

  /** The daemon's log. */
  get log(): string {
    return readFileSync(join(this.store, 'lsnfs.log'), 'utf8');
  }

  private succeed(outcome: Outcome, what = 'lsnfs'): string {
    if (outcome.code === 0) return outcome.stdout;
    const { code, stdout, stderr } = outcome;
    throw new Error(`status ${code}: ${what}\n${stdout.slice(-4000)}\n${stderr.slice(-4000)}`);
  }

  /** Unmounts and verifies the whole store. Returns what is wrong with it. */
  async problems(): Promise<string[]> {
    if (!existsSync(join(this.store, 'control'))) return [];
    if (this.pid !== 0) {
      if (isRunning(this.pid)) await this.unmount();
      else this.pid = 0;
    }
    const found = await storeProblems(this.store);
    const { log } = this;
    if (!this.expectsStackTraces && /^\s+at .*:\d+\)?$/m.test(log)) found.push(`the daemon's log:\n${log}`);
    return found.filter((problem) => !this.expectedProblems.some((expected) => expected.test(problem)));
  }

  private async cleanUp(): Promise<void> {
    const ended = once(this.guardian, 'exit');
    this.guardian.stdin!.end();
    await ended;
  }
}

/** Verifies all of a store that nobody has open. Returns what is wrong with it. */
export async function storeProblems(path: string): Promise<string[]> {
  const found: string[] = [];
  const database = await open(path, { warn: (message) => found.push(`opening: ${message}`) });
  try {
    const { store } = database;
    await store.checkpoint();
    found.push(...checkStore(store).problems);
    const check = (name: string, state: StateReader): void => {
      for (const { inode, message } of checkFileSystem(state))
        found.push(`${name}: inode ${inode}: ${message}`);
    };
    check('live', store.live);
    for (const { name, lsn } of store.snapshots()) check(`@${name}`, store.openState(lsn));
  } finally {
    await database.close();
  }
  return found;
}

/** A zombie runs no more; it waits for process 1 to ask how it ended. */
function isRunning(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    // There is no such process.
    return false;
  }
}

function runScript(script: string, cwd: string, timeoutMs: number): Promise<Outcome> {
  // timeout(1) has a process group of its own, and ends all of it.
  const words = ['-s', 'KILL', String(timeoutMs / 1000), 'bash', '-euo', 'pipefail', '-c', script];
  return runProgram('timeout', words, { cwd, timeoutMs: timeoutMs + 10_000 });
}
