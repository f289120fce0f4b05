/**
 * The soak run: eight programs of different kinds (test/mount/soak-worker.py) work on one mount, and one after the other is
 * killed by SIGKILL at a random moment and started again; snapshots come and go meanwhile.
 *
 * What must hold: each worker, started again, finds all that it was promised; none stands still; a killed process
 * is gone in time, so no request of it stays unanswered; at the end the kernel waits for no answer (the connection's
 * `waiting` is 0), the daemon has logged no failure, and the store is sound. Everything random comes from one seed;
 * moments in time do not.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { listMounts } from '../../fuse/mountinfo.ts';
import { systemErrorCode } from '../../src/errors.ts';
import { type MountedStore, scriptPath } from './mounted-store.ts';
import type { Random } from './random.ts';

const KINDS = ['files', 'mapped', 'renames', 'locks', 'trees', 'database', 'large', 'past'] as const;
type Kind = (typeof KINDS)[number];
/** The longest that a worker may take for a step, or a killed process to be gone: far beyond a machine under load. */
const PATIENCE_MS = 120_000;
const SNAPSHOTS_KEPT = 4;

/** One worker, through all its lives. */
class Worker {
  readonly kind: Kind;
  kills = 0;
  steps = 0;
  lastProgress = performance.now();
  /** Errors that the kernel remembered of a life that was killed. */
  errorsTaken = 0;
  /** Whether it has made a step in this life. */
  isAtWork = false;
  private readonly where: MountedStore;
  private readonly random: Random;
  private child: ChildProcess | undefined;
  private closed: Promise<unknown> = Promise.resolve();
  private wanted = false;
  private errors = '';
  private readonly problems: string[];

  constructor(kind: Kind, where: MountedStore, random: Random, problems: string[]) {
    this.kind = kind;
    this.where = where;
    this.random = random;
    this.problems = problems;
  }

  start(mode?: 'verify'): void {
    const { kind, where } = this;
    const journal = join(where.base, `soak-${kind}`);
    const words = [scriptPath('soak-worker.py'), kind, join(where.mountpoint, kind), journal];
    // A process group of its own: a kill takes its children along.
    const child = spawn(
      'python3',
      [...words, String(this.random.next()), ...(mode === undefined ? [] : [mode])],
      {
        cwd: '/',
        detached: true,
        stdio: ['ignore', 'pipe', 'pipe'],
      },
    );
    this.child = child;
    this.wanted = true;
    this.errors = '';
    this.isAtWork = false;
    this.lastProgress = performance.now();
    child.stdout!.on('data', (text: Buffer) => {
      // Words of one life come in order, and errors first.
      for (const [, count] of text.toString('latin1').matchAll(/errors (\d+)/g))
        this.errorsTaken += Number(count);
      const steps = text.toString('latin1').split('step').length - 1;
      this.steps += steps;
      this.isAtWork ||= steps > 0;
      this.lastProgress = performance.now();
    });
    child.stderr!.setEncoding('utf8').on('data', (text: string) => {
      this.errors += text;
    });
    this.closed = once(child, 'close').then(([code, signal]) => {
      if (this.wanted && (mode === undefined || code !== 0)) {
        this.problems.push(`${kind} ended by itself (${code ?? signal}):\n${this.errors}`);
      }
    });
  }

  /** SIGKILL for it and its children. Returns whether it is gone in time. */
  async kill(): Promise<boolean> {
    this.kills++;
    this.wanted = false;
    try {
      process.kill(-this.child!.pid!, 'SIGKILL');
    } catch (error) {
      if (systemErrorCode(error) !== 'ESRCH') throw error;
    }
    return this.ended();
  }

  /** Waits for its end. */
  async ended(): Promise<boolean> {
    const gone = await Promise.race([
      this.closed.then(() => true),
      sleep(PATIENCE_MS, false, { ref: false }),
    ]);
    if (!gone) this.problems.push(`${this.kind} does not end:\n${this.stack()}`);
    return gone;
  }

