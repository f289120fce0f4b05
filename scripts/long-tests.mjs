/**
 * Tests that take long: `npm run test:long` runs them, beside what `npm test` does only a part of, so that `npm test` is
 * over within five minutes. The continuous integration runs both.
 */

/** Processes, mounts and machines under stress; none is the only test of what it is about. */
export const LONG_FILES = [
  'test/vfs/posix-system.test.ts',
  'test/mount/descriptors.test.ts',
  'test/mount/full-disk.test.ts',
  'test/mount/kill.test.ts',
  'test/mount/limits.test.ts',
  'test/mount/versions.test.ts',
  'test/lab/crash-canaries.test.ts',
];

/** Laboratories: `npm test` does this part of their random cases, `npm run test:long` all of them. */
export const LABORATORIES = [
  'test/lab/corruption.test.ts',
  'test/lab/crash.test.ts',
  'test/lab/faults.test.ts',
  'test/lab/fuzz.test.ts',
];
export const SHORT_SHARE = '0.1';
