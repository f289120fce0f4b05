/** All cases, in the order in which they run. */
import { GIT_CASES } from './git.ts';
import type { ProgramCase } from './harness.ts';
import { POSTGRESQL_CASES } from './postgresql.ts';
import { SQLITE_CASES } from './sqlite.ts';
import { TREE_CASES } from './trees.ts';

export const PROGRAM_CASES: readonly ProgramCase[] = [
  ...POSTGRESQL_CASES,
  ...SQLITE_CASES,
  ...GIT_CASES,
  ...TREE_CASES,
];
