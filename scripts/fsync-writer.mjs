/**
 * Appends numbered lines to a file, each with an fsync of its own, and prints a line only when its fsync has
 * returned: what is printed must survive anything. Ends quietly when the file cannot be written any more.
 */
import { fsyncSync, openSync, writeSync } from 'node:fs';

const file = openSync(process.argv[2] ?? '', 'a');
try {
  for (let number = 1; number <= 1_000_000; number++) {
    const line = `line ${number} of what a program was told is safe\n`;
    writeSync(file, line);
    fsyncSync(file);
    writeSync(1, line);
  }
} catch (error) {
  if (error.code !== 'ENOTCONN' && error.code !== 'EIO' && error.code !== 'ECONNABORTED') throw error;
}
// The mount is gone, and closing the file could only fail.
process.exit(0);
