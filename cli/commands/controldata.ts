/**
 * lsnfs controldata STORE: what the control file says, slot by slot, as pg_controldata does. It only reads, takes no
 * lock, and works on a damaged store and on one that is in use.
 *
 * The store's id is secret: it names the lock. What is shown is a fingerprint, enough to tell stores apart.
 */
import { createHash } from 'node:crypto';
import type { Command } from 'commander';
import { type ControlBlock, FORMAT_VERSION } from '../../src/encoding/control.ts';
import { LsnfsError } from '../../src/errors.ts';
import { FileDirectory } from '../../src/storage/file-device.ts';
import { type InspectedControl, inspectControl, inspectSegments } from '../../src/store/inspect.ts';
import { isAlive, readOwner } from '../../src/store/lock.ts';
import { jsonOption, TARGET_HELP } from '../command.ts';
import { CorruptionFound } from '../failure.ts';
import { printJson, write } from '../output.ts';
import { resolveTarget } from '../target.ts';
import { timeText, visible } from '../text.ts';

export function register(program: Command): void {
  const command = program
    .command('controldata')
    .description('Show what the control file of a store says, also when it is damaged or in use.')
    .argument('<store>', TARGET_HELP)
    .action(async (target: string, options: { json?: boolean }) => {
      const { storePath } = resolveTarget(target);
      const directory = new FileDirectory(storePath);
      const control = inspectControl(directory);
      const report = describeStore(directory, control);
      if (options.json) await printJson(report);
      else await write(formatReport(report));
      if (control.used !== undefined) return;
      const newer = control.slots.find((slot) => slot instanceof LsnfsError && slot.code === 'NEWER_FORMAT');
      if (newer instanceof LsnfsError) throw newer;
      throw new CorruptionFound(`neither slot of ${storePath}/control can be used`);
    });
  jsonOption(command);
}

function describeSlot(slot: ControlBlock | LsnfsError) {
  if (slot instanceof LsnfsError) return { valid: false as const, reason: slot.message };
  const { checkpoint } = slot;
  return {
    valid: true as const,
    sequence: slot.sequence,
    cleanShutdown: slot.cleanShutdown,
    checkpointLsn: checkpoint.lsn,
    checkpointPosition: checkpoint.position,
    checkpointTime: timeText(checkpoint.timeMicroseconds),
    rootPage: checkpoint.rootPage,
    rootLsn: checkpoint.rootLsn,
    rootChecksum: checkpoint.rootChecksum,
  };
}

function describeStore(directory: FileDirectory, control: InspectedControl) {
  const owner = readOwner(directory.path);
  const user = owner !== undefined && isAlive(owner) ? owner : undefined;
  const used = control.used === undefined ? undefined : control.slots[control.used];
  const block = used instanceof LsnfsError ? undefined : used;
  const state =
    user !== undefined
      ? 'in production'
      : block === undefined
        ? 'unknown'
        : block.cleanShutdown
          ? 'shut down'
          : 'crashed';
  return {
    store: directory.path,
    controlFileBytes: control.size,
    state,
    inUseBy: user === undefined ? null : { pid: user.pid, mountpoint: user.mountpoint },
    formatVersion: block === undefined ? null : FORMAT_VERSION,
    fingerprint: block === undefined ? null : fingerprint(block.storeId),
    pageSize: block?.pageSize ?? null,
    segmentSize: block?.segmentSize ?? null,
    createdAt: block === undefined ? null : timeText(block.createdAtMicroseconds),
    usedSlot: control.used ?? null,
    slots: control.slots.map(describeSlot),
    log: { ...inspectSegments(directory, block?.segmentSize) },
  };
}

/** Tells stores apart, and tells nothing of the id. */
function fingerprint(storeId: Uint8Array): string {
  return createHash('sha256').update('lsnfs fingerprint').update(storeId).digest('hex').slice(0, 8);
}

const STATES: Record<string, string> = {
  'shut down': 'shut down',
  'in production': 'in production',
  crashed: 'not shut down: the log is replayed when the store is opened',
  unknown: 'unknown: no slot can be used',
};

function formatReport(report: ReturnType<typeof describeStore>): string {
  const rows: [string, string][] = [];
  const add = (name: string, value: string | number | null): void => {
    rows.push([name, value === null ? 'unknown' : String(value)]);
  };
  add('store', report.store);
  add('control file bytes', report.controlFileBytes);
  add('format version', report.formatVersion);
  add('store fingerprint', report.fingerprint);
  add('page size', report.pageSize);
  add('log segment size', report.segmentSize);
  add('created at', report.createdAt);
  add('state', STATES[report.state]!);
  const { inUseBy, log } = report;
  const where = inUseBy?.mountpoint == null ? '' : `, mounted on ${inUseBy.mountpoint}`;
  add('in use by', inUseBy === null ? 'nobody' : `process ${inUseBy.pid}${where}`);
  add('slot in use', report.usedSlot ?? 'none');
  report.slots.forEach((slot, index) => {
    const name = (what: string) => `slot ${index} ${what}`;
    add(name('validity'), slot.valid ? 'valid' : `not valid: ${slot.reason}`);
    if (!slot.valid) return;
    add(name('sequence number'), slot.sequence);
    add(name('clean shutdown'), slot.cleanShutdown ? 'yes' : 'no');
    add(name('checkpoint LSN'), slot.checkpointLsn);
    add(name('checkpoint log position'), slot.checkpointPosition);
    add(name('checkpoint time'), slot.checkpointTime);
    add(name('root page'), slot.rootPage);
    add(name('root LSN'), slot.rootLsn);
    add(name('root checksum'), slot.rootChecksum);
  });
  add('log segments', log.count === 0 ? 'none' : `${log.count}, ${log.first} to ${log.last}`);
  if (log.missing.length > 0) add('log segments missing', log.missing.join(', '));
  return rows.map(([name, value]) => `${`${name}:`.padEnd(32)}${visible(value)}\n`).join('');
}
