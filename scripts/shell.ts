/**
 * Runs shell commands for people to watch: prints each with a "$", shows what it prints (shortened), and fails when
 * its exit status is not the expected one.
 */
import { type ChildProcess, spawn } from 'node:child_process';

const LINES_SHOWN = 12;

export interface RunOptions {
  /** The exit status that is right; 0 unless said otherwise. */
  readonly status?: number;
  /** Shows nothing of the output. */
  readonly quiet?: boolean;
}

export class CommandFailure extends Error {}

export class Shell {
  private readonly directory: string;
  private readonly env: NodeJS.ProcessEnv;
  private running: ChildProcess | undefined;
  private stopped = false;

  constructor(directory: string, env: NodeJS.ProcessEnv) {
    this.directory = directory;
    this.env = env;
  }

  /** Ends the running command; no further one starts. */
  stop(): void {
    this.stopped = true;
    this.running?.kill('SIGTERM');
  }

  /** Runs a command line of bash and returns what it printed to stdout. */
  async run(line: string, options: RunOptions = {}): Promise<string> {
    process.stdout.write(`$ ${line}\n`);
    const { status, output, shown } = await this.execute(line);
    if (options.quiet !== true) process.stdout.write(shorten(shown));
    if (status !== (options.status ?? 0)) {
      throw new CommandFailure(`'${line}' ended with status ${status} instead of ${options.status ?? 0}`);
    }
    return output.trimEnd();
  }

  private execute(line: string): Promise<{ status: number; output: string; shown: string }> {
    if (this.stopped) throw new CommandFailure('interrupted');
    return new Promise((resolve, reject) => {
      // pipefail: a failure in the middle of a pipe is one.
      const child = spawn('bash', ['-o', 'pipefail', '-c', line], {
        cwd: this.directory,
        env: this.env,
        stdio: ['ignore', 'pipe', 'pipe'],
      });
      this.running = child;
      let output = '';
      let shown = '';
      child.stdout.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        shown += text;
      });
      child.stderr.setEncoding('utf8').on('data', (text: string) => {
        shown += text;
      });
      child.once('error', (error) => reject(new CommandFailure(`bash cannot be started: ${error.message}`)));
      child.once('close', (code) => {
        this.running = undefined;
        if (this.stopped) reject(new CommandFailure('interrupted'));
        else resolve({ status: code ?? 128, output, shown });
      });
    });
  }
}

function shorten(text: string): string {
  const lines = text.split('\n');
  if (lines.at(-1) === '') lines.pop();
  if (lines.length === 0) return '';
  if (lines.length <= LINES_SHOWN) return `${lines.join('\n')}\n`;
  const left = lines.length - LINES_SHOWN + 1;
  return `${lines.slice(0, LINES_SHOWN - 1).join('\n')}\n… (${left} more lines)\n`;
}
