/** Builds in a mount: make, which goes by times alone, and this project's own with npm. */
import assert from 'node:assert/strict';
import { cpSync } from 'node:fs';
import { basename } from 'node:path';
import { fileURLToPath } from 'node:url';
import { lsnfs } from '../helpers/command-line.ts';
import type { ProgramCase } from './harness.ts';

/** The checkout: compiled tests are one level deeper than their sources. */
const PROJECT = fileURLToPath(
  new URL(import.meta.url.endsWith('.ts') ? '../..' : '../../..', import.meta.url),
);
const MODULES = 30;
const HEADERS = 6;

/** Module i includes header i mod HEADERS, and header h includes header h + 1; the compiler writes down what depends on what. */
const SOURCES = `
mkdir -p project/include project/source; cd project
for h in $(seq 0 ${HEADERS - 1}); do
  { echo '#pragma once'; [ $h -lt ${HEADERS - 1} ] && echo "#include \\"h$((h + 1)).h\\""; echo "#define VALUE_$h $h"; } > include/h$h.h
done
for i in $(seq ${MODULES}); do h=$((i % ${HEADERS})); printf '#include "h%s.h"\\nint f%s(void) { return VALUE_%s * %s; }\\n' $h $i $h $i > source/f$i.c; done
{ for i in $(seq ${MODULES}); do echo "int f$i(void);"; done; echo '#include <stdio.h>'; echo 'int main(void) { printf("%d\\n", 0'; for i in $(seq ${MODULES}); do echo "+ f$i()"; done; echo '); return 0; }'; } > source/main.c
cat > Makefile <<'END'
SOURCES = $(wildcard source/*.c)
OBJECTS = $(SOURCES:source/%.c=build/%.o)
sum: $(OBJECTS)
	$(CC) -o $@ $^
build/%.o: source/%.c | build
	@echo $* >> compiled
	$(CC) -Iinclude -MMD -MP -c -o $@ $<
build:
	mkdir build
clean:
	rm -rf build sum
-include $(OBJECTS:.o=.d)
END
`;

/** What is compiled when make runs: names in order. */
const MAKE = `make_all() { rm -f compiled; make -sj3 "$@"; if [ -e compiled ]; then sort compiled | tr '\\n' ' '; fi; }; `;

/** Modules that include a header, themselves or through others. */
function dependents(header: number): string {
  const names = Array.from({ length: MODULES }, (_, index) => index + 1)
    .filter((module) => module % HEADERS <= header)
    .map((module) => `f${module}`);
  return names
    .sort()
    .map((name) => `${name} `)
    .join('');
}

