/** What a state holds, told in full, for tests that compare states; and changes of attributes for random histories. */
import type { Aspect } from '../../src/history/changes.ts';
import {
  type FileSystem,
  O_RDONLY,
  ROOT_CALLER,
  ROOT_INODE,
  S_IFDIR,
  S_IFIFO,
  S_IFLNK,
  S_IFMT,
  S_IFREG,
} from '../../src/vfs/file-system.ts';
import type { LiveFileSystem } from '../../src/vfs/live-file-system.ts';
import type { Random } from './random.ts';
import type { ModelNode, ModelRun } from './vfs-model.ts';

/** All that a listing tells of one inode. */
export interface Listed {
  /** Of each entry: the directory's inode and the name, and the path. */
  readonly entries: Map<string, string>;
  readonly isDirectory: boolean;
  readonly facts: ReadonlyMap<Aspect, string>;
}

/** A full listing: every inode that has a path. */
export function listing(fs: FileSystem): Map<number, Listed> {
  const found = new Map<number, Listed>();
  const visit = (inode: number, entry: string, path: string): void => {
    const known = found.get(inode);
    if (known !== undefined) {
      known.entries.set(entry, path);
      return;
    }
    const a = { ...fs.getattr(ROOT_CALLER, inode) };
    const isDirectory = (a.mode & S_IFMT) === S_IFDIR;
    const xattrs = Buffer.from(fs.listxattr(ROOT_CALLER, inode)).toString().split('\0').filter(Boolean);
    const facts = new Map<Aspect, string>([
      ['mode', String(a.mode & 0o7777)],
      ['owner', `${a.uid}:${a.gid}`],
      ['times', `${a.modifySeconds}.${a.modifyNanoseconds} ${a.changeSeconds}.${a.changeNanoseconds}`],
      [
        'xattrs',
        xattrs
          .sort()
          .map((name) => {
            const value = fs.getxattr(ROOT_CALLER, inode, Buffer.from(name));
            return `${name}=${Buffer.from(value).toString('hex')}`;
          })
          .join(),
      ],
    ]);
    found.set(inode, { entries: new Map([[entry, path]]), isDirectory, facts });
    if (isDirectory) {
      const children: { name: string; child: number }[] = [];
      const handle = fs.opendir(ROOT_CALLER, inode);
      fs.readdir(handle, 0, (name, child) => {
        const text = Buffer.from(name).toString();
        if (text !== '.' && text !== '..') children.push({ name: text, child });
        return true;
      });
      fs.releasedir(handle);
      facts.set('entries', JSON.stringify(children));
      for (const { name, child } of children) {
        visit(child, `${inode}/${name}`, `${path === '/' ? '' : path}/${name}`);
      }
      return;
    }
    facts.set('links', String(a.links));
    facts.set('size', String(a.size));
    if ((a.mode & S_IFMT) === S_IFLNK) {
      facts.set('content', Buffer.from(fs.readlink(ROOT_CALLER, inode)).toString('latin1'));
    } else if ((a.mode & S_IFMT) === S_IFREG) {
      const handle = fs.open(ROOT_CALLER, inode, O_RDONLY);
      const content = Buffer.alloc(a.size);
      fs.read(handle, 0, content, 0, a.size);
      fs.release(handle);
      facts.set('content', content.toString('latin1'));
    }
  };
  visit(ROOT_INODE, '', '/');
  return found;
}

/** Changes of attributes, which the model knows nothing of. */
export function changeAttributes(fs: LiveFileSystem, run: ModelRun, random: Random): void {
  const nodes: ModelNode[] = [];
  const collect = (node: ModelNode): void => {
    nodes.push(node);
    for (const child of node.entries?.values() ?? []) collect(child);
  };
  collect(run.root);
  const { inode, target } = nodes[random.below(nodes.length)]!;
  switch (random.below(5)) {
    case 0:
      if (target !== undefined) break;
      fs.setattr(ROOT_CALLER, inode, { mode: 0o600 + random.below(0o100) });
      break;
    case 1:
      fs.setattr(ROOT_CALLER, inode, { uid: random.below(3), gid: random.below(3) });
      break;
    case 2:
      fs.setattr(ROOT_CALLER, inode, { modify: { seconds: random.below(1000), nanoseconds: 5 } });
      break;
    case 3:
      // No change at all, as far as anybody can see later.
      fs.setattr(ROOT_CALLER, inode, { access: { seconds: random.below(1000), nanoseconds: 5 } });
      break;
    default:
      fs.mknod(ROOT_CALLER, ROOT_INODE, Buffer.from(`fifo-${run.steps}`), S_IFIFO | 0o644, 0);
  }
}
