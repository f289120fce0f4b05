/**
 * Rows that several systems are measured in, one figure a round: the table of them, ratios first, as Markdown and as JSON, and
 * how the ratios compare with those of an earlier run.
 */
import * as fs from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { median } from './measure.ts';

export type Unit = 'ms' | '/s' | 'MiB';

export interface Row {
  readonly title: string;
  /** Of '/s' more is better, of the others less. */
  readonly unit: Unit;
  /** By how much lsnfs is to be ahead, and of whom: of one system, or of the best of all. */
  readonly target?: { readonly ratio: number; readonly of: string };
}

export const BEST = 'the best';
export const OWN = 'lsnfs';

interface Cell {
  readonly values: number[];
  /** Why there is no value. */
  missing: string | undefined;
}

/** What `toJson` writes, and `--compare` reads. */
interface Saved {
  readonly results: Record<string, Record<string, { readonly values: readonly number[] }>>;
}

export class SystemsReport {
  private readonly rows: readonly Row[];
  private readonly systems: readonly string[];
  private readonly cells = new Map<string, Cell>();
  private readonly loadBefore = loadavg();

  constructor(rows: readonly Row[], systems: readonly string[]) {
    this.rows = rows;
    this.systems = systems;
  }

  private cell(row: string, system: string): Cell {
    const key = `${row}\n${system}`;
    let cell = this.cells.get(key);
    if (cell === undefined) {
      cell = { values: [], missing: undefined };
      this.cells.set(key, cell);
    }
    return cell;
  }

  add(row: string, system: string, value: number): void {
    this.cell(row, system).values.push(value);
  }

  /** The first reason counts. */
  miss(row: string, system: string, reason: string): void {
    this.cell(row, system).missing ??= reason;
  }

  /** How many times better lsnfs is in a row, or undefined. */
  private ratio(row: Row, system: string): number | undefined {
    const own = this.cell(row.title, OWN).values;
    const peer = this.cell(row.title, system).values;
    return own.length === 0 || peer.length === 0 ? undefined : aheadBy(row.unit, own, peer);
  }

  private get peers(): string[] {
    return this.systems.filter((system) => system !== OWN);
  }

  /** The ratio that the target speaks of. */
  private targetRatio(row: Row): number | undefined {
    const { target } = row;
    if (target === undefined) return undefined;
    const of = target.of === BEST ? this.peers : [target.of];
    const ratios = of.map((peer) => this.ratio(row, peer)).filter((ratio) => ratio !== undefined);
    return ratios.length === 0 ? undefined : Math.min(...ratios);
  }

  private markdown(): string {
    const head = ['', 'target', ...this.peers.map((peer) => `: ${peer}`), ...this.systems, 'unit'];
    const lines = [head, head.map((_, column) => (column === 0 ? '---' : '---:'))];
    const reasons: string[] = [];
    for (const row of this.rows) {
      const cells = this.systems.map((system) => {
        const { values, missing } = this.cell(row.title, system);
        if (missing !== undefined) reasons.push(`${row.title}, ${system}: ${missing}`);
        return values.length === 0 ? '–' : figure(values);
      });
      if (cells.every((cell) => cell === '–')) continue;
      const ratios = this.peers.map((peer) => {
        const ratio = this.ratio(row, peer);
        return ratio === undefined ? '–' : significant(ratio);
      });
      lines.push([row.title, this.verdict(row), ...ratios, ...cells, row.unit]);
    }
    const table = lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
    return reasons.length === 0
      ? table
      : `${table}\n\nNot measured:\n${reasons.map((reason) => `- ${reason}`).join('\n')}`;
  }

  private verdict(row: Row): string {
    const { target } = row;
    if (target === undefined) return '';
    const ratio = this.targetRatio(row);
    const text = `${target.ratio} × ${target.of}`;
    return ratio === undefined ? text : `${text}: ${ratio >= target.ratio ? 'met' : '**missed**'}`;
  }

  /** What an earlier run said, by ratio to each peer of the same run. */
  private compareWith(file: string): string {
    const { results } = JSON.parse(fs.readFileSync(file, 'utf8')) as Saved;
    const lines = ['| | beside | before | now | change |', '|---|---|---:|---:|---:|'];
    for (const row of this.rows) {
      const before = results[row.title];
      const own = before?.[OWN]?.values ?? [];
      for (const peer of this.peers) {
        const now = this.ratio(row, peer);
        const values = before?.[peer]?.values ?? [];
        if (now === undefined || own.length === 0 || values.length === 0) continue;
        const then = aheadBy(row.unit, own, values);
        const change = now / then - 1;
        const text = `${change < 0 ? '' : '+'}${Math.round(change * 100)} %`;
        lines.push(
          `| ${row.title} | ${peer} | ${significant(then)} | ${significant(now)} | ${change < -0.2 ? `**${text}**` : text} |`,
        );
      }
    }
    return lines.join('\n');
  }

  /** Prints the table with what there is to know of it, writes the JSON and compares, as far as that is asked for. */
  conclude(
    notes: readonly string[],
    facts: object,
    wanted: { readonly json?: string | undefined; readonly compare?: string | undefined },
  ): void {
    const { loadBefore } = this;
    const load = `Load average before: ${loadBefore.map((x) => x.toFixed(1)).join(' ')}`;
    const lines = [machine(), ...notes, load].map((line) => `- ${line}`);
    process.stdout.write(`${this.markdown()}\n\n${lines.join('\n')}\n`);
    const about = { machine: machine(), ...facts, loadBefore, loadAfter: loadavg() };
    if (wanted.json !== undefined) fs.writeFileSync(wanted.json, this.toJson(about));
    if (wanted.compare !== undefined) process.stdout.write(`\n${this.compareWith(wanted.compare)}\n`);
  }

  private toJson(about: object): string {
    const results: Record<string, Record<string, object>> = {};
    for (const { title, unit } of this.rows) {
      for (const system of this.systems) {
        const { values, missing } = this.cell(title, system);
        if (values.length === 0 && missing === undefined) continue;
        results[title] ??= {};
        results[title][system] = { unit, values, ...(missing !== undefined && { missing }) };
      }
    }
    return `${JSON.stringify({ about, results }, null, 2)}\n`;
  }
}

function aheadBy(unit: Unit, own: readonly number[], peer: readonly number[]): number {
  const [mine, its] = [median(own), median(peer)];
  return unit === '/s' ? mine / its : its / mine;
}

/** Median, and how far the rounds lie apart. */
function figure(values: readonly number[]): string {
  const middle = significant(median(values));
  if (values.length === 1) return middle;
  return `${middle} (${significant(Math.min(...values))}–${significant(Math.max(...values))})`;
}

/** Three digits that mean something. */
export function significant(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
}

/** The machine, and a file system on it, for the reader of a table. */
export function machine(fileSystem?: string): string {
  const models = cpus().map(({ model }) => model);
  const system = fileSystem === undefined ? release() : `${release()}, ${fileSystem}`;
  return `${models.length} × ${models[0] ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB; Linux ${system}; Node ${process.version}`;
}
