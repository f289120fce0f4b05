/**
 * A row of the history benchmark: what lsnfs does and what a user would do instead, in turn, so that what else the machine
 * does hits all alike.
 */
import { OWN, type Report, type Row } from './report.ts';

export interface Work {
  /** Not measured; what it writes is on disk before the rest. */
  readonly before?: (round: number) => unknown;
  /** Not measured either; what it writes is left to `run` as it is. */
  readonly dirty?: (round: number) => void;
  /** Measured until it resolves. */
  readonly run: (round: number) => unknown;
  /** Not measured. */
  readonly after?: (round: number) => unknown;
}

/** What each system does, or why it does not. */
export type Works = Readonly<Record<string, Work | string>>;

export class Turns {
  private readonly report: Report;
  private readonly rounds: number;
  private readonly settle: () => void;

  /** `settle` is called before each measurement. */
  constructor(report: Report, rounds: number, settle: () => void) {
    this.report = report;
    this.rounds = rounds;
    this.settle = settle;
  }

  /**
   * Measures a row, if it is wanted, in milliseconds. Every other round goes backwards, so that nobody always finds what another
   * has left in caches. A peer that fails is said to have; lsnfs must not. `peerRounds`: peers are in the first rounds only.
   * `remark`: what there is to know of it afterwards.
   */
  async measure(
    row: Omit<Row, 'unit'>,
    works: Works,
    options: {
      readonly rounds?: number;
      readonly peerRounds?: number;
      readonly remark?: () => string;
    } = {},
  ): Promise<void> {
    const { title } = row;
    const { report } = this;
    const { rounds = this.rounds, peerRounds = rounds, remark } = options;
    const forwards = Object.entries(works);
    const backwards = [...forwards].reverse();
    if (!report.declare({ ...row, unit: 'ms' })) return;
    const failed = new Set<string>();
    for (let round = 0; round < rounds; round++) {
      for (const [system, work] of round % 2 === 0 ? forwards : backwards) {
        if (failed.has(system) || (system !== OWN && round >= peerRounds)) continue;
        try {
          if (typeof work === 'string') throw new Error(work);
          report.add(title, system, await this.milliseconds(work, round));
        } catch (error) {
          if (system === OWN && typeof work !== 'string') throw error;
          failed.add(system);
          report.miss(title, system, (error as Error).message);
        }
      }
    }
    if (remark !== undefined) report.remark(title, remark());
    process.stderr.write(`${report.summary(title)}\n`);
  }

  private async milliseconds(work: Work, round: number): Promise<number> {
    await work.before?.(round);
    // Programs are run synchronously: only here somebody who wants to end it is heard.
    await new Promise((resolve) => setImmediate(resolve));
    this.settle();
    work.dirty?.(round);
    const start = performance.now();
    await work.run(round);
    const time = performance.now() - start;
    await work.after?.(round);
    return time;
  }
}
