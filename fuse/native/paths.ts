/**
 * Paths of libfuse to what they mean in a volume.
 *
 * A path begins at the root of the mount; the kernel has followed symbolic links, and "." and ".." are its own. The first name
 * may be a door to a past state. Names are bytes in a file system and text here: one that is not UTF-8 comes from the
 * native part with U+FFFD in the place of bytes, so that a name with that character may be any. Such a name is no entry to be
 * found, and none that can be made.
 */
import { LsnfsError, PosixError } from '../../src/errors.ts';
import {
  type Attributes,
  type Door,
  type FileSystem,
  ROOT_CALLER,
  ROOT_INODE,
  type Volume,
} from '../../src/vfs/file-system.ts';
import type { HiddenFiles } from './hidden.ts';

const AT_SIGN = '@';
const REPLACEMENT = '\ufffd';
/** Names at the root that are remembered for an invalidation of everything; more are of no use to anyone. */
const ROOT_NAMES_MAX = 65_536;

/** What is at a path. */
export interface Node {
  readonly fileSystem: FileSystem;
  /** undefined: live. */
  readonly door: Door | undefined;
  readonly inode: number;
}

/** A node with its attributes, which are valid until the next call of the file system. */
export interface FoundNode extends Node {
  readonly attributes: Attributes;
}

/** An entry that is there or could be. */
export interface Entry {
  readonly fileSystem: FileSystem;
  readonly door: Door | undefined;
  readonly parent: number;
  readonly name: Buffer;
  readonly text: string;
}

/** 0 for the live file system. */
export function doorNumber(door: Door | undefined): number {
  return door === undefined ? 0 : door.number;
}

/** Whether text that came from the native part stands for other bytes. */
export function isMangled(text: string): boolean {
  return text.includes(REPLACEMENT);
}

/** @throws PosixError EINVAL for a name or a target that is not UTF-8 and so cannot be kept */
export function requireText(text: string): void {
  if (isMangled(text)) throw new PosixError('EINVAL', 'a name that is not UTF-8');
}

export class Paths {
  /** Names at the root that the kernel may know. */
  readonly rootNames = new Set<string>();
  private readonly volume: Volume;
  private readonly hidden: HiddenFiles;

  constructor(volume: Volume, hidden: HiddenFiles) {
    this.volume = volume;
    this.hidden = hidden;
  }

  /** @throws PosixError ENOENT, ENOTDIR, …, LsnfsError NO_SUCH_STATE */
  find(path: string): FoundNode {
    const slash = path.lastIndexOf('/');
    const hidden = this.hidden.inode(path.slice(slash + 1));
    if (hidden !== undefined) {
      const fileSystem = this.volume.live;
      const attributes = fileSystem.getattr(ROOT_CALLER, hidden);
      return { fileSystem, door: undefined, inode: hidden, attributes };
    }
    return this.walk(path === '/' ? [] : path.slice(1).split('/'));
  }

  /** Where an entry is or would be. @throws PosixError as `find`, EBUSY for the root */
  entry(path: string): Entry {
    const names = path.slice(1).split('/');
    const text = names.pop()!;
    if (text === '') throw new PosixError('EBUSY', 'the root');
    const { fileSystem, door, inode } = this.walk(names);
    return { fileSystem, door, parent: inode, name: Buffer.from(text), text };
  }

  /**
   * The same for what is to be removed or moved.
   * @throws PosixError EROFS when the name at the live root is that of a past state, ENOENT for a name that is not UTF-8
   */
  presentEntry(path: string): Entry {
    const entry = this.entry(path);
    if (isMangled(entry.text)) throw new PosixError('ENOENT');
    const { door, parent, name, text } = entry;
    if (door !== undefined || parent !== ROOT_INODE || !text.startsWith(AT_SIGN)) return entry;
    const { live } = this.volume;
    if (live.lookup(ROOT_CALLER, ROOT_INODE, name) !== undefined) return entry;
    if (this.doorOf(name) !== undefined) throw new PosixError('EROFS', 'a past state');
    return entry;
  }

  /** The same for what is to be made. @throws PosixError EINVAL for a name that is not UTF-8 */
  newEntry(path: string): Entry {
    requireText(path);
    return this.entry(path);
  }

  /** The door of a name, or undefined when no state can be opened by it. */
  private doorOf(name: Buffer): Door | undefined {
    try {
      return this.volume.door(name);
    } catch (error) {
      if (error instanceof LsnfsError && error.errno === 'ENOENT') return undefined;
      throw error;
    }
  }

  private walk(names: readonly string[]): FoundNode {
    let fileSystem: FileSystem = this.volume.live;
    let door: Door | undefined;
    let attributes = fileSystem.getattr(ROOT_CALLER, ROOT_INODE);
    for (let i = 0; i < names.length; i++) {
      const text = names[i]!;
      if (isMangled(text)) throw new PosixError('ENOENT');
      const name = Buffer.from(text);
      const found = fileSystem.lookup(ROOT_CALLER, attributes.inode, name);
      if (i === 0 && this.rootNames.size < ROOT_NAMES_MAX) this.rootNames.add(text);
      if (found !== undefined) attributes = found;
      else {
        door = i === 0 && text.startsWith(AT_SIGN) ? this.volume.door(name) : undefined;
        if (door === undefined) throw new PosixError('ENOENT');
        fileSystem = door.fileSystem;
        attributes = fileSystem.getattr(ROOT_CALLER, ROOT_INODE);
      }
    }
    return { fileSystem, door, inode: attributes.inode, attributes };
  }
}
