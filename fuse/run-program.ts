/** Programs of the system that mount and unmount: run without a shell, and heard out. */
import { spawn } from 'node:child_process';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';

export interface ProgramOutcome {
  /** null after a signal. */
  readonly code: number | null;
  readonly errorText: string;
}

export interface RunOptions {
  /** Inherited by the program as descriptor 3. */
  readonly descriptor?: number;
  readonly environment?: Readonly<Record<string, string>>;
}

/** The Debian packages that the programs come with. */
const PACKAGES: Readonly<Record<string, string>> = {
  mount: 'mount',
  umount: 'mount',
  fusermount3: 'fuse3',
};

/**
 * Runs a program and returns its exit code and what it complained of.
 * @throws LsnfsError MOUNT_REFUSED when it cannot be started
 */
export function runProgram(
  program: string,
  args: readonly string[],
  options: RunOptions = {},
): Promise<ProgramOutcome> {
  return new Promise((resolve, reject) => {
    const inherited = options.descriptor === undefined ? [] : [options.descriptor];
    const child = spawn(program, args, {
      stdio: ['ignore', 'ignore', 'pipe', ...inherited],
      env: {
        PATH: process.env.PATH ?? '/usr/sbin:/usr/bin:/sbin:/bin',
        LC_ALL: 'C',
        ...options.environment,
      },
    });
    let errorText = '';
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      errorText += text;
    });
    child.once('error', (error) => {
      const why =
        systemErrorCode(error) === 'ENOENT' ? 'is not installed' : `cannot be run: ${error.message}`;
      const advice = PACKAGES[program] === undefined ? '' : `; it is in the package ${PACKAGES[program]}`;
      reject(new LsnfsError('MOUNT_REFUSED', `${program} ${why}${advice}`, { program }));
    });
    child.once('close', (code) => resolve({ code, errorText: errorText.trim() }));
  });
}
