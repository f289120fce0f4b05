/** All cases, in the order in which they run. */
import { BUILD_CASES } from './builds.ts';
import { CHROMIUM_CASES } from './chromium.ts';
import { DISK_CASES } from './disks.ts';
import { EDITOR_CASES } from './editors.ts';
import { FIO_CASES } from './fio.ts';
import { GIT_CASES } from './git.ts';
import type { ProgramCase } from './harness.ts';
import { LARGE_DIRECTORY_CASES } from './large-directories.ts';
import { LEVELDB_CASES } from './leveldb.ts';
import { POSTGRESQL_CASES } from './postgresql.ts';
import { RESTIC_CASES } from './restic.ts';
import { SQLITE_CASES } from './sqlite.ts';
import { TREE_CASES } from './trees.ts';

export const PROGRAM_CASES: readonly ProgramCase[] = [
  ...POSTGRESQL_CASES,
  ...SQLITE_CASES,
  ...GIT_CASES,
  ...TREE_CASES,
  ...BUILD_CASES,
  ...EDITOR_CASES,
  ...CHROMIUM_CASES,
  ...LEVELDB_CASES,
  ...RESTIC_CASES,
  ...FIO_CASES,
  ...DISK_CASES,
  ...LARGE_DIRECTORY_CASES,
];
