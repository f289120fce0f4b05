/**
 * What failed in a run of AVA, drawn from its report: the titles, then the details, bounded. `.ci/run` prints it after
 * everything else, because a log that is kept may have been cut at its front; LSNFS_TEST_FAILURES names the file that
 * it is collected in.
 */
import { appendFileSync } from 'node:fs';

const TITLES = 50;
const DETAIL_LINES = 150;
/** Of what happened outside a test, of which AVA speaks at once and not at the end. */
const OUTSIDE_LINES = 25;
const OUTSIDE = /^\s*✘? ?(Uncaught exception|Unhandled rejection|.* exited |.* Timed out|.*Failed to exit)/;

/** @param {string[]} lines AVA's report, without colours. @returns {string[]} nothing when nothing failed */
export function whatFailed(lines) {
  const titles = lines.filter((line) => /^\s*✘ /.test(line)).map((line) => line.trim());
  const outside = lines.flatMap((line, at) =>
    OUTSIDE.test(line) ? lines.slice(at, at + OUTSIDE_LINES) : [],
  );
  // The details are between two rules, or there is one rule and none.
  const rule = lines.findIndex((line) => /^\s*─+\s*$/.test(line));
  const details = rule < 0 ? lines : lines.slice(rule + 1);
  return [
    ...titles.slice(0, TITLES),
    ...(titles.length > TITLES ? [`… and ${titles.length - TITLES} more`] : []),
    ...outside.slice(0, DETAIL_LINES),
    '',
    ...(details.length > DETAIL_LINES ? ['…'] : []),
    ...details.slice(-DETAIL_LINES),
  ];
}

/** Adds lines to what `.ci/run` prints at its end; nothing elsewhere. @param {string[]} lines */
export function collectFailure(lines) {
  const file = process.env.LSNFS_TEST_FAILURES;
  if (file) appendFileSync(file, `${lines.join('\n')}\n`);
}
