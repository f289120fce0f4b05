/** Runs the compiled command line as people do, in a process of its own, without blocking this one. */
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { LIMIT_MS } from './waiting.ts';

export const COMMAND = fileURLToPath(new URL('../../bundle/lsnfs.js', import.meta.url));

export interface Outcome {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly cwd?: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly timeoutMs?: number;
}

export function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<Outcome> {
  return new Promise((resolve, reject) => {
    const child = spawn(program, args, {
      cwd: options.cwd,
      env: { ...process.env, LC_ALL: 'C', ...options.env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const timer = setTimeout(() => child.kill('SIGKILL'), options.timeoutMs ?? LIMIT_MS);
    let stdout = '';
    let stderr = '';
    child.stdout.setEncoding('latin1').on('data', (text: string) => {
      stdout += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text;
    });
    child.once('error', reject);
    // 'close' and not 'exit': a daemon that kept the command's output open would be noticed here.
    child.once('close', (code) => {
      clearTimeout(timer);
      // What says that a step takes longer than a second depends on the machine.
      const said = stderr.replace(/^lsnfs: waiting .* …\n/gm, '');
      resolve({ code, stdout: Buffer.from(stdout, 'latin1').toString('utf8'), stderr: said });
    });
  });
}

/** lsnfs with these arguments. */
export function lsnfs(...args: string[]): Promise<Outcome> {
  return runProgram(process.execPath, [COMMAND, ...args]);
}

/** The same; throws unless it succeeds without a word on standard error. Returns its output. */
export async function lsnfsOutput(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await lsnfs(...args);
  if (code !== 0 || stderr !== '')
    throw new Error(`lsnfs ${args.join(' ')}: status ${code}\n${stdout}${stderr}`);
  return stdout;
}

/** The same with --json, parsed. */
export async function lsnfsJson(...args: string[]): Promise<unknown> {
  return JSON.parse(await lsnfsOutput(...args, '--json'));
}
