/** LevelDB on a mount, by its C interface: a small program that writes synced batches, and is killed with the mount. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { LineProgram } from '../helpers/mounting.ts';
import { type ProgramCase, within } from './harness.ts';

const KILLS = 3;
const HEADER = '/usr/include/leveldb/c.h';

/** `write DB FIRST` writes two keys a batch, synced, and prints its number; `verify DB` prints how many batches are whole. */
const PROGRAM = `
#include <leveldb/c.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void check(char *error) { if (error != NULL) { printf("error %s\\n", error); fflush(stdout); _Exit(1); } }
static size_t value(long n, char *to) { size_t size = 20 + n * 37 % 3000; for (size_t i = 0; i < size; i++) to[i] = 'a' + (n * 7 + i) % 26; return size; }
int main(int count, char **words) {
  char *error = NULL, key[64], text[4096];
  leveldb_options_t *options = leveldb_options_create();
  leveldb_options_set_create_if_missing(options, 1); leveldb_options_set_paranoid_checks(options, 1);
  leveldb_options_set_write_buffer_size(options, 200000); leveldb_options_set_compression(options, 0);
  leveldb_t *db = leveldb_open(options, words[2], &error); check(error);
  if (strcmp(words[1], "write") == 0) {
    leveldb_writeoptions_t *synced = leveldb_writeoptions_create(); leveldb_writeoptions_set_sync(synced, 1);
    for (long n = atol(words[3]);; n++) {
      leveldb_writebatch_t *batch = leveldb_writebatch_create(); size_t size = value(n, text);
      leveldb_writebatch_put(batch, key, sprintf(key, "a%09ld", n), text, size);
      leveldb_writebatch_put(batch, key, sprintf(key, "b%09ld", n * 7919 % 1000003), text, size);
      leveldb_write(db, synced, batch, &error); check(error); leveldb_writebatch_destroy(batch);
      printf("%ld\\n", n); fflush(stdout);
    }
  }
  leveldb_readoptions_t *read = leveldb_readoptions_create(); leveldb_readoptions_set_verify_checksums(read, 1);
  leveldb_iterator_t *at = leveldb_create_iterator(db, read); long n = 0, rows = 0;
  for (leveldb_iter_seek_to_first(at); leveldb_iter_valid(at); leveldb_iter_next(at)) {
    size_t length; const char *found = leveldb_iter_key(at, &length); if (found[0] != 'a') { rows++; continue; }
    n++; size_t size = value(n, text), other; const char *is = leveldb_iter_value(at, &other);
    if (strncmp(found, key, sprintf(key, "a%09ld", n)) != 0 || size != other || memcmp(text, is, size) != 0) { printf("error batch %ld\\n", n); return 1; }
    char *pair = leveldb_get(db, read, key, sprintf(key, "b%09ld", n * 7919 % 1000003), &other, &error); check(error);
    if (pair == NULL || other != size || memcmp(pair, text, size) != 0) { printf("error half of batch %ld\\n", n); return 1; }
    free(pair);
  }
  leveldb_iter_get_error(at, &error); check(error);
  if (rows != n) { printf("error %ld rows of %ld\\n", rows, n); return 1; }
  printf("%ld\\n", n); leveldb_iter_destroy(at); leveldb_close(db); return 0;
}
`;

export const LEVELDB_CASES: readonly ProgramCase[] = [
  {
    name: 'leveldb',
    checks:
      'synced batches, SIGKILL of lsnfs: with its paranoid checks every acknowledged batch is there, whole, also in a copy of the past',
    needs: ['gcc', HEADER],
    async run(scene) {
      const where = await scene.store();
      await where.shell(
        `cat > program.c <<'END'\n${PROGRAM}\nEND\ngcc -O1 -o program program.c -lleveldb`,
        where.base,
      );
      const program = `${where.base}/program`;
      let told = 0;
      const verify = async (db: string, least: number) => {
        const count = Number(await where.shell(`'${program}' verify '${db}'`));
        assert.ok(count >= least, `told of ${least}, ${count} are there`);
        return count;
      };
      let last = 0;
      for (let kill = 0; kill < KILLS; kill++) {
        const writer = new LineProgram(program, ['write', 'db', String(last + 1)], where.mountpoint);
        scene.teardown(() => writer.end());
        const work = (async () => {
          for (;;) {
            const line = await writer.line();
            if (!/^\d+$/.test(line)) return line;
            told = Number(line);
          }
        })();
        await sleep(1000 + scene.random.below(1500));
        const before = told;
        await where.snapshot(`kill-${kill}`);
        await where.shell(`cp -a @kill-${kill}/db ../copy-${kill}`);
        await where.kill();
        assert.match(await within(60_000, 'LevelDB gets an error', work), /^error IO error/);
        await where.mount();
        last = await verify('db', told);
        await verify(`../copy-${kill}`, before);
      }
      assert.ok(told > 0);
      scene.note(`${told} acknowledged batches, ${(await where.shell('ls db | wc -l')).trim()} files`);
    },
  },
];
