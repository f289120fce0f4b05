/** Real programs at work on a mount, each with its own way to verify, and their work read again in the past. */
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { IS_LONG, mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { MountedStore } from '../helpers/mounted-store.ts';
import { runProgram } from '../helpers/mounting.ts';

sayWhySkipped();

/** The checkout: compiled tests are one level deeper than their sources. */
const PROJECT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../..' : '../../..', import.meta.url),
);

/** A tree with everything that a tree can have. */
const EVERYTHING = `
umask 022; mkdir -p d/e/f empty 'odd names' deep/$(printf 'n%.0s' {1..255}) private
seq 20000 > d/numbers; head -c 5000000 /dev/urandom > d/e/random; printf x > one; : > nothing
ln d/numbers d/e/hard; ln d/numbers 'odd names/hard too'; ln one also-one
ln -s ../numbers d/e/link; ln -s /nowhere/$(printf 'x%.0s' {1..200}) dangling; ln -s . self; ln dangling dangling-twice
truncate -s 5M sparse; printf end >> sparse; printf middle | dd of=sparse bs=1 seek=1048576 conv=notrunc status=none
truncate -s 1M only-a-hole
mkfifo fifo; mknod null c 1 3; mknod disk b 7 200
cd 'odd names'; printf a > ' leading'; printf b > $'new\\nline'; printf c > -rf; printf d > $'\\xff\\xfe\\x80'; printf e > 'ünï ☃'; printf f > '"\\$\`*?['; printf g > ...; printf h > @lsn-1; cd ..
chown 1234:4321 one; chmod 4711 d/e/random; chmod 2755 d/e; chmod 1777 empty; chmod 000 private; chmod 6400 nothing; chown -h 5:6 dangling
setfattr -n user.comment -v 'a value' d/numbers; setfattr -n user.large -v $(printf 'v%.0s' {1..3000}) one
setfattr -n user.empty d; setfattr -n trusted.secret -v 0x00ff00 d/e; setfattr -n user.binary -v 0x000102ff sparse
setfacl -m u:1000:rwx,g:1001:r-x d/e; setfacl -m u:7:r one; setfacl -d -m u:1000:rw- empty
touch -d '1901-12-14 00:00:00.000000001 UTC' d/e/random; touch -d '1969-12-31 23:59:59.999999999 UTC' nothing
touch -d '2105-06-07 08:09:10.123456789 UTC' sparse; touch -h -d '1999-01-01 UTC' dangling; touch -d '1985-10-26 UTC' fifo null empty d .
`;

// By default rsync takes times within one second for the same, and leaves them.
mountTest('cp, tar and rsync bring everything in and out again, and the past keeps it', async (t) => {
  const where = await MountedStore.create(t);
  const { base, mountpoint } = where;
  await where.shell(`mkdir source out; cd source; ${EVERYTHING}`, base);
  const source = await where.listing(`${base}/source`);
  const [withoutHoles] = await where.listings([`${base}/source`], '--no-holes');
  t.true(source.length > 25);

  await where.shell('cp -a --sparse=auto ../source cp; cp -a cp ../out/cp');
  const tar = "tar --format=posix --xattrs --xattrs-include='*' --acls --sparse";
  await where.shell(`
    ${tar} -C ../source -cf ../in.tar .; mkdir tar; ${tar} -C tar -xpf ../in.tar; ${tar} -C tar --compare -f ../in.tar
    ${tar} -C tar -cf inside.tar .; ${tar} -C ../source --compare -f inside.tar
    mkdir ../out/tar; ${tar} -C ../out/tar -xpf inside.tar; ${tar} -C ../out/tar --compare -f inside.tar
  `);
  await where.shell(`
    rsync -aHAX --modify-window=-1 --sparse ../source/ rsync/
    test -z "$(rsync -aHAX --modify-window=-1 --itemize-changes ../source/ rsync/)"
    test -z "$(rsync -aHAX --modify-window=-1 --checksum --delete --itemize-changes ../source/ rsync/)"
    rsync -aHAX --modify-window=-1 --sparse rsync/ ../out/rsync/
    test -z "$(rsync -aHAX --modify-window=-1 --checksum --itemize-changes rsync/ ../out/rsync/)"
  `);
  t.deepEqual(await where.listing(`${mountpoint}/cp`), source, 'cp keeps the holes, too');
  const copies = ['cp', 'tar', 'rsync'].flatMap((how) => [`${mountpoint}/${how}`, `${base}/out/${how}`]);
  for (const [index, listing] of (await where.listings(copies, '--no-holes')).entries())
    t.deepEqual(listing, withoutHoles, copies[index]);
  const blocks = (await where.shell('stat -c %b cp/sparse tar/sparse rsync/sparse cp/only-a-hole'))
    .trim()
    .split('\n');
  t.true(
    blocks.every((count) => Number(count) <= 64),
    `512-byte blocks of sparse files: ${blocks}`,
  );

  const lsn = await where.snapshot('copied');
  await where.shell(
    'rm -rf cp rsync inside.tar; find tar -type f -exec sh -c \'echo changed > "$1"\' _ {} \\;; find tar -name "*e*" ! -type d -delete',
  );
  for (const root of ['@copied', `@lsn-${lsn}`]) {
    t.deepEqual(await where.listing(`${mountpoint}/${root}/cp`), source, root);
    await where.shell(
      `${tar} -C ${root}/tar --compare -f ../in.tar; test -z "$(rsync -aHAX --modify-window=-1 --checksum --itemize-changes ${root}/rsync/ ../out/rsync/)"`,
    );
  }
  // Back from the past with all that it had.
  await where.shell('cp -a @copied/rsync back');
  t.deepEqual((await where.listings([`${mountpoint}/back`], '--no-holes'))[0], withoutHoles);
});

