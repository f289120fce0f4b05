/**
 * lsnfs import TARGET [PATH]: a tar archive from standard input into the live state, all of it or nothing.
 *
 * A store that nobody has open is opened here, and the archive is read with blocking reads within the transaction. A
 * mounted one gets it in pieces through its control socket and applies it when it is whole, so that the mount does not
 * stand still for as long as the archive's writer takes.
 */
import { readSync } from 'node:fs';
import { isatty } from 'node:tty';
import type { Command } from 'commander';
import { LsnfsError, systemErrorCode } from '../../src/errors.ts';
import type { Database, ImportTally } from '../../src/index.ts';
import type { ImportEnd, ImportPage } from '../../src/plugin/operations.ts';
import { namesPastState } from '../../src/plugin/paths.ts';
import { bytesOfText } from '../../src/plugin/text.ts';
import { jsonOption } from '../command.ts';
import { UsageError } from '../failure.ts';
import { formatBytes } from '../output.ts';
import { ProgressLine } from '../progress.ts';
import { askOrOpen, type Session } from '../target.ts';
import { visible, visibleJson } from '../text.ts';

/** How long an input that never blocks is left alone before it is asked again. */
const RETRY_MS = 5;
/** Of one piece, in bytes: its base64 is far below the limit of a request. A multiple of three. */
const PIECE_SIZE = 3 << 17;
/** How often a daemon hears of us while the input has nothing for us: it closes connections that are silent for a minute. */
const SIGN_OF_LIFE_MS = 15_000;

/** A blocking read of standard input; 0 at its end. */
function readInput(target: Uint8Array, start: number, length: number): number {
  const clock = new Int32Array(new SharedArrayBuffer(4));
  for (;;) {
    try {
      return readSync(0, target, start, length, null);
    } catch (error) {
      const code = systemErrorCode(error);
      if (code === 'EAGAIN') Atomics.wait(clock, 0, 0, RETRY_MS);
      else if (code === 'EOF') return 0;
      else throw unreadable(error);
    }
  }
}

function unreadable(error: unknown): LsnfsError {
  return new LsnfsError('IO', `standard input cannot be read: ${(error as Error).message}`);
}

/** Standard input in pieces of the size, without blocking. */
async function* inputPieces(): AsyncGenerator<Buffer> {
  let waiting: Buffer[] = [];
  let bytes = 0;
  const input = process.stdin as AsyncIterable<Buffer>;
  try {
    for await (const chunk of input) {
      waiting.push(chunk);
      bytes += chunk.length;
      if (bytes < PIECE_SIZE) continue;
      const all = Buffer.concat(waiting);
      const end = bytes - (bytes % PIECE_SIZE);
      for (let at = 0; at < end; at += PIECE_SIZE) yield all.subarray(at, at + PIECE_SIZE);
      waiting = [all.subarray(end)];
      bytes -= end;
    }
  } catch (error) {
    throw error instanceof LsnfsError ? error : unreadable(error);
  }
  yield Buffer.concat(waiting);
}

function countOf(tally: ImportTally): number {
  return Object.values(tally.entries).reduce((sum, count) => sum + count, 0);
}

type Imported = ImportTally & { readonly lsn: number };

/** Says what happens, on standard error. */
class Reporter {
  private readonly line: ProgressLine;

  constructor(line: ProgressLine) {
    this.line = line;
  }

  readonly warn = (message: string): void => {
    this.line.end();
    process.stderr.write(`lsnfs: ${visible(message)}\n`);
  };

  progress(what: string): void {
    this.line.show(what);
  }
}

async function importHere(database: Database, path: string, reporter: Reporter): Promise<Imported> {
  const { lsn, result } = await database.transaction((transaction) =>
    transaction.importTar(bytesOfText(path), readInput, {
      warn: reporter.warn,
      progress: (tally) =>
        reporter.progress(`importing: ${countOf(tally)} entries, ${formatBytes(tally.archiveBytes)}`),
    }),
  );
  return { lsn, ...result };
}

async function importThere(session: Session, path: string, reporter: Reporter): Promise<Imported> {
  const { cursor } = (await session.execute('import', { path })) as ImportPage;
  const silence = setInterval(() => {
    // What is wrong with the connection is met by the next piece as well.
    session.execute('import', { cursor, data: '' }).catch(() => {});
  }, SIGN_OF_LIFE_MS);
  let isEnding = false;
  try {
    for await (const piece of inputPieces()) {
      const { bytes } = (await session.execute('import', {
        cursor,
        data: piece.toString('base64'),
      })) as ImportPage;
      reporter.progress(`sending: ${formatBytes(bytes)}`);
    }
    clearInterval(silence);
    reporter.progress('importing');
    isEnding = true;
    const {
      warnings,
      cursor: _,
      ...result
    } = (await session.execute('import', {
      cursor,
      end: true,
    })) as ImportEnd;
    for (const warning of warnings) reporter.warn(warning);
    return result;
  } catch (error) {
    if (!(error instanceof LsnfsError) || error.code !== 'STORE_CLOSED') throw error;
    // The input is read; it cannot be sent again.
    const what = isEnding
      ? 'the process that has the store open ended before it answered: see whether the archive is there, and import it again if not'
      : 'the process that has the store open ended while the archive was being sent: nothing of it was imported';
    throw new LsnfsError('IO', what, {}, { cause: error });
  } finally {
    clearInterval(silence);
  }
}

export function register(program: Command): void {
  const command = program
    .command('import')
    .description('Put a tar archive from standard input into the live state, in one transaction.')
    .argument('<target>', 'a store, or where it is mounted')
    .argument('[path]', 'the directory to put it in; made if it is missing', '/')
    .option('--progress', 'show progress also when standard error is no terminal')
    .action(async (target: string, path: string, options: { json?: boolean; progress?: boolean }) => {
      if (namesPastState(path)) throw new UsageError(`${path} is a past state, which cannot be changed`);
      if (isatty(0))
        throw new UsageError('standard input is a terminal: give the archive from a file or a pipe');
      const line = new ProgressLine(options.progress === true);
      const reporter = new Reporter(line);
      try {
        const { lsn, ...tally } = await askOrOpen(
          target,
          (session) => importThere(session, path, reporter),
          (database) => importHere(database, path, reporter),
        );
        line.end();
        const text = `Imported ${countOf(tally)} entries with ${formatBytes(tally.contentBytes)}, LSN ${lsn}.`;
        process.stderr.write(`${options.json === true ? visibleJson({ lsn, path, ...tally }) : text}\n`);
      } finally {
        line.end();
      }
    });
  jsonOption(command);
}
