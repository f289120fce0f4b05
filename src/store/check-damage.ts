/**
 * What a check finds: damages, and which versions each of them hits.
 *
 * Versions are numbered by a check from the newest, 0, to the oldest; NEWEST_STATE stands for the state that the log
 * makes of the newest version. A damage in a page that versions share is found once and attributed to each of them, in
 * ascending order of these numbers, so that consecutive versions become one range.
 *
 * The list is bounded: what is found beyond `limit` is counted, and no more.
 */

/** The state after all of the log, as a version's number. */
export const NEWEST_STATE = -1;

/** What of a file system a damage takes away; the paths are looked up when all is known. */
export type Loss =
  /** An inode, or the bytes [start, end) of its content. */
  | { readonly kind: 'inode'; readonly inode: number; readonly start?: number; readonly end?: number }
  /** Everything about the inodes from `first` to `last`. */
  | { readonly kind: 'inodes'; readonly first: number; readonly last: number }
  /** The directory entries between two keys of the namespace. */
  | { readonly kind: 'names'; readonly from: Buffer | undefined; readonly to: Buffer | undefined }
  /** The snapshots between two names. */
  | { readonly kind: 'snapshots'; readonly from: Buffer | undefined; readonly to: Buffer | undefined };

export type DamageKind = 'control' | 'settings' | 'log' | 'page' | 'data' | 'space' | 'structure';

/** What is known of a damage when it is found. */
export interface Finding {
  readonly kind: DamageKind;
  /** Name of the file in the store's directory. */
  readonly file: string;
  /** Byte offset in that file. */
  readonly offset?: number;
  /** First page, and how many are hit in one piece. */
  readonly page?: number;
  readonly pages?: number;
  /** Place in the log. */
  readonly lsn?: number;
  /** One sentence: what was expected, what was found. */
  readonly message: string;
  readonly loss?: Loss;
}

export class Damage {
  readonly finding: Finding;
  /** Ranges of version numbers [newest, oldest], ascending and not adjacent. */
  readonly versions: [number, number][] = [];
  /** States between versions that are hit: [from, to) as LSNs. */
  readonly states: [number, number][] = [];

  constructor(finding: Finding) {
    this.finding = finding;
  }

  /** Attributes the damage to a version; numbers come in ascending order. */
  hit(version: number): void {
    const last = this.versions.at(-1);
    if (last !== undefined && version <= last[1]) return;
    if (last !== undefined && version === last[1] + 1) last[1] = version;
    else this.versions.push([version, version]);
  }
}

export class DamageList {
  readonly listed: Damage[] = [];
  /** All that were found, listed or not. */
  count = 0;
  private readonly limit: number;
  private readonly onFound: ((finding: Finding) => void) | undefined;

  constructor(limit: number, onFound?: (finding: Finding) => void) {
    this.limit = limit;
    this.onFound = onFound;
  }

  get isFull(): boolean {
    return this.listed.length >= this.limit;
  }

  /** Adds a damage; undefined when it is only counted. */
  add(finding: Finding): Damage | undefined {
    this.count++;
    if (this.isFull) return undefined;
    const damage = new Damage(finding);
    this.listed.push(damage);
    this.onFound?.(finding);
    return damage;
  }
}
