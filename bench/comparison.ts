/**
 * One row of the history benchmark: what lsnfs does and what a user would do instead, in turn, so that what else the
 * machine does hits all alike; and the table of all rows.
 */
import { median } from './measure.ts';
import { significant } from './systems.ts';

export interface Work {
  /** Not measured. */
  readonly before?: (round: number) => unknown;
  /** Measured until it resolves. */
  readonly run: (round: number) => unknown;
  /** Not measured. */
  readonly after?: (round: number) => unknown;
}

export interface Peer {
  readonly name: string;
  /** Or why it is not measured. */
  readonly work: Work | string;
}

export interface Result {
  readonly files: number;
  readonly title: string;
  /** 'ms': less is better. '/s': more is. */
  readonly unit: 'ms' | '/s';
  /** One of each round. */
  readonly own: readonly number[];
  readonly peer: string | null;
  readonly values: readonly number[];
  /** Why the peer has no values. */
  readonly leftOut: string | null;
  /** What else there is to know of the row. */
  readonly note: string;
}

export class Report {
  readonly results: Result[] = [];
  private readonly only: RegExp;
  private readonly rounds: number;
  private readonly settle: () => void;

  /** `settle` is called before each measurement. */
  constructor(only: RegExp, rounds: number, settle: () => void) {
    this.only = only;
    this.rounds = rounds;
    this.settle = settle;
  }

  isWanted(title: string): boolean {
    return this.only.test(title);
  }

  /**
   * Measures a row, if it is wanted, in milliseconds. A peer that fails is said to have; lsnfs must not. `peerRounds`: peers
   * are in the first rounds only.
   */
  async compare(
    files: number,
    title: string,
    own: Work,
    peers: readonly Peer[],
    options: { readonly peerRounds?: number; readonly note?: () => string } = {},
  ): Promise<void> {
    if (!this.isWanted(title)) return;
    const { peerRounds = this.rounds } = options;
    const ownValues: number[] = [];
    const measured = peers.map(({ name, work }) => ({
      name,
      work,
      values: [] as number[],
      leftOut: typeof work === 'string' ? work : null,
    }));
    for (let round = 0; round < this.rounds; round++) {
      ownValues.push(await this.milliseconds(own, round));
      if (round >= peerRounds) continue;
      for (const peer of measured) {
        if (peer.leftOut !== null || typeof peer.work === 'string') continue;
        try {
          peer.values.push(await this.milliseconds(peer.work, round));
        } catch (error) {
          peer.leftOut = `failed: ${(error as Error).message}`;
        }
      }
    }
    const note = options.note?.() ?? '';
    const row = { files, title, unit: 'ms', own: ownValues, note } as const;
    if (measured.length === 0) this.add({ ...row, peer: null, values: [], leftOut: null });
    for (const { name, values, leftOut } of measured) this.add({ ...row, peer: name, values, leftOut });
  }

  add(result: Result): void {
    if (!this.isWanted(result.title)) return;
    this.results.push(result);
    process.stderr.write(`${lineOf(result)}\n`);
  }

  private async milliseconds(work: Work, round: number): Promise<number> {
    await work.before?.(round);
    this.settle();
    const start = performance.now();
    await work.run(round);
    const time = performance.now() - start;
    await work.after?.(round);
    return time;
  }

  table(): string {
    const head = '| files | | lsnfs | beside | its figure | lsnfs is ahead by | |';
    return [head, '|---:|---|---:|---|---:|---:|---|', ...this.results.map(lineOf)].join('\n');
  }
}

function lineOf({ files, title, unit, own, peer, values, leftOut, note }: Result): string {
  const other = leftOut ?? (values.length > 0 ? figure(values, unit) : '–');
  let ratio = '–';
  if (leftOut === null && values.length > 0) {
    const [mine, its] = [median(own), median(values)];
    ratio = `${significant(unit === 'ms' ? its / mine : mine / its)} ×`;
  }
  const cells = [files.toLocaleString('en'), title, figure(own, unit), peer ?? '–', other, ratio, note];
  return `| ${cells.map((cell) => cell.replaceAll('|', '\\|').replaceAll('\n', ' ')).join(' | ')} |`;
}

/** Median (least–most) unit. */
function figure(values: readonly number[], unit: Result['unit']): string {
  const [least, most] = [Math.min(...values), Math.max(...values)];
  return `${significant(median(values))} (${significant(least)}–${significant(most)}) ${unit}`;
}
