/** Programs that people sit in front of: vim, sed -i, tail -f. */
import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { LineProgram } from '../helpers/mounting.ts';
import { type ProgramCase, within } from './harness.ts';

/** What is the same of a file, whatever the editor does with it. */
const STATE = "stat -c '%n %A %U:%G %s %h %F'";

export const EDITOR_CASES: readonly ProgramCase[] = [
  {
    name: 'editors',
    checks:
      'vim in each way of writing (rename, copy, in place), swap file and recovery, undo file; sed -i, patch: as natively',
    needs: ['vim', 'sed', 'patch', 'getfattr'],
    async run(scene) {
      const where = await scene.store();
      await where.shell('mkdir native', where.base);
      const script = `
        export HOME=$PWD; mkdir -p undo work; cd work; umask 022
        edit() { timeout -s KILL 60 vim -u NONE -i NONE -N -es "$@"; }
        seq 500 > text; chmod 640 text; chown 1000:1001 text; setfattr -n user.mark -v kept text; setfacl -m u:1002:r text; ln text hard; ln -s text soft
        for copy in yes no auto; do for backup in 'writebackup nobackup' 'nowritebackup nobackup' 'backup backupext=.$copy'; do
          edit -c "set backupcopy=$copy $backup" -c '%s/4/four-/g' -c 'normal Goend' -c wq text; ${STATE} *; sha1sum text; edit -c 'set backupcopy=auto' -c '%s/four-/4/g' -c wq soft; ${STATE} *; sha1sum text
        done; done
        getfattr -d -m - text soft | sort; getfacl -n text | sort; cat hard | sha1sum
        edit -c 'set undofile undodir=../undo' -c '%d' -c 'wq' text; test ! -s text; edit -c 'set undofile undodir=../undo' -c 'edit text' -c 'undo' -c 'wq' text; sha1sum text
        edit -c 'set encoding=utf-8' -c '1s/.*/ünï ☃/' -c 'w ++enc=utf-16 wide' -c q! text; od -An -tx1 wide | head -n 2
        sed -i -e 's/5/five/g' -e 10q text; sed -i.bak -n '2,4p' text; sed --follow-symlinks -i 's/$/ end/' soft; ${STATE} *; cat text text.bak
        seq 40 > a; seq 40 | sed 's/^2/two/' > b; diff -u a b > patch || true; patch -s -b a patch; cmp a b; ${STATE} a a.orig; patch -sR a patch; cmp a a.orig
        ls -A | sort`;
      const [inMount, native] = [
        await where.shell(script),
        await where.shell(script, `${where.base}/native`),
      ];
      assert.equal(inMount, native);
      // Killed amid an edit: what was typed is in the swap file.
      const killed = `
        seq 100 > lost; mkfifo keys; (exec 9> keys; printf '1s/.*/typed/\\npreserve\\n' >&9; sleep 60) & feeder=$!
        vim -u NONE -i NONE -N -es -c 'set directory=. updatecount=1' lost < keys & editor=$!
        for _ in $(seq 100); do [ -s .lost.swp ] && grep -q typed .lost.swp && break; sleep 0.1; done
        kill -KILL $editor; wait $editor || true; kill $feeder; test "$(head -n 1 lost)" = 1
        timeout -s KILL 60 vim -u NONE -i NONE -N -es -r -c 'w! recovered' -c q! lost || true; head -n 1 recovered; rm -f .lost.swp`;
      assert.equal(await where.shell(killed), 'typed\n');
    },
  },
  {
    name: 'tail',
    checks:
      'tail -f and -F see what others append, rotate and truncate; two appenders with O_APPEND lose no line',
    needs: ['tail', 'python3'],
    async run(scene) {
      const where = await scene.store();
      await where.shell('echo first > log');
      const follow = (...words: string[]) => {
        const program = new LineProgram('tail', words, where.mountpoint);
        scene.teardown(() => program.end());
        return program;
      };
      const next = (program: LineProgram) => within(60_000, 'tail says the next line', program.line());
      const byDescriptor = follow('-f', 'log');
      const byName = follow('-F', '-s', '0.2', 'log');
      for (const program of [byDescriptor, byName]) assert.equal(await next(program), 'first');
      for (let i = 0; i < 20; i++) {
        await where.shell(`echo line ${i} >> log`);
        if (i % 4 > 0) continue;
        await sleep(50);
      }
      for (const program of [byDescriptor, byName])
        for (let i = 0; i < 20; i++) assert.equal(await next(program), `line ${i}`);
      await where.shell('mv log log.1; echo rotated > log');
      assert.equal(await next(byName), 'rotated');
      await where.shell('echo old >> log.1');
      assert.equal(await next(byDescriptor), 'old');
      await where.shell(': > log; sleep 1.5; echo truncated >> log');
      assert.equal(await next(byName), 'truncated');

      const append = `
import os, sys
f = os.open("shared", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
for i in range(3000): os.write(f, b"%s %d %s\\n" % (sys.argv[1].encode(), i, b"x" * (i % 200)))`;
      await where.shell(
        `for who in a b c; do python3 -c '${append}' $who & done; wait; test "$(wc -l < shared)" = 9000
         for who in a b c; do grep "^$who " shared | cut -d ' ' -f 2 | cmp - <(seq 0 2999); done`,
      );
    },
  },
];
