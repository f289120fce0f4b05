/** SQLite databases in a mount: all journal modes, two processes at once, mapped reads, crashes of the mount, and the past. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import type { MountedStore } from '../helpers/mounted-store.ts';
import { PythonProgram } from '../helpers/mounting.ts';
import { type ProgramCase, type Scene, within } from './harness.ts';

const MODES = ['delete', 'truncate', 'persist', 'memory', 'wal', 'off'] as const;
type Mode = (typeof MODES)[number];
const MAP_BYTES = 64 * 1024 * 1024;
const TRANSACTIONS = 50;
const KILLS = 2;

/**
 * A process that works on a database: a transaction adds a row that says what it must be, and moves an amount between two
 * accounts, so that the sum of all stays 0. It prints a row's number when it is told that it is committed; every fifth
 * transaction is rolled back, where the mode can do that. Arguments: database, mode, number, first row, rows.
 */
const WORKER = `
import hashlib, sqlite3, sys
path, mode, who, first, rows = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])
db = sqlite3.connect(path, timeout=120, isolation_level=None)
db.execute("PRAGMA mmap_size=${MAP_BYTES}")
# With FULL, SQLite does not sync the removal of a journal, by which it commits in this mode.
db.execute("PRAGMA synchronous=" + ("EXTRA" if mode == "delete" else "FULL"))
assert db.execute("PRAGMA journal_mode=" + mode).fetchone()[0] == mode
db.execute("PRAGMA cache_size=20")
print("ready", flush=True)
try:
    for n in range(first, first + rows):
        text = hashlib.sha256(b"%d %d" % (who, n)).hexdigest() * (1 + n * 7 % 90)
        db.execute("BEGIN IMMEDIATE")
        db.execute("INSERT INTO t VALUES (?, ?, ?)", (who, n, text))
        db.execute("UPDATE account SET amount = amount - ? WHERE id = ?", (n, n % 50))
        db.execute("UPDATE account SET amount = amount + ? WHERE id = ?", (n, n * 3 % 50))
        if n % 20 == 11: db.execute("DELETE FROM t WHERE who = ? AND n = ?", (who, n - 10))
        db.execute("COMMIT")
        print(n, flush=True)
        if mode != "off" and n % 5 == 0:
            db.execute("BEGIN IMMEDIATE")
            db.execute("UPDATE account SET amount = 7")
            db.execute("DELETE FROM t WHERE n % 3 = 0")
            db.execute("ROLLBACK")
    print("done", flush=True)
except sqlite3.Error as error:
    print("error", error, flush=True)
`;

/** What must hold of a database, and what the rows are. Arguments: database or URI, rows each of the two has been told of. */
const VERIFY = `
import hashlib, sqlite3, sys
path = sys.argv[1]
db = sqlite3.connect(path, uri=path.startswith("file:"), timeout=60)
if len(sys.argv) > 4: db.execute("PRAGMA mmap_size=${MAP_BYTES}")
print(db.execute("PRAGMA integrity_check").fetchall() == [("ok",)] or "integrity_check failed")
assert db.execute("SELECT sum(amount) FROM account").fetchone()[0] == 0, "the sum of the accounts"
for who, told in ((1, int(sys.argv[2])), (2, int(sys.argv[3]))):
    found = [n for n, in db.execute("SELECT n FROM t WHERE who = ? ORDER BY n", (who,))]
    last = found[-1] if found else 0
    assert last >= told, "%d was told of row %d, and the last that is there is %d" % (who, told, last)
    gone = {n - 10 for n in range(1, last + 1) if n % 20 == 11}
    assert found == [n for n in range(1, last + 1) if n not in gone], "rows of %d: %r" % (who, found)
whole = hashlib.sha256()
for who, n, text in db.execute("SELECT who, n, text FROM t ORDER BY who, n"):
    assert text == hashlib.sha256(b"%d %d" % (who, n)).hexdigest() * (1 + n * 7 % 90), (who, n)
    whole.update(text.encode())
for row in db.execute("SELECT id, amount FROM account ORDER BY id"): whole.update(repr(row).encode())
print(whole.hexdigest())
`;

const SCHEMA =
  'CREATE TABLE t(who, n, text, PRIMARY KEY(who, n)); CREATE INDEX i ON t(text); CREATE TABLE account(id INTEGER PRIMARY KEY, amount); WITH RECURSIVE c(x) AS (VALUES(0) UNION ALL SELECT x + 1 FROM c WHERE x < 49) INSERT INTO account SELECT x, 0 FROM c;';

