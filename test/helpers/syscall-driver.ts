/**
 * The calls of the conformance suite as real system calls: a python3 child that makes them (syscall-driver.py), one
 * at a time. The child's working directory is the directory under test; this process never touches that itself, so
 * it may be the one that serves the mount.
 */
import { type ChildProcessWithoutNullStreams, spawn, spawnSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import type {
  DirectoryEntry,
  Feature,
  Identity,
  PathName,
  Posix,
  Stat,
  TimeChange,
} from '../vfs/conformance/posix.ts';

type Packed = string | number | boolean | { b: string };

function pack(value: PathName | number | Buffer): Packed {
  if (typeof value !== 'number') return { b: Buffer.from(value).toString('base64') };
  return Number.isSafeInteger(value) ? value : BigInt(value).toString();
}

function bytesOf(value: unknown): Buffer {
  return Buffer.from((value as { b: string }).b, 'base64');
}

type RawStat = Omit<Stat, 'atimeNs' | 'mtimeNs' | 'ctimeNs'> & {
  atimeNs: string;
  mtimeNs: string;
  ctimeNs: string;
};

function stat(value: unknown): Stat {
  const raw = value as RawStat;
  return { ...raw, atimeNs: BigInt(raw.atimeNs), mtimeNs: BigInt(raw.mtimeNs), ctimeNs: BigInt(raw.ctimeNs) };
}

class SystemCallError extends Error {
  readonly code: string;
  constructor(code: string, op: string, detail: string | undefined) {
    super(detail === undefined ? `${op}: ${code}` : `${op}: ${code} (${detail})`);
    this.code = code;
  }
}

/** Whether the driver can run here: it needs python3. */
export function hasSyscallDriver(): boolean {
  return (
    spawnSync('python3', ['-c', 'import ctypes, os; os.copy_file_range'], { stdio: 'ignore' }).status === 0
  );
}

/** The script is not compiled: it stays in the source tree, beside this module's source. */
const SCRIPT = new URL(
  import.meta.url.endsWith('.ts') ? 'syscall-driver.py' : '../../../test/helpers/syscall-driver.py',
  import.meta.url,
);

export interface SyscallDriverOptions {
  readonly features: ReadonlySet<Feature>;
  /** Milliseconds that are more than the resolution of the file system's clock. Default: 15. */
  readonly tickMs?: number;
}

export class SyscallDriver implements Posix {
  readonly features: ReadonlySet<Feature>;
  private readonly child: ChildProcessWithoutNullStreams;
  private readonly waiting: { resolve(line: string): void; reject(error: Error): void }[] = [];
  private readonly tickMs: number;
  private ended: Error | undefined;
  private errors = '';

  /** `directory`: where the child works. It must exist. */
  constructor(directory: string, options: SyscallDriverOptions) {
    this.features = options.features;
    this.tickMs = options.tickMs ?? 15;
    this.child = spawn('python3', ['-u', SCRIPT.pathname], {
      cwd: directory,
      stdio: ['pipe', 'pipe', 'pipe'],
    });
    createInterface({ input: this.child.stdout }).on('line', (line) => this.waiting.shift()?.resolve(line));
    this.child.stderr.on('data', (data: Buffer) => {
      this.errors += data.toString();
    });
    const end = (why: string): void => {
      this.ended = new Error(`the syscall driver ended: ${why} ${this.errors}`);
      for (const { reject } of this.waiting.splice(0)) reject(this.ended);
    };
    this.child.on('error', (error) => end(error.message));
    this.child.on('close', (code) => end(`exit ${code}`));
    this.child.stdin.on('error', (error) => end(error.message));
  }

  get pid(): number | undefined {
    return this.child.pid;
  }

  /** Ends the child. */
  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const closed = new Promise((resolve) => this.child.once('close', resolve));
    this.child.stdin.end();
    await closed;
  }

  private async call(op: string, args: Packed[], as?: Identity): Promise<unknown> {
    if (this.ended !== undefined) throw this.ended;
    const line = await new Promise<string>((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.child.stdin.write(`${JSON.stringify({ op, args, as: as ?? null })}\n`);
    });
    const answer = JSON.parse(line) as { ok?: unknown; errno?: string; detail?: string };
    if (answer.errno !== undefined) throw new SystemCallError(answer.errno, op, answer.detail);
    return answer.ok;
  }

  async chdir(path: PathName): Promise<void> {
    await this.call('chdir', [pack(path)]);
  }
  async tick(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, this.tickMs));
  }
  async stat(path: PathName, as?: Identity): Promise<Stat> {
    return stat(await this.call('stat', [pack(path)], as));
  }
  async lstat(path: PathName, as?: Identity): Promise<Stat> {
    return stat(await this.call('lstat', [pack(path)], as));
  }
  async fstat(fd: number): Promise<Stat> {
    return stat(await this.call('fstat', [fd]));
  }
  async access(path: PathName, mask: number, as?: Identity): Promise<void> {
    await this.call('access', [pack(path), mask], as);
  }
  async mkdir(path: PathName, mode = 0o755, as?: Identity): Promise<void> {
    await this.call('mkdir', [pack(path), mode], as);
  }
  async rmdir(path: PathName, as?: Identity): Promise<void> {
    await this.call('rmdir', [pack(path)], as);
  }
  async mknod(path: PathName, mode: number, device = 0, as?: Identity): Promise<void> {
    await this.call('mknod', [pack(path), mode, device], as);
  }
  async symlink(target: PathName, path: PathName, as?: Identity): Promise<void> {
    await this.call('symlink', [pack(target), pack(path)], as);
  }
  async readlink(path: PathName, as?: Identity): Promise<Buffer> {
    return bytesOf(await this.call('readlink', [pack(path)], as));
  }
  async link(path: PathName, newPath: PathName, as?: Identity): Promise<void> {
    await this.call('link', [pack(path), pack(newPath)], as);
  }
  async unlink(path: PathName, as?: Identity): Promise<void> {
    await this.call('unlink', [pack(path)], as);
  }
  async rename(path: PathName, newPath: PathName, flags = 0, as?: Identity): Promise<void> {
    await this.call('rename', [pack(path), pack(newPath), flags], as);
  }

  async open(path: PathName, flags: number, mode = 0o644, as?: Identity): Promise<number> {
    return (await this.call('open', [pack(path), flags, mode], as)) as number;
  }
  async close(fd: number): Promise<void> {
    await this.call('close', [fd]);
  }
  async linkFd(fd: number, newPath: PathName, as?: Identity): Promise<void> {
    await this.call('linkFd', [fd, pack(newPath)], as);
  }
  async pread(fd: number, offset: number, length: number): Promise<Buffer> {
    return bytesOf(await this.call('pread', [fd, pack(offset), length]));
  }
  async pwrite(fd: number, offset: number, data: Buffer, as?: Identity): Promise<number> {
    return (await this.call('pwrite', [fd, pack(offset), pack(data)], as)) as number;
  }
  async append(fd: number, data: Buffer): Promise<number> {
    return (await this.call('append', [fd, pack(data)])) as number;
  }
  async fsync(fd: number): Promise<void> {
    await this.call('fsync', [fd]);
  }
  async truncate(path: PathName, size: number, as?: Identity): Promise<void> {
    await this.call('truncate', [pack(path), pack(size)], as);
  }
  async ftruncate(fd: number, size: number, as?: Identity): Promise<void> {
    await this.call('ftruncate', [fd, pack(size)], as);
  }
  async fallocate(fd: number, mode: number, offset: number, length: number): Promise<void> {
    await this.call('fallocate', [fd, mode, pack(offset), pack(length)]);
  }
  async lseek(fd: number, offset: number, whence: number): Promise<number> {
    return (await this.call('lseek', [fd, pack(offset), whence])) as number;
  }
  async copyFileRange(
    from: number,
    fromOffset: number,
    to: number,
    toOffset: number,
    length: number,
  ): Promise<number> {
    return (await this.call('copyFileRange', [
      from,
      pack(fromOffset),
      to,
      pack(toOffset),
      pack(length),
    ])) as number;
  }

  async chmod(path: PathName, mode: number, as?: Identity): Promise<void> {
    await this.call('chmod', [pack(path), mode], as);
  }
  async chown(path: PathName, uid: number, gid: number, as?: Identity): Promise<void> {
    await this.call('chown', [pack(path), uid, gid], as);
  }
  async lchown(path: PathName, uid: number, gid: number, as?: Identity): Promise<void> {
    await this.call('lchown', [pack(path), uid, gid], as);
  }
  async utimens(
    path: PathName,
    access: TimeChange,
    modify: TimeChange,
    follow = true,
    as?: Identity,
  ): Promise<void> {
    await this.call('utimens', [pack(path), String(access), String(modify), follow], as);
  }

  async opendir(path: PathName, as?: Identity): Promise<number> {
    return (await this.call('opendir', [pack(path)], as)) as number;
  }
  async getdents(fd: number, bytes: number): Promise<DirectoryEntry[]> {
    const entries = (await this.call('getdents', [fd, bytes])) as (Omit<DirectoryEntry, 'name'> & {
      name: unknown;
    })[];
    return entries.map((entry) => ({ ...entry, name: bytesOf(entry.name) }));
  }
  async seekdir(fd: number, cookie: string): Promise<void> {
    await this.call('seekdir', [fd, cookie]);
  }

  async getxattr(path: PathName, name: string, as?: Identity): Promise<Buffer> {
    return bytesOf(await this.call('getxattr', [pack(path), pack(name)], as));
  }
  async setxattr(path: PathName, name: string, value: Buffer, flags = 0, as?: Identity): Promise<void> {
    await this.call('setxattr', [pack(path), pack(name), pack(value), flags], as);
  }
  async listxattr(path: PathName, as?: Identity): Promise<string[]> {
    return (await this.call('listxattr', [pack(path)], as)) as string[];
  }
  async removexattr(path: PathName, name: string, as?: Identity): Promise<void> {
    await this.call('removexattr', [pack(path), pack(name)], as);
  }
  async statfs(
    path: PathName,
  ): Promise<{ blockSize: number; blocks: number; blocksFree: number; nameMax: number }> {
    return (await this.call('statfs', [pack(path)])) as {
      blockSize: number;
      blocks: number;
      blocksFree: number;
      nameMax: number;
    };
  }
}
