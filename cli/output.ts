/**
 * What commands print: tables for people, JSON for programs. A reader that goes away (`| head`) ends the
 * command quietly.
 */
import { systemErrorCode } from '../src/errors.ts';
import { EXIT } from './exit-codes.ts';
import { visible, visibleJson } from './text.ts';

/** Ends the process without a word when nobody reads its output any more. */
export function endQuietlyWhenUnread(): void {
  for (const stream of [process.stdout, process.stderr]) {
    stream.on('error', (error) => {
      if (systemErrorCode(error) === 'EPIPE') process.exit(EXIT.done);
      // Standard output is gone in another way (a full disk, say): that is a failure, if it can still be told.
      if (stream === process.stdout)
        process.stderr.write(`lsnfs: cannot write the output: ${error.message}\n`);
      process.exit(EXIT.failed);
    });
  }
}

/** Writes and waits until the reader has room for more. */
export function write(data: string | Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    // An error reaches the listener above, which ends the process.
    process.stdout.write(data, () => resolve());
  });
}

export function printLine(line: string): Promise<void> {
  return write(`${line}\n`);
}

export function printJson(value: unknown): Promise<void> {
  return printLine(visibleJson(value));
}

export interface Column {
  readonly title: string;
  readonly align?: 'left' | 'right';
}

/** A table with two blanks between columns; without trailing blanks. Cells are made visible. */
export function formatTable(columns: readonly Column[], cells: readonly (readonly string[])[]): string {
  const rows = cells.map((row) => row.map(visible));
  const widths = columns.map((column, index) =>
    Math.max(column.title.length, ...rows.map((row) => (row[index] ?? '').length)),
  );
  const lines = [columns.map((column) => column.title), ...rows].map((row) =>
    row
      .map((cell, index) =>
        columns[index]?.align === 'right' ? cell.padStart(widths[index]!) : cell.padEnd(widths[index]!),
      )
      .join('  ')
      .trimEnd(),
  );
  return `${lines.join('\n')}\n`;
}

/** "1.5 MiB": bytes for people. */
export function formatBytes(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB'];
  let value = bytes;
  let unit = 0;
  while (value >= 1024 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  return `${unit === 0 ? value : value.toFixed(1)} ${units[unit]}`;
}

/** "2026-11-22 10:15:00 UTC" for people, from RFC 3339. */
export function formatTime(text: string | null): string {
  return text === null ? '-' : `${text.slice(0, 10)} ${text.slice(11, 19)} UTC`;
}