  /** Says so if it has stood still. */
  watch(): boolean {
    if (performance.now() - this.lastProgress < PATIENCE_MS) return true;
    this.problems.push(`${this.kind} stands still:\n${this.stack()}`);
    return false;
  }

  /** Where in the kernel it waits. */
  private stack(): string {
    try {
      return readFileSync(`/proc/${this.child!.pid}/stack`, 'utf8');
    } catch (error) {
      return String(error);
    }
  }
}

export interface SoakSummary {
  readonly kills: number;
  readonly steps: Readonly<Record<string, number>>;
  readonly snapshots: number;
  /** Errors that the kernel remembered of killed processes (see soak-worker.py). */
  readonly errorsTaken: number;
}

/** Runs it on a mounted store for so long. Returns what was found wrong, and what was done. */
export async function soak(
  where: MountedStore,
  random: Random,
  milliseconds: number,
  say: (text: string) => void,
): Promise<{ problems: string[]; summary: SoakSummary }> {
  const problems: string[] = [];
  const workers = KINDS.map((kind) => new Worker(kind, where, random, problems));
  const end = performance.now() + milliseconds;
  let snapshots = 0;
  let told = performance.now();
  const works = () => problems.length === 0 && performance.now() < end;
  const count = () => workers.reduce((sum, worker) => sum + worker.kills, 0);

  const killing = async () => {
    while (works()) {
      await sleep(50 + random.below(500));
      const worker = workers[random.below(workers.length)]!;
      // Mostly at work, sometimes while it starts and verifies.
      if (!worker.isAtWork && random.below(8) > 0) continue;
      if (!(await worker.kill())) return;
      worker.start();
    }
  };
  const snapshotting = async () => {
    for (; works(); snapshots++) {
      await where.ask('snapshotCreate', { name: `s-${snapshots}` });
      if (snapshots >= SNAPSHOTS_KEPT)
        await where.ask('snapshotDelete', { name: `s-${snapshots - SNAPSHOTS_KEPT}` });
      await sleep(300 + random.below(1000));
    }
  };
  const watching = async () => {
    for (; works() && workers.every((worker) => worker.watch()); await sleep(200)) {
      if (performance.now() - told < 10_000) continue;
      told = performance.now();
      say(`${count()} kills; steps: ${workers.map((worker) => `${worker.kind} ${worker.steps}`).join(', ')}`);
    }
  };

  for (const worker of workers) worker.start();
  try {
    await Promise.all([killing(), snapshotting(), watching()]);
  } finally {
    for (const worker of workers) await worker.kill();
  }
  if (problems.length === 0) {
    for (const worker of workers) worker.start('verify');
    for (const worker of workers) await worker.ended();
  }
  problems.push(...(await stillWaiting(where)), ...failuresLogged(where));
  const steps = Object.fromEntries(workers.map((worker) => [worker.kind, worker.steps]));
  const errorsTaken = workers.reduce((sum, worker) => sum + worker.errorsTaken, 0);
  return { problems, summary: { kills: count(), steps, snapshots, errorsTaken } };
}

/** Requests that the kernel has no answer to, when nobody asks for anything. */
async function stillWaiting(where: MountedStore): Promise<string[]> {
  const connection = listMounts().find((mount) => mount.mountpoint === where.mountpoint)?.connection;
  const control = join(where.base, 'fusectl');
  if (!existsSync(control)) {
    mkdirSync(control);
    await where.shell(`mount -t fusectl none '${control}'`, '/');
  }
  const file = join(control, String(connection), 'waiting');
  // Of what was killed, a release may be under way still.
  let waiting = readFileSync(file, 'latin1').trim();
  for (let waited = 0; waiting !== '0' && waited < PATIENCE_MS; waited += 50) {
    await sleep(50);
    waiting = readFileSync(file, 'latin1').trim();
  }
  return waiting === '0' ? [] : [`${waiting} requests stay unanswered`];
}

function failuresLogged(where: MountedStore): string[] {
  const lines = where.log.split('\n').filter((line) => / failed: |unexpected|died/.test(line));
  return lines.length === 0 ? [] : [`the daemon's log:\n${lines.slice(0, 20).join('\n')}`];
}
