/**
 * Cycles of work and SIGKILL: four programs write to a mount (test/mount/records.py), the daemon is killed at a random
 * moment, and after the next mount everything that the programs were promised is verified.
 *
 * In each cycle: a mount, which may itself be killed a few times while it starts and recovers; each writer compares its
 * directory, and past states that it noted, with its model; what survived of the writers must be a prefix of what all of
 * them did together; and from time to time the whole store is checked, recovered by the library instead of the daemon.
 * Everything random comes from one seed; moments in time do not, so a seed gives the same plan and not the same run.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Settings } from '../../src/store/settings.ts';
import { type MountedStore, scriptPath, storeProblems } from './mounted-store.ts';
import { PythonProgram } from './mounting.ts';
import type { Random } from './random.ts';

const WRITERS = [1, 2, 3, 4];
/** What a program may be told when the daemon dies under it. */
const DIED = [
  'Transport endpoint is not connected',
  'Software caused connection abort',
  'Input/output error',
];
/** Small, so that a few seconds of work fill some. */
export const KILL_SEGMENT_SIZE: number = 1024 * 1024;
/** Past states compared in each cycle and by each writer. */
const PAST_STATES = 2;

/** What a writer says of itself; times are in seconds of the same clock. See records.py. */
interface Report {
  readonly problems: string[];
  readonly begun: number;
  readonly acknowledged: number;
  readonly survived: number;
  readonly acknowledgements: number;
  /** When the last step that survived began. */
  readonly began: number;
  /** The first step that was completed and did not survive, and when it ended. */
  readonly lost: { readonly step: string; readonly ended: number } | null;
  /** Steps that were begun and did not survive. */
  readonly unsaved: number;
  readonly records: number;
  readonly states: number;
}

/** The programs that write, each below a directory of its own, and what they find. */
export class Writers {
  /** Steps done, syncs acknowledged; records and past states compared; steps that were begun and did not survive. */
  readonly totals = { steps: 0, acknowledgements: 0, verified: 0, pastStates: 0, lost: 0 };
  private readonly programs: PythonProgram[];

  /** `options`: of records.py. */
  constructor(where: MountedStore, random: Random, ...options: 'small-requests'[]) {
    this.programs = WRITERS.map((writer) => {
      const directory = `${where.mountpoint}/writer-${writer}`;
      const words = [
        scriptPath('records.py'),
        directory,
        where.store,
        String(writer),
        String(random.next()),
        ...options,
      ];
      return new PythonProgram(words, '/');
    });
  }

  /** Returns when all of them write. */
  async start(): Promise<void> {
    for (const program of this.programs) program.go('{"do": "write"}');
    for (const program of this.programs) await answer(program);
  }

  /** Has them stop. */
  stop(): void {
    for (const program of this.programs) program.go('{"do": "stop"}');
  }

  /** Waits until each has stopped. Returns the error that ended it, null for none. */
  async stopped(): Promise<(string | null)[]> {
    const reasons: (string | null)[] = [];
    for (const program of this.programs) {
      reasons.push((await answer<{ stopped: string | null }>(program)).stopped);
    }
    return reasons;
  }

  /** Compares what is there with what was done. Returns what is wrong, a paragraph each. */
  async verify(): Promise<string[]> {
    const { totals } = this;
    for (const program of this.programs) program.go(`{"do": "verify", "past": ${PAST_STATES}}`);
    const reports: Report[] = [];
    for (const program of this.programs) reports.push(await answer<Report>(program));
    const problems = reports.flatMap((report) => report.problems);
    reports.forEach((report, index) => {
      totals.verified += report.records;
      totals.pastStates += report.states;
      totals.lost += report.unsaved;
      const { lost } = report;
      if (lost === null) return;
      reports.forEach((other, otherIndex) => {
        if (other.began <= lost.ended) return;
        problems.push(
          `writer ${WRITERS[index]} lost its step ${lost.step}, which was over before writer ${WRITERS[otherIndex]} began its step ${other.survived}, which survived`,
        );
      });
    });
    const sum = (of: (report: Report) => number): number =>
      reports.reduce((total, report) => total + of(report), 0);
    totals.steps = sum((report) => report.begun);
    totals.acknowledgements = sum((report) => report.acknowledgements);
    return problems;
  }

  async end(): Promise<void> {
    for (const program of this.programs) await program.end();
  }
}

async function answer<Result>(program: PythonProgram): Promise<Result> {
  return JSON.parse(await program.line()) as Result;
}

export interface KillSummary {
  cycles: number;
  kills: number;
  /** Of them, while a mount started. */
  earlyKills: number;
  /** Whole stores checked. */
  checks: number;
}

export class KillCycles {
  readonly summary: KillSummary = { cycles: 0, kills: 0, earlyKills: 0, checks: 0 };
  readonly writers: Writers;
  private readonly where: MountedStore;
  private readonly random: Random;
  /** How long a mount takes to answer, in milliseconds. */
  private startMs = 400;

  /** `where` is not mounted. */
  constructor(where: MountedStore, random: Random, ...options: 'small-requests'[]) {
    this.where = where;
    this.random = random;
    this.writers = new Writers(where, random, ...options);
  }

  /** Runs one cycle. Returns what is wrong, a paragraph each. */
  async cycle(options: { readonly check: boolean; readonly loadMs: number }): Promise<string[]> {
    this.summary.cycles++;
    const problems = await this.startAndVerify();
    if (problems.length > 0) return problems;
    await this.writers.start();
    await sleep(this.random.below(options.loadMs));
    await this.kill();
    for (const reason of await this.writers.stopped()) {
      if (reason === null || !DIED.includes(reason)) problems.push(`a writer was told: ${reason}`);
    }
    if (options.check) {
      this.summary.checks++;
      problems.push(...(await storeProblems(this.where.store)));
    }
    return problems;
  }

  /** Mounts, killing some attempts; verifies what is there. */
  async startAndVerify(): Promise<string[]> {
    const { random, where } = this;
    where.configure(this.settings());
    while (random.below(10) < 4) {
      const attempt = where.startForeground();
      await sleep(this.startMs * (0.3 + random.below(80) / 100));
      await this.kill();
      await attempt.exited;
      this.summary.earlyKills++;
    }
    const start = performance.now();
    if (!(await where.startForeground().ready)) return [`the store cannot be mounted:\n${where.log}`];
    this.startMs = performance.now() - start;
    return this.writers.verify();
  }

  private settings(): Partial<Settings> {
    const pick = <Value>(...values: Value[]): Value => values[this.random.below(values.length)]!;
    return {
      checkpointIntervalMs: pick(10, 10, 100, 5000),
      checkpointDirtyBytes: pick(1, 16) * 1024 * 1024,
      checkpointLogBytes: pick(1, 64) * 1024 * 1024,
      commitIntervalMs: pick(1, 50, 1000),
    };
  }

  private async kill(): Promise<void> {
    this.summary.kills++;
    await this.where.kill();
  }

  end(): Promise<void> {
    return this.writers.end();
  }
}
