/**
 * A PostgreSQL server in a directory, run by the user nobody, reached through a socket outside of it; and clients that
 * know what they were promised.
 *
 * The ledger: each client inserts rows numbered from 1 on, one a transaction, whose content says what it must be, and takes
 * note of a row when it is told that it is committed. So whatever happens to the server, the rows of a client are 1 to k, with k at
 * least what it was told and at most one more. pgbench adds the same amount to an account, a teller and a branch and writes
 * it down, in one transaction: so all sums are the same.
 */
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { closeSync, existsSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { MountedStore } from '../helpers/mounted-store.ts';
import { LineProgram } from '../helpers/mounting.ts';
import { until } from '../helpers/waiting.ts';
import { processesIn, programPath, quoted, type Scene, within } from './harness.ts';

/** What the cases need. */
export const POSTGRESQL_PROGRAMS = [
  'initdb',
  'postgres',
  'pgbench',
  'psql',
  'pg_amcheck',
  'pg_checksums',
  'pg_isready',
  'setpriv',
];
/** Every Debian has this user, who owns nothing. PostgreSQL refuses to run as root. */
const NOBODY = 65534;
const AS_NOBODY = ['--reuid', String(NOBODY), '--regid', String(NOBODY), '--clear-groups'];
/** After an immediate stop, or when the file system is gone, all processes of the server must have ended by then. */
const END_MS = 60_000;
const BRANCHES = 2;

/** The directories that a server may use beside its data: nobody can reach them. */
export async function prepareForNobody(where: MountedStore, directory: string): Promise<void> {
  await where.shell(
    `chmod 711 '${where.base}'; mkdir -p '${directory}' '${where.base}/run'; chown ${NOBODY}:${NOBODY} '${directory}' '${where.base}/run'`,
    where.base,
  );
}

export class PostgresqlServer {
  readonly data: string;
  private readonly where: MountedStore;
  private readonly port: number;
  private child: ChildProcess | undefined;
  private ended: Promise<unknown> = Promise.resolve();

  /** `data` lies in a directory that belongs to nobody; `port` tells servers of a case apart, and is no port of the network. */
  constructor(scene: Scene, where: MountedStore, data: string, port: number) {
    this.where = where;
    this.data = data;
    this.port = port;
    scene.teardown(() => this.stop('SIGQUIT'));
  }

  /** A shell script as nobody, with this server as the default of all its programs. */
  run(script: string, timeoutMs?: number): Promise<string> {
    const names = ['initdb', 'pgbench', 'psql', 'pg_amcheck', 'pg_checksums', 'pg_isready'];
    const programs = names.map((name) => `${name}() { command ${quoted(programPath(name))} "$@"; }`);
    const body = `cd /; export ${this.environment}; ${programs.join('; ')}; ${script}`;
    return this.where.shell(
      `exec setpriv ${AS_NOBODY.join(' ')} bash -euo pipefail -c ${quoted(body)}`,
      '/',
      timeoutMs,
    );
  }

  private get environment(): string {
    return `HOME=/nonexistent PGHOST='${this.where.base}/run' PGPORT=${this.port} PGUSER=nobody PGDATABASE=postgres`;
  }

  /** Makes it, with checksums in its pages. */
  async initialize(): Promise<void> {
    await this.run(`initdb -D '${this.data}' -k -A trust -E UTF8 --locale=C`);
  }

  /** Starts it, and waits until it has recovered. `settings` are words like `fsync=on`. */
  async start(settings: readonly string[] = []): Promise<void> {
    const words = [...AS_NOBODY, programPath('postgres'), '-D', this.data, '-p', String(this.port)];
    const always = [
      'listen_addresses=',
      `unix_socket_directories=${this.where.base}/run`,
      'shared_buffers=16MB',
      // Much recycling of log and much writing by the checkpointer, in a short time.
      'max_wal_size=48MB',
      'min_wal_size=32MB',
      'checkpoint_timeout=30s',
      // Parallel queries map files of the data directory.
      'dynamic_shared_memory_type=mmap',
      'wal_recycle=on',
      'log_checkpoints=off',
    ];
    for (const setting of [...always, ...settings]) words.push('-c', setting);
    const log = openSync(this.logFile, 'a');
    const child = spawn('setpriv', words, { cwd: '/', stdio: ['ignore', log, log] });
    closeSync(log);
    this.child = child;
    this.ended = new Promise((resolve) => child.once('close', resolve));
    await until('PostgreSQL accepts connections', async () => {
      if (child.exitCode !== null || child.signalCode !== null)
        throw new Error(`PostgreSQL ended:\n${this.log.slice(-3000)}`);
      return (await this.run('pg_isready -q && echo yes || true')) === 'yes\n';
    });
  }

  /** SIGINT is a fast stop, SIGQUIT an immediate one, without a checkpoint. All its processes end, or that is an error. */
  async stop(signal: 'SIGINT' | 'SIGQUIT'): Promise<void> {
    const { child } = this;
    if (child === undefined) return;
    this.child = undefined;
    child.kill(signal);
    await within(END_MS, `PostgreSQL ends after ${signal}`, this.ended);
    await within(
      END_MS,
      'all processes of PostgreSQL end',
      until('they end', () => processesIn(this.data).length === 0),
    );
  }

  /** One value, or lines of them. */
  async query(sql: string): Promise<string> {
    return (await this.run(`psql -XAtq -v ON_ERROR_STOP=1 -c ${quoted(sql)}`)).trim();
  }

  /** The tables that the checks know. */
  async createTables(): Promise<void> {
    await this.run(`pgbench -q -i -s ${BRANCHES} 2>&1`);
    await this.query(
      'CREATE TABLE ledger(client int, n int, text text, digest text, PRIMARY KEY(client, n)); CREATE INDEX ON ledger(digest)',
    );
  }

  /** pgbench with four clients. Returns what it says. */
  async pgbench(seconds: number): Promise<string> {
    return this.run(`pgbench -n -c 4 -j 2 -T ${seconds} 2>&1`);
  }

  /** The same until its server is gone. */
  pgbenchUntilStopped(): Promise<string> {
    return this.run('pgbench -n -c 4 -j 2 -T 600 > /dev/null 2>&1 || echo "status $?"', 700_000);
  }

  /** What its own checks say, and ours: pages, indexes against tables, the ledger, and all sums. */
  async verify(ledger: Ledger | undefined): Promise<void> {
    const sums = await this.query(
      `SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers), (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)`,
    );
    assert.equal(new Set(sums.split('|')).size, 1, `sums of accounts, tellers, branches, history: ${sums}`);
    assert.equal(await this.query('SELECT count(*) FROM pgbench_accounts'), String(BRANCHES * 100_000));
    const uneven = await this.query(
      'SELECT tid FROM pgbench_tellers t WHERE tbalance <> (SELECT coalesce(sum(delta), 0) FROM pgbench_history h WHERE h.tid = t.tid)',
    );
    assert.equal(uneven, '', 'tellers whose balance is not what the history says');
    if (ledger !== undefined) await ledger.verify(this);
    // Words of it are what it found.
    const check = 'pg_amcheck --install-missing --heapallindexed --parent-check -j 2 2>&1';
    // It would say each time that it is installed already.
    assert.equal(await this.run(`export PGOPTIONS='-c client_min_messages=warning'; ${check}`), '');
  }

  /** Stops it, and has all checksums in its files verified. */
  async verifyChecksums(): Promise<void> {
    await this.stop('SIGINT');
    assert.match(
      await this.run(`pg_checksums --check -D '${this.data}'`),
      /Bad checksums: {2}0\n(.*\n)*.*version: 1\n$/,
    );
  }

  /** psql, which takes a statement a line. */
  client(): LineProgram {
    const words = [...AS_NOBODY, 'env', '-i', `PGHOST=${this.where.base}/run`, `PGPORT=${this.port}`];
    words.push('HOME=/nonexistent', programPath('psql'), '-XAtq', '-U', 'nobody', 'postgres');
    return new LineProgram('setpriv', words, '/');
  }

  private get logFile(): string {
    return join(this.where.base, `postgresql-${this.port}.log`);
  }

  /** What the server has said. */
  get log(): string {
    return existsSync(this.logFile) ? readFileSync(this.logFile, 'utf8') : '';
  }
}

export class Ledger {
  /** The newest row that each client was told of. */
  readonly acknowledged: number[];
  private readonly scene: Scene;
  private clients: LineProgram[] = [];
  private working: Promise<void>[] = [];

  constructor(scene: Scene, clientCount: number) {
    this.scene = scene;
    this.acknowledged = new Array<number>(clientCount).fill(0);
  }

  get total(): number {
    return this.acknowledged.reduce((sum, count) => sum + count, 0);
  }

  /** Each client goes on with the row after the last that it finds. */
  async start(server: PostgresqlServer): Promise<void> {
    this.working = [];
    this.clients = [];
    for (const client of this.acknowledged.keys()) {
      const last = Number(
        await server.query(`SELECT coalesce(max(n), 0) FROM ledger WHERE client = ${client}`),
      );
      const program = server.client();
      this.scene.teardown(() => program.end());
      this.clients.push(program);
      this.working.push(this.work(program, client, last));
    }
  }

  private async work(program: LineProgram, client: number, last: number): Promise<void> {
    for (let n = last + 1; program.isRunning; n++) {
      const text = `'client ${client} row ${n} ' || repeat('${n} ', ${n % 50 === 0 ? 5000 : n % 40})`;
      program.go(
        `INSERT INTO ledger SELECT ${client}, ${n}, t, md5(t) FROM (SELECT ${text}) AS s(t) RETURNING n;`,
      );
      let answer: string;
      try {
        answer = await program.line();
      } catch (error) {
        // The server is gone, and psql with it.
        if (!program.isRunning) return;
        throw error;
      }
      assert.equal(answer, String(n));
      this.acknowledged[client] = n;
    }
  }

  /** Waits until every client has lost its server. */
  async lost(): Promise<void> {
    await within(END_MS, 'clients notice that their server is gone', Promise.all(this.working));
  }

  /** Every row that a client was told of is there, whole, and none is missing between. */
  async verify(server: PostgresqlServer, acknowledged: readonly number[] = this.acknowledged): Promise<void> {
    assert.equal(await server.query('SELECT count(*) FROM ledger WHERE digest <> md5(text)'), '0');
    for (const [client, told] of acknowledged.entries()) {
      const row = await server.query(
        `SET enable_indexscan = off; SET enable_bitmapscan = off; SELECT count(*), coalesce(min(n), 1), coalesce(max(n), 0) FROM ledger WHERE client = ${client}`,
      );
      const [count, first, last] = row.split('|').map(Number) as [number, number, number];
      assert.equal(first, 1);
      assert.equal(count, last, `rows of client ${client} are missing between`);
      assert.ok(
        last >= told,
        `client ${client} was told of row ${told}, and the last that is there is ${last}`,
      );
    }
  }
}
