/**
 * A world for tests of mounts by other users than root: a mount namespace of its own, with a /dev/fuse that users may
 * open (as udev leaves it), an /etc/fuse.conf and an /etc/fstab of its own, and a /sbin into which files can be put.
 * Nothing of it is seen outside, and it is gone with the process that holds it, which ends with this one.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, chownSync, mkdirSync, mkdtempSync, realpathSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { COMMAND, type Outcome, runProgram } from './command-line.ts';

/** Users that every Debian has. */
export const USERS: Readonly<Record<'nobody' | 'daemon', number>> = { nobody: 65534, daemon: 1 };
export type User = keyof typeof USERS | 'root';

const HOLDER = `
set -eu
base=$1 project=$2 node=$3
mkdir "$base/project" "$base/sbin-before" "$base/sbin"
touch "$base/node"
mount --bind "$project" "$base/project"
# Where others may not read what was cloned, they get a copy of what runs.
as_nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
if ! as_nobody test -r "$base/project/dist/bundle/lsnfs.js" || ! as_nobody test -r "$base/project/node_modules/commander/package.json"; then
  umount "$base/project"
  mkdir "$base/project/node_modules"
  cp -r "$project/dist" "$project/package.json" "$base/project"
  for name in commander crc-32 diff koffi @koromix fuse-native node-gyp-build; do
    if [ -e "$project/node_modules/$name" ]; then cp -rL "$project/node_modules/$name" "$base/project/node_modules"; fi
  done
  chmod -R a+rX "$base/project"
fi
mount --bind "$node" "$base/node"
mknod -m 666 "$base/fuse" c 10 229
mount --bind "$base/fuse" /dev/fuse
mount --bind "$base/fuse.conf" /etc/fuse.conf
[ -e /etc/fstab ] && mount --bind "$base/fstab" /etc/fstab
sbin=$(readlink -f /sbin)
mount --bind "$sbin" "$base/sbin-before"
ln -s "$base"/sbin-before/* "$base/sbin"
mount --bind "$base/sbin" "$sbin"
echo ready
read -r _ || true
set +e
for _ in 1 2 3; do
  for file in $(grep -lsF -- "$base/" /proc/[0-9]*/cmdline); do
    pid=\${file//[!0-9]/}
    [ "$pid" != "$$" ] && [ "$pid" != "$PPID" ] && kill -KILL "$pid"
  done
  sleep 0.05
done
# The mounts go with this process: first out of the way of what removes the files.
awk -v base="$base/" 'index($5, base) == 1 { print $5 }' /proc/self/mountinfo | tac | while read -r mount; do umount -l -- "$mount"; done
umount -l "$sbin"
rm -rf --one-file-system -- "$base"
`;

export class UserWorld {
  /** The user nobody's, and the working directory of every script. */
  readonly home: string;
  readonly base: string;
  private readonly holder: ChildProcess;

  static async create(t: { teardown(work: () => unknown): void }): Promise<UserWorld> {
    const world = new UserWorld();
    t.teardown(() => world.end());
    let text = '';
    world.holder.stderr!.on('data', (chunk) => {
      text += chunk;
    });
    const [first] = await Promise.race([
      once(world.holder.stdout!, 'data'),
      once(world.holder, 'close').then(() => ['']),
    ]);
    if (!String(first).includes('ready')) throw new Error(`the namespace was not made: ${text}`);
    return world;
  }

  private constructor() {
    this.base = mkdtempSync(join(realpathSync(tmpdir()), 'lsnfs-user-'));
    chmodSync(this.base, 0o755);
    this.home = join(this.base, 'home');
    mkdirSync(this.home);
    chownSync(this.home, USERS.nobody, USERS.nobody);
    this.allowOthers(false);
    writeFileSync(join(this.base, 'fstab'), '');
    // What is compiled lies in dist/, beside node_modules.
    const project = dirname(dirname(dirname(COMMAND)));
    const words = ['-m', '--propagation', 'private', 'bash', '-c', HOLDER, 'holder', this.base, project];
    this.holder = spawn('unshare', [...words, realpathSync(process.execPath)], {
      detached: true,
      cwd: '/',
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    this.holder.stdin!.on('error', () => {});
  }

  /** Whether /etc/fuse.conf lets users say allow_other. */
  allowOthers(allowed: boolean): void {
    writeFileSync(join(this.base, 'fuse.conf'), allowed ? 'user_allow_other\n' : '#user_allow_other\n');
  }

  writeFstab(text: string): void {
    writeFileSync(join(this.base, 'fstab'), text);
  }

  /** A bash script as a user, in the home directory; `lsnfs` in it is this lsnfs. */
  run(user: User, script: string): Promise<Outcome> {
    const as = user === 'root' ? [] : identity(user);
    const words = ['-t', String(this.holder.pid), '-m', ...as, 'bash', '-euo', 'pipefail', '-c'];
    const prelude = `cd '${this.home}'; lsnfs() { '${this.base}/node' '${this.command}' "$@"; }\n`;
    return runProgram('nsenter', [...words, prelude + script]);
  }

  /** The same; throws unless it succeeds. Returns its standard output. */
  async shell(user: User, script: string): Promise<string> {
    const { code, stdout, stderr } = await this.run(user, script);
    if (code !== 0) throw new Error(`${user}: ${script}\nstatus ${code}\n${stdout}${stderr}`);
    return stdout;
  }

  /** The command line's entry, where every user may read it. */
  get command(): string {
    return join(this.base, 'project', 'dist', 'bundle', 'lsnfs.js');
  }

  private async end(): Promise<void> {
    const closed = once(this.holder, 'close');
    this.holder.stdin!.end();
    await closed;
  }
}

/** The words that make a program run as the user, with no groups besides. */
function identity(user: keyof typeof USERS): string[] {
  const id = String(USERS[user]);
  return ['setpriv', '--reuid', id, '--regid', id, '--clear-groups'];
}
