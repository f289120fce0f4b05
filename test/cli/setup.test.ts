/** What lsnfs setup puts in place, in a directory of the test's; options in the manner of mount(8). */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { helperPath, helperScript, placeHelper, removeHelper } from '../../cli/helper-script.ts';
import { parseMountOptions } from '../../cli/mount-options.ts';

test('the helper is placed, kept, replaced and removed; nothing of others is touched', (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'lsnfs-setup-'));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const path = helperPath({ directory });
  const place = (script: string, dryRun = false) => placeHelper(script, { directory, dryRun });
  const script = helperScript('/usr/bin/node', '/opt/lsnfs/main.js');
  t.is(place(script, true), 'placed');
  t.deepEqual(readdirSync(directory), []);
  t.is(place(script), 'placed');
  t.is(statSync(path).mode & 0o777, 0o755);
  t.is(place(script), 'unchanged');
  const other = helperScript('/usr/bin/node', '/elsewhere/main.js');
  t.is(place(other, true), 'replaced');
  t.is(place(other), 'replaced');
  t.is(readFileSync(path, 'utf8'), other);
  t.is(removeHelper({ directory, dryRun: true }), 'removed');
  t.is(removeHelper({ directory, dryRun: false }), 'removed');
  t.is(removeHelper({ directory, dryRun: false }), 'absent');
  writeFileSync(path, '#!/bin/sh\nsomething else\n');
  t.throws(() => place(script), { message: /is not of lsnfs: it is left as it is/ });
  t.throws(() => removeHelper({ directory, dryRun: false }), { message: /is not of lsnfs/ });
  t.deepEqual(readdirSync(directory), ['mount.fuse.lsnfs']);
});

test('the helper passes on what mount(8) says, whatever is in it, and answers as mount(8) does', (t) => {
  const directory = mkdtempSync(join(tmpdir(), "lsnfs 'setup' -"));
  t.teardown(() => rmSync(directory, { recursive: true }));
  const command = join(directory, 'a command');
  writeFileSync(command, 'printf "<%s>" "$@"; exit "$STATUS"');
  placeHelper(helperScript('/bin/bash', command), { directory, dryRun: false });
  const run = (status: number, ...words: string[]) =>
    spawnSync(helperPath({ directory }), words, {
      encoding: 'utf8',
      env: { ...process.env, STATUS: String(status) },
    });
  const said = run(
    0,
    '/a b',
    "it's",
    '-v',
    '-n',
    '-s',
    '-o',
    'ro,x-a=$(b)',
    '-o',
    'uid=1',
    '-t',
    'fuse.lsnfs',
  );
  t.is(said.stdout, `<mount><--sloppy><--options><,ro,x-a=$(b),uid=1><--></a b><it's>`);
  t.is(said.status, 0);
  t.is(run(0, '/a', '/b').stdout, '');
  t.deepEqual(
    [run(1, '/a', '/b').status, run(2, '/a', '/b').status, run(7, '/a', '/b', '-f').status],
    [32, 1, 0],
  );
  t.is(run(0, '/a').status, 1);
  rmSync(command);
  const gone = run(0, '/a', '/b');
  t.is(gone.status, 32);
  t.regex(gone.stderr, /lsnfs is not at .* any more/);
});

test('options in the manner of mount(8): the last counts, what is not ours is passed over', (t) => {
  t.deepEqual(
    parseMountOptions([
      'defaults,rw,ro,noexec,_netdev,nofail,x-systemd.after="a,b",comment=any thing,user',
      ',nosuid,uid=12,gid=34,uid=56,snapdir=visible,commit_interval=2s,noatime,allow_other,nonempty',
    ]),
    {
      readOnly: true,
      uid: 56,
      gid: 34,
      snapdir: 'visible',
      commitIntervalMs: 2000,
      atime: 'noatime',
      allowOther: true,
      nonEmpty: true,
      flags: ['noexec', 'nosuid'],
    },
  );
  t.is(parseMountOptions(['ro,rw']).readOnly, false);
  t.is(parseMountOptions(['uid=root,gid=root']).uid, 0);
  const refused: [string, RegExp][] = [
    ['rox', /knows no option 'rox'; it knows .*\bro\b.*uid=/],
    ['uid', /knows no option 'uid'/],
    ['ro=1', /knows no option 'ro=1'/],
    ['fsname=x', /knows no option/],
    ['constructor', /knows no option/],
    ['remount,rw', /cannot be changed; unmount/],
    ['uid=no such user', /no user 'no such user'/],
    ['gid=4294967295', /no group '4294967295'/],
    ['uid=-1', /no user '-1'/],
    ['snapdir=maybe', /hidden or visible/],
    ['commit_interval=soon', /500ms/],
  ];
  for (const [list, message] of refused) t.throws(() => parseMountOptions([list]), { message }, list);
  t.deepEqual(parseMountOptions(['rox,uid=1'], true), { uid: 1, flags: [] });
});