mountTest(
  'a real source tree: find, du, diff -r, mv, sed -i, rm -rf, and all of it again in the past',
  async (t) => {
    const where = await MountedStore.create(t);
    const skipped = IS_LONG ? [] : ['typescript', '@biomejs', '@types', '.cache'];
    const exclude = skipped.map((name) => `--exclude=node_modules/${name}`).join(' ');
    await where.shell(
      `mkdir ../tree; tar -C '${PROJECT}' ${exclude} --exclude='*.test.ts' -cf - src test fuse cli node_modules | tar -C ../tree -xf -
     cp -a ../tree tree; cp -a ../tree ../copy`,
    );
    const count = Number(await where.shell('find tree -type f | wc -l'));
    t.log(`${count} files`);
    t.true(count > 1500);
    await where.shell(
      'diff -r --no-dereference ../tree tree; diff <(cd ../tree; find . -printf "%P %y %m %T@ %l\\n" | sort) <(cd tree; find . -printf "%P %y %m %T@ %l\\n" | sort)',
    );
    const lsn = await where.commit();
    await where.snapshot('before');
    await where.shell(
      "for at in . ../copy; do (cd $at; [ -d tree ] && cd tree; mv src source; mv source/vfs/*.ts .; grep -rlZ import source cli | xargs -0 sed -i 's/import/IMPORT/g'; rm -rf node_modules; find . -name '*.json' -delete; mkdir -p a/b/c; mv fuse a/b/c/); done",
    );
    await where.shell(
      'diff -r --no-dereference ../copy tree; grep -rq IMPORT tree/source; test ! -e tree/node_modules',
    );
    const changed = await where.commit();
    await where.shell('du -s tree > /dev/null; rm -rf tree; test ! -e tree');
    for (const root of ['@before', `@lsn-${lsn}`])
      await where.shell(`diff -r --no-dereference ../tree ${root}/tree`);
    await where.shell(
      `diff -r --no-dereference ../copy @lsn-${changed}/tree; test "$(find @before/tree -type f | wc -l)" = ${count}`,
    );
    // The same behind a fresh mount: nothing of it was only in a cache.
    await where.unmount();
    await where.mount();
    await where.shell(
      `diff -r --no-dereference ../tree @before/tree; diff -r --no-dereference ../copy @lsn-${changed}/tree; test -z "$(ls)"`,
    );
  },
);

mountTest('git: init, commit, branch, clone, gc, fsck, and a clone from the past', async (t) => {
  const where = await MountedStore.create(t);
  await where.shell(`mkdir work; tar -C '${PROJECT}' -cf - src cli fuse docs | tar -C work -xf -`);
  const git =
    'git -c user.name=n -c user.email=e@example.org -c gc.auto=0 -c init.defaultBranch=main -c advice.detachedHead=false';
  await where.shell(
    `export HOME=${where.base} GIT_CONFIG_NOSYSTEM=1
     cd work; ${git} init -q; ${git} add -A; ${git} commit -qm first; test -z "$(${git} status --porcelain)"
     ${git} checkout -qb other; ${git} mv src source; sed -i 's/the/THE/' source/*/*.ts; ${git} commit -qam second
     for i in $(seq 20); do echo $i >> file; ${git} add file; ${git} commit -qm $i; done
     ${git} checkout -q main; test -d src; test ! -e source; test -z "$(${git} status --porcelain)"; ${git} fsck --full --strict`,
  );
  await where.snapshot('loose');
  await where.shell(
    `export HOME=${where.base} GIT_CONFIG_NOSYSTEM=1
     ${git} clone -q work clone; ${git} clone -q --bare work bare; cd work; ${git} gc -q --prune=now; ${git} fsck --full --strict
     ${git} checkout -q other; test -d source; test "$(wc -l < file)" = 20; test -z "$(${git} status --porcelain)"
     cd ../clone; ${git} checkout -q other; diff -r -x .git . ../work; ${git} fsck --full; cd ..; rm -rf work/.git; ${git} -C bare fsck --full
     ${git} clone -q "file://$PWD/@loose/work" ../again; cd ../again; ${git} fsck --full; test "$(${git} rev-list --count origin/other)" = 22`,
  );
  t.is(await where.shell('ls clone/.git/HEAD @loose/work/.git/HEAD | wc -l'), '2\n');
});

