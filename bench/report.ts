/**
 * The report of every benchmark: rows that several systems are measured in, one figure a round; the table of them, ratios first,
 * as Markdown and as JSON, and how the ratios compare with those of an earlier run.
 */
import * as fs from 'node:fs';
import { cpus, loadavg, release, totalmem } from 'node:os';
import { median } from './measure.ts';

export type Unit = 'ms' | '/s' | 'MiB' | '%' | '×';

/** By how much lsnfs is to be ahead, and of whom: of one system, or of the best of all; or what its own figure may be. */
export type Target = { readonly ratio: number; readonly of: string } | { readonly atMost: number };

export interface Row {
  readonly title: string;
  /** Of '/s' more is better, of the others less. */
  readonly unit: Unit;
  readonly target?: Target;
}

export const BEST = 'the best';
export const OWN = 'lsnfs';

/** Up to so many rows that a system is missing in are named. */
const NAMED_ROWS = 5;

interface Cell {
  readonly values: number[];
  /** Why there is no value. */
  missing: string | undefined;
}

/** What `toJson` writes, and `--compare` reads. */
interface Saved {
  readonly results: Record<string, Record<string, { readonly values: readonly number[] }>>;
}

/** What every benchmark has to say, and is asked for. */
export interface Conclusion {
  readonly notes: readonly string[];
  readonly facts: object;
  /** What all was on. */
  readonly fileSystem?: string;
  readonly json?: string | undefined;
  readonly compare?: string | undefined;
}

export class Report {
  private readonly rows: Row[] = [];
  private readonly only: RegExp;
  private readonly systems: readonly string[];
  private readonly cells = new Map<string, Cell>();
  /** What there is to know of rows, by title. */
  private readonly remarks = new Map<string, string>();
  private readonly loadBefore = loadavg();

  /** `only` says which rows are wanted, by title. */
  constructor(systems: readonly string[], only: RegExp) {
    this.systems = systems;
    this.only = only;
  }

  isWanted(title: string): boolean {
    return this.only.test(title);
  }

  /** Rows come in the order in which they are declared. Returns whether this one is wanted. */
  declare(row: Row): boolean {
    if (!this.isWanted(row.title)) return false;
    if (this.rows.every(({ title }) => title !== row.title)) this.rows.push(row);
    return true;
  }

  remark(row: string, text: string): void {
    this.remarks.set(row, text);
  }

  /** A row in one line, for who watches. */
  summary(row: string): string {
    const figures = this.systems.flatMap((system) => {
      const { values } = this.cell(row, system);
      return values.length === 0 ? [] : [`${system} ${figure(values)}`];
    });
    return `${row}: ${figures.join(', ')}`;
  }

  /** What was added so far, one of each round. */
  values(row: string, system: string): readonly number[] {
    return this.cell(row, system).values;
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
    if (target === undefined || !('ratio' in target)) return undefined;
    const of = target.of === BEST ? this.peers : [target.of];
    const ratios = of.map((peer) => this.ratio(row, peer)).filter((ratio) => ratio !== undefined);
    return ratios.length === 0 ? undefined : Math.min(...ratios);
  }

  private markdown(): string {
    const hasValue = (system: string): boolean =>
      this.rows.some(({ title }) => this.values(title, system).length > 0);
    const systems = this.systems.filter(hasValue);
    const peers = this.peers.filter(hasValue);
    const head = ['', 'target', ...peers.map((peer) => `: ${peer}`), ...systems, 'unit'];
    const lines = [head, head.map((_, column) => (column === 0 ? '---' : '---:'))];
    /** The rows of each system and reason. */
    const reasons = new Map<string, string[]>();
    for (const row of this.rows) {
      for (const system of this.systems) {
        const { missing } = this.cell(row.title, system);
        if (missing === undefined) continue;
        const reason = `${system}: ${missing}`;
        reasons.set(reason, [...(reasons.get(reason) ?? []), row.title]);
      }
      const cells = systems.map((system) => {
        const values = this.values(row.title, system);
        return values.length === 0 ? '–' : figure(values);
      });
      if (cells.every((cell) => cell === '–')) continue;
      const ratios = peers.map((peer) => {
        const ratio = this.ratio(row, peer);
        return ratio === undefined ? '–' : significant(ratio);
      });
      lines.push([row.title, this.verdict(row), ...ratios, ...cells, row.unit]);
    }
    const table = lines.map((cells) => `| ${cells.join(' | ')} |`).join('\n');
    const remarks = Array.from(this.remarks, ([row, text]) => `- ${row}: ${text}`);
    const missing = Array.from(reasons, ([reason, rows]) => {
      const named = rows.length > NAMED_ROWS ? `${rows.length} rows` : rows.join('; ');
      return `- ${oneLine(reason)} (${named})`;
    });
    const lists = [
      ['To the rows:', ...remarks],
      ['Not measured:', ...missing],
    ].filter(({ length }) => length > 1);
    return [table, ...lists.map((list) => list.join('\n'))].join('\n\n');
  }

  private verdict(row: Row): string {
    const { target } = row;
    if (target === undefined) return '';
    if ('atMost' in target) {
      const own = this.values(row.title, OWN);
      const text = `at most ${target.atMost}`;
      return own.length === 0 ? text : `${text}: ${met(median(own) <= target.atMost)}`;
    }
    const ratio = this.targetRatio(row);
    const text = `${significant(target.ratio)} × ${target.of}`;
    return ratio === undefined ? text : `${text}: ${met(ratio >= target.ratio)}`;
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
  conclude({ notes, facts, fileSystem, json, compare }: Conclusion): void {
    const { loadBefore } = this;
    const load = `Load average before: ${loadBefore.map((x) => x.toFixed(1)).join(' ')}`;
    const lines = [machine(fileSystem), ...notes, load].map((line) => `- ${line}`);
    process.stdout.write(`${this.markdown()}\n\n${lines.join('\n')}\n`);
    const about = { machine: machine(fileSystem), ...facts, loadBefore, loadAfter: loadavg() };
    if (json !== undefined) fs.writeFileSync(json, this.toJson(about));
    if (compare !== undefined) process.stdout.write(`\n${this.compareWith(compare)}\n`);
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
    const remarks = Object.fromEntries(this.remarks);
    return `${JSON.stringify({ about, results, remarks }, null, 2)}\n`;
  }
}

function aheadBy(unit: Unit, own: readonly number[], peer: readonly number[]): number {
  const [mine, its] = [median(own), median(peer)];
  return unit === '/s' ? mine / its : its / mine;
}

function met(isMet: boolean): string {
  return isMet ? 'met' : '**missed**';
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ');
}

/** Median, and how far the rounds lie apart. */
function figure(values: readonly number[]): string {
  const middle = significant(median(values));
  if (values.length === 1) return middle;
  return `${middle} (${significant(Math.min(...values))}–${significant(Math.max(...values))})`;
}

/** Three digits that mean something. */
function significant(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString('en') : String(Number(value.toPrecision(3)));
}

/** The machine, and a file system on it, for the reader of a table. */
export function machine(fileSystem?: string): string {
  const models = cpus().map(({ model }) => model);
  const system = fileSystem === undefined ? release() : `${release()}, ${fileSystem}`;
  return `${models.length} × ${models[0] ?? 'unknown'}, ${Math.round(totalmem() / 2 ** 30)} GiB; Linux ${system}; Node ${process.version}`;
}
