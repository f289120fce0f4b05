/**
 * Open files whose last name is removed.
 *
 * libfuse 2 names requests by paths, so that it cannot do without a name: instead of removing an entry that somebody has
 * open it renames it to `.fuse_hidden` and 16 digits, in the same directory, and removes that when the file is closed. The
 * file systems here keep what is open by themselves. So such a rename is taken for what it is, the removal of the entry, and
 * the new name leads to the inode for as long as libfuse uses it: nobody sees it in a listing, the file has no link, and
 * after a crash it is gone.
 *
 * The same happens to an open file that another is renamed onto, just before that rename, and nothing tells the one from the
 * other but that the same thread of libfuse comes with the rename next. So the removal is put off until that thread says
 * what it is, or for a few milliseconds; nobody else is answered meanwhile (dispatch.ts). A file that replaces an open one does so in
 * one transaction, and its name leads to the one or the other at any time.
 *
 * A program that renames an open file to such a name itself removes it by that; it could have removed it as well.
 *
 * What has to stay is the directory: without it libfuse makes no path of the name, and the program could read no more.
 */
const HIDDEN_NAME = /^\.fuse_hidden[0-9a-f]{16}$/;

/** Whether libfuse makes up such names. */
export function isHiddenName(name: string): boolean {
  return HIDDEN_NAME.test(name);
}

export class HiddenFiles {
  /** By name: no two are alike during one mount. */
  private readonly files = new Map<string, { readonly inode: number; readonly parent: number }>();

  add(name: string, inode: number, parent: number): void {
    this.files.set(name, { inode, parent });
  }

  /** The inode of the live file system that the name leads to, or undefined. */
  inode(name: string): number | undefined {
    return this.files.size === 0 ? undefined : this.files.get(name)?.inode;
  }

  /** libfuse removes the name. Returns the inode that it led to, or undefined when the name is an ordinary one. */
  remove(name: string): number | undefined {
    const file = this.files.get(name);
    this.files.delete(name);
    return file?.inode;
  }

  /** Whether a directory must stay because a file that was removed from it is open. */
  isIn(directory: number): boolean {
    for (const { parent } of this.files.values()) if (parent === directory) return true;
    return false;
  }
}
