/**
 * What a user of a directory would take instead of history: a copy of it, a repository of restic or borg, a btrfs
 * subvolume; each on the same tree of files, set up once.
 */
import { spawnSync } from 'node:child_process';
import * as fs from 'node:fs';
import { join } from 'node:path';
import { type CleanUp, diskBytes, isInstalled, run } from './measure.ts';
import type { SeededTree } from './seeded-tree.ts';

const GIB = 1024 ** 3;

/** Two trees on the native file system: one is left as it was, the other is worked in. */
export class NativeTrees {
  readonly kept: string;
  readonly work: string;

  constructor(base: string, tree: SeededTree) {
    this.kept = join(base, 'kept');
    this.work = join(base, 'work');
    tree.write(this.kept, tree.all(), 0);
    run('cp', ['-a', this.kept, this.work]);
  }

  /** Makes a part of the worked-in tree what was kept; '' for all of it. */
  restore(part: string): void {
    run('rsync', ['-a', '--delete', `${join(this.kept, part)}/`, `${join(this.work, part)}/`]);
  }
}

/** A repository with the backups of one directory. */
export interface Repository {
  /** Returns the backup's name. */
  backup(): string;
  diff(from: string, to: string): void;
  /** Restores into a directory that does not exist yet; of the backup all, or one directory. */
  restore(name: string, target: string, part?: string): void;
  list(name: string, part: string): void;
  /** What it takes on disk, in bytes. */
  bytes(): number;
}

export class Restic implements Repository {
  private readonly directory: string;
  private readonly place: string;
  private readonly environment: Readonly<Record<string, string>>;

  static whyNot(): string | undefined {
    return isInstalled('restic', 'version') ? undefined : 'not installed';
  }

  constructor(base: string, directory: string) {
    this.directory = directory;
    this.place = join(base, 'restic');
    this.environment = {
      RESTIC_REPOSITORY: this.place,
      RESTIC_CACHE_DIR: join(base, 'restic-cache'),
      RESTIC_PASSWORD: 'benchmark',
      RESTIC_PROGRESS_FPS: '0.1',
    };
    this.restic(['init'], true);
  }

  backup(): string {
    const output = this.restic(['backup', '--json', '--quiet', this.directory], false);
    const id = /"snapshot_id":"([0-9a-f]+)"/.exec(output)?.[1];
    if (id === undefined) throw new Error('restic backup did not say which snapshot it made');
    return id;
  }

  diff(from: string, to: string): void {
    this.restic(['diff', from, to], true);
  }

  restore(name: string, target: string, part?: string): void {
    const include = part === undefined ? [] : ['--include', join(this.directory, part)];
    this.restic(['restore', name, '--target', target, ...include], true);
  }

  list(name: string, part: string): void {
    this.restic(['ls', name, join(this.directory, part)], true);
  }

  bytes(): number {
    return diskBytes(this.place);
  }

  private restic(args: readonly string[], quiet: boolean): string {
    return run('restic', args, { quiet, environment: this.environment });
  }
}

export class Borg implements Repository {
  private readonly directory: string;
  private readonly place: string;
  private readonly environment: Readonly<Record<string, string>>;
  private count = 0;

  static whyNot(): string | undefined {
    return isInstalled('borg') ? undefined : 'not installed';
  }

  constructor(base: string, directory: string) {
    this.directory = directory;
    this.place = join(base, 'borg');
    this.environment = {
      BORG_REPO: this.place,
      BORG_BASE_DIR: join(base, 'borg-base'),
      BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK: 'yes',
    };
    this.borg(['init', '--encryption=none']);
  }

  backup(): string {
    const name = `backup-${++this.count}`;
    this.borg(['create', `::${name}`, this.directory]);
    return name;
  }

  diff(from: string, to: string): void {
    this.borg(['diff', `::${from}`, to]);
  }

  restore(name: string, target: string, part = ''): void {
    fs.mkdirSync(target);
    this.borg(['extract', `::${name}`, this.within(part)], target);
  }

  list(name: string, part: string): void {
    this.borg(['list', `::${name}`, this.within(part)]);
  }

  bytes(): number {
    return diskBytes(this.place);
  }

  /** The path of a part in an archive. */
  private within(part: string): string {
    return join(this.directory, part).slice(1);
  }

  private borg(args: readonly string[], directory?: string): void {
    const where = directory === undefined ? {} : { directory };
    run('borg', args, { quiet: true, environment: this.environment, ...where });
  }
}

/** A subvolume on a file system of its own, in a sparse file. */
export class Btrfs {
  readonly subvolume: string;
  private readonly top: string;

  static whyNot(): string | undefined {
    if (process.getuid?.() !== 0) return 'needs root';
    if (!isInstalled('mkfs.btrfs') || !isInstalled('btrfs')) return 'not installed';
    // Where it is a module the kernel knows it only after it was loaded.
    spawnSync('modprobe', ['btrfs'], { stdio: 'ignore', timeout: 10_000 });
    return /\bbtrfs$/m.test(fs.readFileSync('/proc/filesystems', 'utf8'))
      ? undefined
      : 'the kernel does not know it';
  }

  /** @throws Error when it cannot be made or mounted */
  constructor(base: string, tree: SeededTree, cleanUp: CleanUp) {
    const image = join(base, 'btrfs.image');
    this.top = join(base, 'btrfs');
    fs.writeFileSync(image, '');
    fs.truncateSync(image, 4 * GIB + tree.files * 16 * 1024 + tree.bytes);
    fs.mkdirSync(this.top);
    run('mkfs.btrfs', ['-q', image]);
    run('mount', ['-o', 'loop', image, this.top]);
    cleanUp.add(() => {
      try {
        run('umount', [this.top]);
      } catch {
        // A program of ours may still be in it: then it goes when that ends.
        run('umount', ['-l', this.top]);
      }
    });
    this.subvolume = join(this.top, 'tree');
    run('btrfs', ['subvolume', 'create', this.subvolume], { quiet: true });
    tree.write(this.subvolume, tree.all(), 0);
    this.sync();
  }

  sync(): void {
    run('btrfs', ['filesystem', 'sync', this.top], { quiet: true });
  }

  path(name: string): string {
    return join(this.top, name);
  }

  /** Bytes of data and metadata in use, metadata once, although there are two copies. */
  bytes(): number {
    this.sync();
    const output = run('btrfs', ['filesystem', 'df', '-b', this.top]);
    const used = (kind: string): number =>
      Number(new RegExp(`^${kind},.*used=(\\d+)`, 'm').exec(output)?.[1]);
    return used('Data') + used('Metadata');
  }

  snapshot(name: string): void {
    run('btrfs', ['subvolume', 'snapshot', '-r', this.subvolume, this.path(name)], { quiet: true });
  }

  delete(name: string): void {
    run('btrfs', ['subvolume', 'delete', this.path(name)], { quiet: true });
  }

  /** Finds out what changed, without the data, and throws it away. */
  send(from: string, to: string): void {
    run('btrfs', ['send', '-q', '--no-data', '-p', this.path(from), this.path(to)], { quiet: true });
  }

  /** Puts a writable snapshot of a snapshot in the place of the subvolume, durably; the old one is left at `aside`. */
  swap(name: string, aside: string): void {
    const fresh = this.path('fresh');
    run('btrfs', ['subvolume', 'snapshot', this.path(name), fresh], { quiet: true });
    fs.renameSync(this.subvolume, this.path(aside));
    fs.renameSync(fresh, this.subvolume);
    this.sync();
  }
}