for (const mode of ['DELETE', 'WAL']) {
  mountTest(`sqlite3 with journal_mode=${mode}, while snapshots are taken`, async (t) => {
    const where = await MountedStore.create(t);
    const rounds = IS_LONG ? 500 : 40;
    await where.shell(
      `sqlite3 db 'PRAGMA journal_mode=${mode}; CREATE TABLE t(n INTEGER PRIMARY KEY, pair INTEGER, text TEXT); CREATE INDEX i ON t(text);'`,
    );
    // Two rows a transaction: whatever is seen has an even count.
    const statements = Array.from(
      { length: rounds },
      (_, i) =>
        `BEGIN; INSERT INTO t(pair, text) VALUES(${i}, hex(randomblob(500))); INSERT INTO t(pair, text) VALUES(${i}, hex(randomblob(2000))); COMMIT;\n${i % 5 === 4 ? `DELETE FROM t WHERE pair = ${i - 3};\n` : ''}`,
    ).join('');
    const work = runProgram('sqlite3', ['-bail', join(where.mountpoint, 'db')], {
      input: `.timeout 200000\nPRAGMA synchronous=FULL;\n${statements}SELECT 'rows', count(*) FROM t;\n`,
    });
    let done = false;
    const outcome = work.finally(() => {
      done = true;
    });
    let taken = 0;
    while (!done && taken < 8) await where.snapshot(`during-${taken++}`);
    const { code, stdout, stderr } = await outcome;
    t.is(code, 0, stderr);
    const rows = 2 * (rounds - Math.floor(rounds / 5));
    t.true(stdout.endsWith(`rows|${rows}\n`), stdout);
    t.is(await where.shell("sqlite3 db 'PRAGMA integrity_check; SELECT count(*) FROM t;'"), `ok\n${rows}\n`);
    t.true(taken > 0);
    for (let i = 0; i < taken; i++) {
      const check = await where.shell(
        `rm -rf ../state; mkdir ../state; cp @during-${i}/db* ../state/; sqlite3 ../state/db 'PRAGMA integrity_check; SELECT count(*) % 2 FROM t; SELECT count(*) FROM (SELECT pair FROM t GROUP BY pair HAVING count(*) <> 2);'`,
      );
      t.is(check, 'ok\n0\n0\n', `the state of snapshot ${i}`);
    }
    const lsn = await where.commit();
    await where.shell("sqlite3 db 'DELETE FROM t; VACUUM;'");
    t.is(
      await where.shell(
        `mkdir ../then; cp @lsn-${lsn}/db* ../then/; sqlite3 ../then/db 'SELECT count(*) FROM t'`,
      ),
      `${rows}\n`,
    );
  });
}

mountTest('a compiler and make build in a mount', async (t) => {
  const where = await MountedStore.create(t);
  if ((await where.run('command -v gcc && command -v make', '/')).code !== 0) {
    t.log('there is no gcc or make here');
    t.pass();
    return;
  }
  await where.shell(`
    mkdir project; cd project
    for i in $(seq 12); do echo "int f$i(void) { return $i; }" > f$i.c; done
    { for i in $(seq 12); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { printf("%d\\n", 0'; for i in $(seq 12); do echo "+ f$i()"; done; echo '); return 0; }'; } > main.c
    printf 'OBJECTS = $(patsubst %%.c,%%.o,$(wildcard *.c))\\nsum: $(OBJECTS)\\n\\t$(CC) -o $@ $^\\n' > Makefile
    make -sj2; test "$(./sum)" = 78; make -q
  `);
  await where.snapshot('built');
  await where.shell(
    'cd project; sed -i s/return.12/return\\ 100/ f12.c; test "$(make -n | grep -c -- "-c")" = 1; make -s; test "$(./sum)" = 166; make -q; rm *.o sum',
  );
  t.is(await where.shell('@built/project/sum; make -s -C project; project/sum'), '78\n166\n');
});
