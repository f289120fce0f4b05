/** Starts the daemon of a mount and waits until the mount answers. */
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { LsnfsError, systemErrorCode } from '../src/errors.ts';
import { errorFromWire } from '../src/plugin/control-protocol.ts';
import { openStoreFile } from '../src/storage/store-files.ts';
import type { DaemonMessage } from './daemon.ts';
import { withProgress } from './progress.ts';
import type { ServeOptions } from './serve.ts';

const LOG_NAME = 'lsnfs.log';

/** The compiled entry, or the source where Node runs that. */
function daemonPath(): string {
  const isSource = import.meta.url.endsWith('.ts');
  return fileURLToPath(new URL(isSource ? './daemon.ts' : './daemon.js', import.meta.url));
}

/** The log of the store; undefined where none can be kept: no store, or nothing can be written there. */
function openLog(storePath: string): number | undefined {
  // Whatever is no store gets no log; the daemon says what is wrong with it.
  if (!existsSync(join(storePath, 'control'))) return undefined;
  try {
    return openStoreFile(storePath, LOG_NAME, { access: 'append', create: true });
  } catch (error) {
    if (error instanceof LsnfsError || systemErrorCode(error) === undefined) throw error;
    process.stderr.write(`lsnfs: no log is kept: ${(error as Error).message}\n`);
    return undefined;
  }
}

/** The main thread of a daemon passes messages on: little space for new objects (MiB a semi-space) keeps it small. */
const SMALL_HEAP = ['--max-semi-space-size=2'];

/** Returns the daemon's process id when the mount answers. @throws LsnfsError with the daemon's own sentence. */
export async function startDaemon(options: ServeOptions): Promise<number> {
  const logDescriptor = openLog(options.storePath);
  const output = logDescriptor ?? 'ignore';
  const child = spawn(process.execPath, [...SMALL_HEAP, daemonPath(), JSON.stringify(options)], {
    cwd: '/',
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
  });
  if (logDescriptor !== undefined) closeSync(logDescriptor);
  const stopListening = passSignalsOn(child);
  try {
    await withProgress('waiting until the store has been opened', outcome(child, options.storePath));
  } finally {
    stopListening();
    if (child.connected) child.disconnect();
    child.unref();
  }
  return child.pid!;
}

/** Ctrl-C while the mount is being made ends the daemon too, which is in a process group of its own. */
function passSignalsOn(child: ChildProcess): () => void {
  const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
  const listener = (signal: NodeJS.Signals) => {
    child.kill('SIGTERM');
    child.once('exit', () => process.exit(128 + constants.signals[signal]));
  };
  for (const signal of signals) process.on(signal, listener);
  return () => {
    for (const signal of signals) process.off(signal, listener);
  };
}

function outcome(child: ChildProcess, storePath: string): Promise<void> {
  return new Promise((resolve, reject) => {
    child.once('message', (message: DaemonMessage) => {
      if ('ready' in message) {
        for (const notice of message.notices) process.stderr.write(`lsnfs: ${notice}\n`);
        resolve();
      } else reject(errorFromWire(message.failed));
    });
    child.once('error', (error) =>
      reject(new LsnfsError('IO', `the daemon cannot be started: ${error.message}`)),
    );
    child.once('exit', (code, signal) => {
      const how = signal === null ? `with status ${code}` : `by ${signal}`;
      reject(
        new LsnfsError(
          'IO',
          `the daemon ended ${how} before the mount was ready; see ${join(storePath, LOG_NAME)}`,
        ),
      );
    });
  });
}