export const BUILD_CASES: readonly ProgramCase[] = [
  {
    name: 'make',
    checks:
      'a C build: nothing twice, a touched header rebuilds exactly what includes it, also at once, after a mount, a restore and in a copy of the past',
    needs: ['gcc', 'make'],
    async run(scene) {
      const where = await scene.store();
      const { mountpoint } = where;
      await where.shell(SOURCES);
      const make = (more = '', directory = 'project') =>
        where.shell(`${MAKE}cd ${directory}; ${more}; make_all`);
      const sum = Array.from({ length: MODULES }, (_, index) => ((index + 1) % HEADERS) * (index + 1)).reduce(
        (a, b) => a + b,
      );
      const all = await make(':');
      assert.equal(all.trim().split(' ').length, MODULES + 1);
      assert.equal(await where.shell('project/sum; make -qC project'), `${sum}\n`);
      for (let round = 0; round < 3; round++) assert.equal(await make(':'), '', 'nothing is built twice');
      for (let header = 0; header < HEADERS; header++)
        assert.equal(await make(`touch include/h${header}.h`), dependents(header), `header ${header}`);
      // Each way to change a file counts, however soon after the build.
      for (const [how, change] of Object.entries({
        'rename over': 'sed -i s/VALUE/VALUE/ source/f7.c',
        append: 'echo >> source/f7.c',
        'cp -a of a newer one': 'cp source/f7.c new; cp -a new source/f7.c',
        'mv of a newer one': 'cp source/f7.c new; mv new source/f7.c',
        truncated: 'cp source/f7.c old; : > source/f7.c; cat old > source/f7.c',
        mapped:
          'python3 -c "import mmap, os; f = os.open(\\"source/f7.c\\", os.O_RDWR); m = mmap.mmap(f, os.fstat(f).st_size); m[0:1] = m[0:1]; m.flush()"',
      })) {
        assert.equal(await make(change), 'f7 ', how);
        assert.equal(await make(':'), '', `${how}, once more`);
      }
      assert.equal(await make('rm build/f3.o build/f9.o'), 'f3 f9 ');
      // An older file in place of a newer one is no change for make.
      assert.equal(
        await make('cp -a source/f5.c old; echo >> source/f5.c; make -s; rm compiled; cp -a old source/f5.c'),
        '',
      );

      const lsn = await where.snapshot('built');
      await where.unmount();
      await where.mount();
      assert.equal(await make(':'), '', 'behind a fresh mount');
      // A version that adds 1 to a header's value; then back to what was, with all its times.
      assert.equal(
        await make(`sed -i 's/VALUE_${HEADERS - 1} .*/VALUE_${HEADERS - 1} 100/' include/h${HEADERS - 1}.h`),
        dependents(HEADERS - 1),
      );
      assert.notEqual(await where.shell('project/sum'), `${sum}\n`);
      await where.shell('make -sC project clean; rm -rf project/source/f1*; ls project/include');
      const restored = await lsnfs('restore', mountpoint, '--to-name', 'built', '--path', 'project');
      assert.equal(restored.code, 0, restored.stderr);
      assert.equal(await where.shell('project/sum'), `${sum}\n`, 'after a restore');
      assert.equal(await make(':'), '', 'a restored build is up to date');
      assert.equal(await make('touch include/h0.h'), dependents(0), 'and goes on from there');
      for (const name of ['@built', `@lsn-${lsn}`]) {
        assert.equal(await where.shell(`${name}/project/sum; make -qC ${name}/project`), `${sum}\n`, name);
        await where.shell(`cp -a ${name}/project copy-${name}`);
        assert.equal(await make(':', `copy-${name}`), '', `a copy of ${name}`);
        assert.equal(await make('touch include/h1.h', `copy-${name}`), dependents(1));
      }
      // The objects that were built here are those that are built elsewhere.
      await where.shell(
        "cp -a @built/project ../outside; make -sC ../outside clean; make -sC ../outside -j3; cd ../outside; find build sum -name '*.[od]' -o -name sum | sort | xargs sha1sum > ../digests; cd ../mnt/@built/project; sha1sum --quiet -c ../../../digests",
      );
    },
  },
  {
    name: 'npm',
    checks: 'npm ci of this repository, its build, some of its tests: the same files and results as outside',
    needs: ['npm', 'npx', 'diff'],
    async run(scene) {
      const where = await scene.store();
      const left = new Set(['node_modules', 'dist', '.git']);
      const filter = (path: string) => path === PROJECT || !left.has(basename(path));
      cpSync(PROJECT, `${where.base}/native`, { recursive: true, filter, verbatimSymlinks: true });
      await where.shell('cp -a ../native project');
      const run = (directory: string) =>
        where.shell(
          `cd '${directory}'; npm ci --no-audit --no-fund --loglevel=error > ../npm.log 2>&1 || { cat ../npm.log; exit 1; }
           npm run --silent build; npm ls --all --parseable | sed "s#$PWD##" | sort
           env -u NODE_OPTIONS LSNFS_TEST_SEED=${scene.seed} npx ava --tap 'test/encoding/**' 'test/btree/**' 2> /dev/null | grep -E '^(ok|not ok)' | sed 's/ [0-9]* - / /' | sort; ls -A . | sort`,
          where.base,
          600_000,
        );
      const native = await run(`${where.base}/native`);
      const inMount = await run(`${where.mountpoint}/project`);
      assert.equal(inMount, native);
      const passed = native.match(/^ok/gm)?.length ?? 0;
      assert.ok(passed > 20 && !/^not ok/m.test(native), native);
      // What npm and the compiler wrote: all but the notes of when things were done.
      const diff =
        'diff -r --no-dereference -x .package-lock.json -x node_modules.cache -x .cache -x "*.tsbuildinfo"';
      await where.shell(`${diff} ../native project`);
      await where.snapshot('installed');
      await where.shell(`rm -rf project/node_modules; ${diff} ../native @installed/project`);
      scene.note(
        `${passed} tests; ${await where.shell('find @installed -type f | wc -l')}`.trim().concat(' files'),
      );
    },
  },
];
