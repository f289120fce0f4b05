/** PostgreSQL with its data on a mount: crashes of the server, crashes of the mount, and a second server on a past state. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ProgramCase } from './harness.ts';
import { Ledger, POSTGRESQL_PROGRAMS, PostgresqlServer, prepareForNobody } from './postgresql-server.ts';

const KILLS = 3;
/** How PostgreSQL makes its log durable; each asks the mount for something else. */
const SYNC_METHODS = ['fdatasync', 'open_datasync', 'fsync', 'open_sync'];

export const POSTGRESQL_CASES: readonly ProgramCase[] = [
  {
    name: 'postgresql-stop',
    checks: 'initdb, pgbench -c 4, immediate stops under load, recovery; pg_amcheck, pg_checksums, all sums',
    needs: POSTGRESQL_PROGRAMS,
    async run(scene) {
      const where = await scene.store({}, '--allow-other');
      await prepareForNobody(where, `${where.mountpoint}/pg`);
      const server = new PostgresqlServer(scene, where, `${where.mountpoint}/pg/data`, 1);
      await server.initialize();
      await server.start();
      await server.createTables();
      const said = await server.pgbench(10);
      assert.match(said, /number of failed transactions: 0/);
      scene.note(/tps = \d+/.exec(said)?.[0] ?? '');
      await server.verify(undefined);
      for (const method of SYNC_METHODS) {
        const ledger = new Ledger(scene, 2);
        await server.stop('SIGQUIT');
        await server.start([`wal_sync_method=${method}`]);
        await server.query('TRUNCATE ledger');
        const load = server.pgbenchUntilStopped();
        await ledger.start(server);
        await sleep(1500 + scene.random.below(1000));
        await server.stop('SIGQUIT');
        await Promise.all([load, ledger.lost()]);
        await server.start();
        assert.match(server.log, /database system was not properly shut down/);
        await server.verify(ledger);
        scene.note(`${method}: ${ledger.total} acknowledged rows`);
        assert.ok(ledger.total > 0);
      }
      await server.verifyChecksums();
    },
  },
  {
    name: 'postgresql-kill',
    checks:
      'SIGKILL of lsnfs under load, mounted again, both recover: every acknowledged transaction is there',
    needs: POSTGRESQL_PROGRAMS,
    async run(scene) {
      const where = await scene.store({}, '--allow-other');
      await prepareForNobody(where, `${where.mountpoint}/pg`);
      const server = new PostgresqlServer(scene, where, `${where.mountpoint}/pg/data`, 1);
      await server.initialize();
      await server.start();
      await server.createTables();
      const ledger = new Ledger(scene, 4);
      for (let kill = 0; kill < KILLS; kill++) {
        const load = server.pgbenchUntilStopped();
        await ledger.start(server);
        await sleep(1500 + scene.random.below(3000));
        await where.kill();
        // Nobody hangs: each of its processes gets an error or a signal, and ends.
        await Promise.all([load, ledger.lost()]);
        await server.stop('SIGQUIT');
        const said = await where.mount('--allow-other');
        assert.match(said, /server that died/);
        await server.start([`wal_sync_method=${SYNC_METHODS[kill % SYNC_METHODS.length]}`]);
        await server.verify(ledger);
      }
      scene.note(`${KILLS} kills, ${ledger.total} acknowledged rows`);
      assert.ok(ledger.total > 0);
      await server.verifyChecksums();
    },
  },
  {
    name: 'postgresql-snapshot',
    checks:
      'snapshots under pgbench load, copied out of @NAME and @lsn-N, start as a second server with all of that moment',
    needs: POSTGRESQL_PROGRAMS,
    async run(scene) {
      const where = await scene.store({}, '--allow-other');
      await prepareForNobody(where, `${where.mountpoint}/pg`);
      await prepareForNobody(where, `${where.base}/copies`);
      const server = new PostgresqlServer(scene, where, `${where.mountpoint}/pg/data`, 1);
      await server.initialize();
      await server.start();
      await server.createTables();
      const ledger = new Ledger(scene, 2);
      const load = server.pgbenchUntilStopped();
      await ledger.start(server);
      for (const round of [1, 2]) {
        await sleep(1500 + scene.random.below(1500));
        const before = [...ledger.acknowledged];
        const lsn = await where.snapshot(`round-${round}`);
        const after = ledger.acknowledged.map((n) => n + 1);
        const name = round === 1 ? 'round-1' : `lsn-${lsn}`;
        await where.shell(`cp -a '@${name}/pg/data' ../copies/${name}; rm ../copies/${name}/postmaster.pid`);
        const second = new PostgresqlServer(scene, where, `${where.base}/copies/${name}`, 1 + round);
        await second.start();
        assert.match(second.log, /database system was (interrupted|not properly shut down)/);
        await second.verify(undefined);
        await ledger.verify(second, before);
        const rows = await second.query('SELECT max(n) FROM ledger GROUP BY client ORDER BY client');
        for (const [client, last] of rows.split('\n').map(Number).entries())
          assert.ok(last <= after[client]!, `client ${client} has row ${last} of later than the snapshot`);
        await second.verifyChecksums();
        scene.note(`@${name}: ${before.join(' and ')} rows acknowledged before it`);
      }
      await server.stop('SIGINT');
      await Promise.all([load, ledger.lost()]);
      await server.start();
      await server.verify(ledger);
      await server.verifyChecksums();
    },
  },
];
