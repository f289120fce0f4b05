/** How checks and scrubs show themselves to people: progress in a line, damages in a few lines each. */
import type { CheckReport, DamageReport, RunningVerification, VersionRange } from '../src/index.ts';
import { formatBytes, formatTime } from './output.ts';
import { visible } from './text.ts';

/** Paths that are shown of each damage when there are very many. */
const PATHS_SHOWN = 20;
/** So many in all are shown, whatever each damage has. */
const ALL_PATHS_SHOWN = 1000;
const SNAPSHOTS_SHOWN = 10;
const RANGES_SHOWN = 5;

/** "checking pages: 45 %, 120.0 MiB read, version 3 of 12". */
export function progressText({ kind, progress }: RunningVerification): string {
  const { phase, pages, pagesTotal, versions, versionsTotal, bytesRead, logBytes, logBytesTotal } = progress;
  const read = `${formatBytes(bytesRead)} read`;
  const found = progress.damages === 0 ? '' : `, ${countOf(progress.damages, 'damage')} found`;
  const share = (part: number, whole: number): string =>
    whole === 0 ? '' : `${Math.min(100, Math.floor((100 * part) / whole))} %, `;
  const verb = kind === 'check' ? 'checking' : 'scrubbing';
  switch (phase) {
    case 'pages':
      return `${verb} pages: ${share(pages, pagesTotal)}${read}${found}`;
    case 'log':
      return `${verb} the log: ${share(logBytes, logBytesTotal)}${read}${found}`;
    case 'structure':
      return `${verb} directories and links: version ${versions} of ${versionsTotal}${found}`;
    case 'paths':
      return `looking for the paths of what is damaged${found}`;
    default:
      return `${verb} ${phase === 'space' ? 'free space' : 'the control block'}: ${read}${found}`;
  }
}

export function countOf(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}

/** What was verified, in a few lines. */
export function formatReport(storePath: string, kind: 'check' | 'scrub', report: CheckReport): string {
  const lines = [
    `${kind === 'check' ? 'Checked' : 'Scrubbed'} ${storePath}: ${countOf(report.versions, 'version')}, LSN ${report.oldestLsn} to ${report.lsn}; ${report.pages.inUse} pages in use, ${report.pages.free} free; ${formatBytes(report.bytesRead)} read.`,
  ];
  if (report.log !== null) {
    const { fromLsn, toLsn, segments, transactions } = report.log;
    lines.push(
      `The log: ${countOf(transactions, 'transaction')} in ${countOf(segments, 'segment')}, LSN ${fromLsn} to ${toLsn}.`,
    );
  }
  for (const note of report.notes) lines.push(`Note: ${visible(note)}.`);
  if (report.notFullyChecked.length > 0)
    lines.push(`Not fully checked, because pages are lost: ${versionsText(report.notFullyChecked)}.`);
  if (report.damageCount === 0) lines.push('No damage was found.');
  return `${lines.join('\n')}\n`;
}

/** All damages that are listed. */
export function formatDamages(report: CheckReport): string {
  let budget = ALL_PATHS_SHOWN;
  let text = '';
  report.damages.forEach((damage, index) => {
    const shown = Math.max(
      0,
      Math.min(damage.paths.length, budget > 0 ? Math.max(PATHS_SHOWN, budget) : PATHS_SHOWN),
    );
    budget -= shown;
    text += formatDamage(index + 1, damage, shown);
  });
  if (report.damageCount > report.damages.length)
    text += `and ${report.damageCount - report.damages.length} more\n`;
  return text;
}

function formatDamage(number: number, damage: DamageReport, pathsShown: number): string {
  const place = damage.offset === null ? damage.file : `${damage.file} at offset ${damage.offset}`;
  const lines = [`${number}. ${place}: ${visible(damage.message)}`];
  const hits: string[] = [];
  if (damage.live) hits.push('the live state');
  if (damage.versions.length > 0) hits.push(versionsText(damage.versions));
  for (const { from, to } of damage.states)
    hits.push(`states from LSN ${from} ${to === null ? 'on' : `to below ${to}`} that are no versions`);
  if (damage.snapshots.length > 0) {
    const names = damage.snapshots.slice(0, SNAPSHOTS_SHOWN).map((name) => `@${visible(name)}`);
    const more = damage.snapshots.length - names.length;
    hits.push(`snapshots ${names.join(', ')}${more > 0 ? ` and ${more} more` : ''}`);
  }
  if (hits.length > 0) lines.push(`   hits ${hits.join('; ')}`);
  const bytes = damage.start === null ? '' : ` (bytes ${damage.start} to ${damage.end! - 1})`;
  for (const path of damage.paths.slice(0, pathsShown)) lines.push(`   ${visible(path)}${bytes}`);
  const more = damage.paths.length - pathsShown + damage.morePaths;
  if (more > 0) lines.push(`   and ${countOf(more, 'more path')}`);
  return `${lines.join('\n')}\n`;
}

function versionsText(ranges: readonly VersionRange[]): string {
  const texts = ranges
    .slice(-RANGES_SHOWN)
    .map(({ fromLsn, toLsn, fromTime, toTime, count }) =>
      count === 1
        ? `LSN ${fromLsn} (${formatTime(fromTime)})`
        : `LSN ${fromLsn} (${formatTime(fromTime)}) to ${toLsn} (${formatTime(toTime)})`,
    );
  const count = ranges.reduce((sum, range) => sum + range.count, 0);
  const more = ranges.length - texts.length;
  return `${countOf(count, 'version')}: ${texts.join(', ')}${more > 0 ? ` and ${more} older ranges` : ''}`;
}
