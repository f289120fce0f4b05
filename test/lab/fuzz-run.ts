/** All parsers that are fuzzed, and how many of a run's cases each gets. */
import { CONTROL_PARSERS } from './fuzz-control.ts';
import { ENCODING_PARSERS } from './fuzz-encoding.ts';
import { FUSE_PARSERS } from './fuzz-fuse.ts';
import { LOG_PARSERS } from './fuzz-log.ts';
import { PAGE_PARSERS } from './fuzz-pages.ts';
import type { FuzzParser } from './fuzz-parser.ts';
import { STORE_PARSERS } from './fuzz-store.ts';

export const PARSERS: readonly FuzzParser[] = [
  ...ENCODING_PARSERS,
  ...PAGE_PARSERS,
  ...LOG_PARSERS,
  ...STORE_PARSERS,
  ...FUSE_PARSERS,
  ...CONTROL_PARSERS,
];

/** The parser with this name. @throws Error that names those there are. */
export function parserNamed(name: string): FuzzParser {
  const found = PARSERS.find((parser) => parser.name === name);
  if (found !== undefined) return found;
  throw new Error(`there is no parser "${name}": ${PARSERS.map((parser) => parser.name).join(', ')}`);
}

/** How many of `cases` a parser gets among all. */
export function casesOf(parser: FuzzParser, cases: number): number {
  const shares = PARSERS.reduce((sum, { share }) => sum + share, 0);
  return Math.ceil((cases * parser.share) / shares);
}
