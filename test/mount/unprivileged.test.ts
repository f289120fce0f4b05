/** Mounts by other users than root, who come through fusermount3; owners that are shown as others; mount(8) and fstab. */
import { existsSync } from 'node:fs';
import { mountTest, sayWhySkipped } from '../helpers/mount-test.ts';
import { UserWorld } from '../helpers/user-world.ts';

sayWhySkipped();

const PLACED = 'Placed /sbin/mount.fuse.lsnfs: mount(8) and /etc/fstab know the type fuse.lsnfs now.\n';

mountTest('a user mounts, works, is killed, comes back and unmounts, and nobody else gets in', async (t) => {
  const world = await UserWorld.create(t);
  await world.shell(
    'nobody',
    'lsnfs init s; mkdir m; lsnfs mount s m; mkdir m/d; echo kept > m/d/f; sync m/d; lsnfs snapshot create m before; echo new > m/d/f',
  );
  t.is(
    await world.shell('nobody', "stat -c '%u %g' m m/d/f; cat m/@before/d/f"),
    '65534 65534\n65534 65534\nkept\n',
  );
  t.regex(
    await world.shell('nobody', `grep ' ${world.home}/m ' /proc/self/mountinfo`),
    /nosuid,nodev.*user_id=65534/,
  );
  for (const other of ['daemon', 'root'] as const)
    t.regex((await world.run(other, 'ls m')).stderr, /Permission denied/, other);
  t.regex(
    (await world.run('daemon', 'lsnfs status s')).stderr,
    /only that user and root may|only its owner and root may/,
  );
  // Who keeps it busy is said.
  const busy = await world.run(
    'nobody',
    '(cd m/d; exec sleep 60) & sleep 0.2; lsnfs unmount m || status=$?; kill $!; exit $status',
  );
  t.is(busy.code, 1);
  t.regex(busy.stderr, /cannot unmount .*sleep \(/);
  await world.shell(
    'nobody',
    'pkill=$(lsnfs status m --json | grep -o \'"pid": *[0-9]*\' | grep -o "[0-9]*"); kill -KILL $pkill',
  );
  t.regex((await world.run('nobody', 'ls m')).stderr, /not connected|connection abort/);
  const again = await world.run('nobody', 'lsnfs mount s m; cat m/@before/d/f; cat m/d/f');
  t.is(again.code, 0);
  t.regex(again.stderr, /server that died/);
  t.regex(again.stdout, /kept\n(kept|new)\n$/);
  await world.shell('nobody', 'lsnfs unmount m; test -z "$(ls m)"; test ! -e s/lock; lsnfs check s --quiet');
});

mountTest('what a user lacks is said in a sentence', async (t) => {
  const world = await UserWorld.create(t);
  await world.shell('nobody', 'lsnfs init s; mkdir m');
  await world.shell('root', 'mkdir ../foreign');
  const refusal = async (script: string) => {
    const { code, stderr } = await world.run('nobody', script);
    t.is(code, 1, stderr);
    t.regex(stderr, /^lsnfs: [^\n]*\n$/);
    return stderr;
  };
  t.regex(await refusal('lsnfs mount s m --allow-other'), /user_allow_other into \/etc\/fuse\.conf/);
  t.regex(await refusal('lsnfs mount s m -o suid'), /suid is for root only/);
  t.regex(await refusal('lsnfs mount s ../foreign'), /directory must be yours/);
  t.regex(await refusal('PATH=/nowhere; lsnfs mount s m'), /fusermount3 is not installed.*package fuse3/);
  const hidden = (what: string) =>
    `mkdir ../hidden; unshare -m bash -c 'mount --bind ../hidden "${world.base}/project/node_modules/${what}"
     exec setpriv --reuid 65534 --regid 65534 --clear-groups "${world.base}/node" "${world.command}" mount s m'`;
  const { code, stderr } = await world.run('root', hidden('koffi'));
  t.is(code, 1);
  t.regex(stderr, /needs the npm package koffi, which is not installed; install .* or mount as root/);
  t.is(await world.shell('nobody', 'ls m; grep -c " $PWD/m " /proc/self/mountinfo || true'), '0\n');
  // With the line, others come in, and permissions count.
  world.allowOthers(true);
  await world.shell(
    'nobody',
    'lsnfs mount s m -o allow_other,noexec,nofail,x-a=b; mkdir m/d; echo mine > m/d/f; chmod 600 m/d/f; echo all > m/g',
  );
  t.is(await world.shell('daemon', 'cat m/g; ls m/d'), 'all\nf\n');
  t.regex((await world.run('daemon', 'cat m/d/f')).stderr, /Permission denied/);
  t.regex((await world.run('daemon', 'touch m/new')).stderr, /Permission denied/);
  t.is(await world.shell('root', 'cat m/d/f'), 'mine\n');
  t.regex((await world.run('nobody', 'cp /bin/true m/program; m/program')).stderr, /Permission denied/);
  await world.shell('nobody', 'lsnfs unmount m');
});

mountTest("--uid and --gid show all files as one user's; the store keeps its owners", async (t) => {
  const world = await UserWorld.create(t);
  await world.shell(
    'root',
    'lsnfs init s; mkdir m; lsnfs mount s m; mkdir m/theirs; echo x > m/theirs/f; chmod 600 m/theirs/f; chown -R 1234:4321 m/theirs; lsnfs unmount m',
  );
  await world.shell('root', 'lsnfs mount s m --allow-other --uid nobody -o gid=65534,suid');
  t.is(
    await world.shell('nobody', "cat m/theirs/f; stat -c '%u %g' m m/theirs m/theirs/f"),
    `x\n${'65534 65534\n'.repeat(3)}`,
  );
  t.regex(await world.shell('root', 'grep " $PWD/m " /proc/self/mountinfo'), /m rw,nodev,.* - fuse/);
  await world.shell(
    'nobody',
    'cd m/theirs; echo y > new; mkdir d; ln -s f l; mkfifo p; chmod 4755 f; chown nobody f; echo z >> f; touch ../top',
  );
  t.regex((await world.run('root', 'chown 0 m/theirs/f')).stderr, /not permitted/);
  t.regex((await world.run('daemon', 'touch m/theirs/f')).stderr, /Permission denied/);
  t.is(await world.shell('nobody', "stat -c '%u %g' m/@latest/theirs/f"), '65534 65534\n');
  await world.shell('root', 'lsnfs unmount m; lsnfs mount s m');
  t.is(
    await world.shell(
      'root',
      "cd m; stat -c '%n %u %g %a' theirs theirs/f theirs/new theirs/d theirs/l theirs/p top",
    ),
    [
      'theirs 1234 4321 755',
      'theirs/f 1234 4321 755',
      'theirs/new 1234 4321 644',
      'theirs/d 1234 4321 755',
      'theirs/l 1234 4321 777',
      'theirs/p 1234 4321 644',
      'top 0 0 644',
      '',
    ].join('\n'),
  );
  await world.shell('root', 'lsnfs unmount m; lsnfs check s --quiet');
});

mountTest('mount(8) and fstab find lsnfs after setup', async (t) => {
  const world = await UserWorld.create(t);
  const helper = '/sbin/mount.fuse.lsnfs';
  const outside = existsSync(helper);
  await world.shell('nobody', 'lsnfs init s; mkdir m');
  t.regex(
    (await world.run('nobody', 'lsnfs setup 2>&1; true')).stdout,
    /only root may write .* "sudo lsnfs setup"/,
  );
  t.is(await world.shell('root', 'umask 077; lsnfs setup 2> ../said'), PLACED);

  // By root, with options in the manner of mount(8).
  await world.shell(
    'root',
    'mount -t fuse.lsnfs "$PWD/s" "$PWD/m" -o noexec,noatime,allow_other,_netdev,x-test=1,comment=ours',
  );
  const options = await world.shell('root', 'findmnt -no FSTYPE,OPTIONS "$PWD/m"');
  t.regex(options, /^fuse\.lsnfs .*nosuid,nodev,noexec.*allow_other/);
  t.is(await world.shell('nobody', 'echo hello > m/f; cat m/f'), 'hello\n');
  await world.shell(
    'root',
    'umount m; for i in $(seq 400); do test -e s/lock || break; sleep 0.05; done; test ! -e s/lock',
  );
  const unknown = await world.run('root', 'mount -t fuse.lsnfs "$PWD/s" "$PWD/m" -o no_such');
  t.is(unknown.code, 1);
  t.regex(unknown.stderr, /knows no option 'no_such'; it knows allow_other, .*uid=/);
  const none = await world.run('root', 'mount -t fuse.lsnfs "$PWD/none" "$PWD/m"');
  t.is(none.code, 32);
  t.regex(none.stderr, /there is no store at/);

  // From fstab, by the user whom it allows to.
  world.writeFstab(`${world.home}/s ${world.home}/m fuse.lsnfs user,noauto,snapdir=visible 0 0\n`);
  await world.shell(
    'nobody',
    'mount "$PWD/m"; test "$(cat m/f)" = hello; lsnfs snapshot create m x; ls m | grep -qx @x; lsnfs unmount m',
  );
  t.is(await world.shell('root', `lsnfs setup --remove; test ! -e ${helper}`), `Removed ${helper}.\n`);
  t.is(existsSync(helper), outside, 'nothing is left in the real /sbin');
});