async function create(where: MountedStore, directory: string, mode: Mode): Promise<string> {
  const path = `${directory}/${mode}.db`;
  await where.shell(`sqlite3 '${path}' 'PRAGMA journal_mode=${mode}; ${SCHEMA}'`);
  return path;
}

/** Two processes at once. `told` is what each has been told of; they go on from there. */
class Pair {
  readonly told: [number, number] = [0, 0];
  private readonly scene: Scene;
  private readonly path: string;
  private readonly mode: Mode;

  constructor(scene: Scene, path: string, mode: Mode) {
    this.scene = scene;
    this.path = path;
    this.mode = mode;
  }

  /** Starts both; `ends` is what they end with. */
  async start(first: readonly [number, number], rows: number): Promise<{ readonly ends: Promise<string[]> }> {
    const programs = this.told.map((_, index) => {
      const words = [
        '-c',
        WORKER,
        this.path,
        this.mode,
        String(index + 1),
        String(first[index]),
        String(rows),
      ];
      const program = new PythonProgram(words, '/');
      this.scene.teardown(() => program.end());
      return program;
    });
    for (const program of programs) assert.equal(await program.line(), 'ready');
    const work = async (program: PythonProgram, index: number): Promise<string> => {
      for (;;) {
        let line: string;
        try {
          line = await program.line();
        } catch (error) {
          // Where a mapped page cannot be had there is a SIGBUS.
          if (program.isRunning) throw error;
          return `error ${String(error)}`;
        }
        if (!/^\d+$/.test(line)) return line;
        this.told[index] = Number(line);
      }
    };
    return { ends: Promise.all(programs.map(work)) };
  }
}

/** Verifies; returns a digest of all that is in it. */
async function verify(
  where: MountedStore,
  path: string,
  told: readonly number[],
  mapped = false,
): Promise<string> {
  const words = [`'${path}'`, ...told, ...(mapped ? ['mapped'] : [])].join(' ');
  const said = await where.shell(`python3 - ${words} <<'END'\n${VERIFY}\nEND`, where.base);
  const [check, digest] = said.trim().split('\n');
  assert.equal(check, 'True');
  return digest!;
}

