/** Whether tests may mount, and a directory to do it in that is cleaned up whatever happens. */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { whyNoMount } from '../../scripts/why-no-mount.ts';
import { LIMIT_MS } from './waiting.ts';

/** Why tests that need a mount are skipped, or undefined when they can run. */
export const NO_MOUNT_REASON: string | undefined =
  process.env.LSNFS_TEST_NO_MOUNT === '1' ? 'LSNFS_TEST_NO_MOUNT=1 asks for it' : whyNoMount();

export function canMount(): boolean {
  return NO_MOUNT_REASON === undefined;
}

export interface MountDirectories {
  readonly base: string;
  readonly store: string;
  readonly mountpoint: string;
  /** Unmounts what is left and removes the directories. */
  cleanUp(): void;
}

/** Fresh directories for a store and a mount point. */
export function mountDirectories(): MountDirectories {
  const base = mkdtempSync(join(tmpdir(), 'lsnfs-mount-'));
  const store = join(base, 'store');
  const mountpoint = join(base, 'mnt');
  mkdirSync(store);
  mkdirSync(mountpoint);
  return {
    base,
    store,
    mountpoint,
    cleanUp: () => {
      // Never waits for a server: a lazy unmount takes the mount away whoever serves it.
      for (let i = 0; i < 4; i++) {
        if (spawnSync('umount', ['-l', '--', mountpoint], { stdio: 'ignore', timeout: 60_000 }).status !== 0)
          break;
      }
      rmSync(base, { recursive: true, force: true });
    },
  };
}

export interface ShellOutcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program without blocking this process, which may be the one that serves the mount. */
export function runProgram(
  program: string,
  args: readonly string[],
  options: { cwd?: string; timeoutMs?: number; input?: string } = {},
): Promise<ShellOutcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, { cwd: options.cwd, env: { ...process.env, LC_ALL: 'C' } });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? LIMIT_MS);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    child.once('close', (code) => {
      clearTimeout(timer);
      resolve({ code, stdout, stderr });
    });
    child.stdin.on('error', () => {}).end(options.input ?? '');
  });
}

/** Runs a shell script in a directory; throws with its output when it fails. Returns its standard output. */
export async function shell(script: string, cwd: string, timeoutMs = LIMIT_MS): Promise<string> {
  const { code, stdout, stderr } = await runProgram('bash', ['-euc', script], { cwd, timeoutMs });
  if (code !== 0) throw new Error(`exit code ${code}\n${script}\n${stdout}\n${stderr}`);
  return stdout;
}

/** File URL of the database module that keeps a tree in memory. */
export const TREE_DATABASE_MODULE: string = new URL(
  import.meta.url.endsWith('.ts') ? './tree-database.ts' : './tree-database.js',
  import.meta.url,
).href;

/** A program that talks line by line, in a directory; it is ended with the test. */
export class LineProgram {
  private readonly child: ChildProcess;
  private text = '';
  private error = '';
  private ended = false;
  /** Who waits for something to happen. */
  private waiting: (() => void)[] = [];

  constructor(program: string, words: readonly string[], cwd: string) {
    const env = { ...process.env, LC_ALL: 'C' };
    this.child = spawn(program, words, { cwd, env, stdio: ['pipe', 'pipe', 'pipe'] });
    this.child.stdout!.setEncoding('utf8').on('data', (text: string) => {
      this.text += text;
      this.wake();
    });
    this.child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.error += text;
    });
    this.child.stdin!.on('error', () => {});
    this.child.once('close', () => {
      this.ended = true;
      this.wake();
    });
  }

  private wake(): void {
    for (const waiter of this.waiting.splice(0)) waiter();
  }

  private change(): Promise<void> {
    return new Promise((resolve) => this.waiting.push(resolve));
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Whether it runs; what it said before it ended can be read still. */
  get isRunning(): boolean {
    return !this.ended;
  }

  /** Its standard error so far. */
  get errors(): string {
    return this.error;
  }

  /** The next line of its output. */
  async line(): Promise<string> {
    while (!this.text.includes('\n')) {
      if (this.ended) throw new Error(`the program ended: ${this.error}`);
      await this.change();
    }
    const end = this.text.indexOf('\n');
    const line = this.text.slice(0, end);
    this.text = this.text.slice(end + 1);
    return line;
  }

  /** Waits until it ends by itself. */
  async ends(): Promise<void> {
    while (!this.ended) {
      await this.change();
    }
  }

  /** Gives it a line, for which it waits with input(). */
  go(line = ''): void {
    this.child.stdin!.write(`${line}\n`);
  }

  async end(): Promise<void> {
    this.child.stdin!.end();
    if (!this.ended) this.child.kill('SIGKILL');
    await this.ends();
  }
}

/** A python3 program that talks line by line. */
export class PythonProgram extends LineProgram {
  /** `program`: its text, or the path of its file and arguments. */
  constructor(program: string | readonly string[], cwd: string) {
    super('python3', ['-u', ...(typeof program === 'string' ? ['-c', program] : program)], cwd);
  }
}