export const SQLITE_CASES: readonly ProgramCase[] = [
  {
    name: 'sqlite-modes',
    checks: `${MODES.join(', ')}: two processes at once, mmap_size, rollbacks, VACUUM, integrity_check; the same content as natively`,
    needs: ['sqlite3', 'python3'],
    async run(scene) {
      const where = await scene.store();
      await where.shell('mkdir native', where.base);
      for (const mode of MODES) {
        const digests: string[] = [];
        const seconds: string[] = [];
        for (const directory of [where.mountpoint, `${where.base}/native`]) {
          const begin = performance.now();
          const path = await create(where, directory, mode);
          const pair = new Pair(scene, path, mode);
          const { ends } = await pair.start([1, 1], TRANSACTIONS);
          assert.deepEqual(await within(240_000, mode, ends), ['done', 'done'], `${mode} in ${directory}`);
          digests.push(await verify(where, path, pair.told, true));
          await where.shell(
            `sqlite3 '${path}' "PRAGMA mmap_size=${MAP_BYTES}; ATTACH '${path}.2' AS b; BEGIN; CREATE TABLE b.t AS SELECT * FROM t; DELETE FROM t WHERE n % 2; COMMIT; INSERT INTO t SELECT * FROM b.t WHERE n % 2; DETACH b; VACUUM; REINDEX; ANALYZE"; sqlite3 '${path}' '.backup ${path}.3'; sqlite3 '${path}.3' 'PRAGMA integrity_check' | grep -qx ok`,
          );
          digests.push(await verify(where, path, pair.told));
          seconds.push(((performance.now() - begin) / 1000).toFixed(1));
          if (mode !== 'wal' && mode !== 'persist')
            assert.equal(await where.shell(`ls '${path}'-* 2> /dev/null || echo none`), 'none\n');
        }
        assert.equal(new Set(digests).size, 1, mode);
        scene.note(`${mode}: ${seconds.join(' s, natively ')} s`);
      }
    },
  },
  {
    name: 'sqlite-kill',
    checks:
      'SIGKILL of lsnfs under WAL (mapped), truncate, persist (synchronous=FULL) and delete (EXTRA): integrity_check, no acknowledged row missing',
    needs: ['sqlite3', 'python3'],
    async run(scene) {
      const where = await scene.store();
      for (const mode of ['wal', 'delete', 'truncate', 'persist'] as const) {
        const path = await create(where, where.mountpoint, mode);
        const pair = new Pair(scene, path, mode);
        let first: [number, number] = [1, 1];
        for (let kill = 0; kill < KILLS; kill++) {
          const { ends } = await pair.start(first, 1_000_000);
          await sleep(1000 + scene.random.below(2000));
          await where.kill();
          for (const end of await within(60_000, 'SQLite gets an error', ends)) assert.match(end, /^error /);
          assert.match(await where.mount(), /server that died/);
          await verify(where, path, pair.told, true);
          const last = await where.shell(
            `for who in 1 2; do sqlite3 '${path}' "SELECT coalesce(max(n), 0) + 1 FROM t WHERE who = $who"; done`,
          );
          first = last.trim().split('\n').map(Number) as [number, number];
        }
        scene.note(`${mode}: ${pair.told.join(' and ')} acknowledged rows`);
        // One of two may have had to wait all the time.
        assert.ok(pair.told[0] + pair.told[1] > 0);
      }
    },
  },
  {
    name: 'sqlite-past',
    checks:
      'reading below @NAME: immutable=1, mode=ro with its locks, and a WAL that is not checkpointed; mapped and not',
    needs: ['sqlite3', 'python3', 'mount'],
    async run(scene) {
      const where = await scene.store();
      for (const mode of ['delete', 'wal'] as const) {
        const path = await create(where, where.mountpoint, mode);
        const pair = new Pair(scene, path, mode);
        const { ends } = await pair.start([1, 1], 50);
        assert.deepEqual(await within(240_000, mode, ends), ['done', 'done']);
        const whole = await verify(where, path, pair.told);
        const quiet = await where.snapshot(`${mode}-quiet`);
        // Somebody is at work on it, and his log is not in the database.
        const later = await pair.start([51, 51], 40);
        assert.deepEqual(await within(240_000, mode, later.ends), ['done', 'done']);
        for (const at of [`@${mode}-quiet`, `@lsn-${quiet}`]) {
          const past = `${where.mountpoint}/${at}/${mode}.db`;
          for (const mapped of [false, true]) {
            // A WAL database that nobody has open cannot be opened where no log can be made, but as immutable.
            if (mode !== 'wal')
              assert.equal(await verify(where, `file:${past}?mode=ro`, [50, 50], mapped), whole);
            assert.equal(await verify(where, `file:${past}?immutable=1`, [50, 50], mapped), whole);
          }
          await where.shell(`! sqlite3 '${past}' 'DELETE FROM t' 2> /dev/null`);
        }
      }
      // An open log: what is only there is seen by who may read it, and not by who takes the file for immutable.
      const path = `${where.mountpoint}/open.db`;
      const writer = new PythonProgram(
        `import sqlite3, sys
db = sqlite3.connect(${JSON.stringify(path)}, isolation_level=None)
db.execute("PRAGMA journal_mode=wal"); db.execute("PRAGMA wal_autocheckpoint=0")
db.execute("CREATE TABLE t(n)"); db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
for n in range(100): db.execute("INSERT INTO t VALUES (?)", (n,))
print("open")
sys.stdin.read()`,
        '/',
      );
      scene.teardown(() => writer.end());
      assert.equal(await writer.line(), 'open');
      await where.snapshot('open');
      // The same by a read-only mount of a copy on the native file system.
      await where.shell(
        'mkdir native; cp mnt/open.db* native; mount --bind native native; mount -o remount,bind,ro native',
        where.base,
      );
      const counts = await where.shell(
        `for at in mnt/@open native; do for how in mode=ro immutable=1; do sqlite3 "file:$PWD/$at/open.db?$how" 'SELECT count(*) FROM t' 2>&1 || true; done; done`,
        where.base,
      );
      const [ro, immutable, nativeRo, nativeImmutable] = counts.trim().split('\n');
      assert.deepEqual([ro, immutable], [nativeRo, nativeImmutable], counts);
      assert.equal(immutable, '0');
      scene.note(`mode=ro of an open WAL sees ${ro} rows of 100, as natively`);
    },
  },
];
