/**
 * Which paths a damage hits: inodes and ranges of keys, looked up in the namespace of one state.
 *
 * The namespace is read once for all damages of the state. It leads from names to inodes, so every entry is held
 * against what is looked for, and the names of all directories are kept to spell the paths out. Where pages of the
 * namespace itself are lost, what remains is used: a directory whose name is lost is shown by its number.
 */
import { walkTree } from '../btree/check.ts';
import { getU64BE } from '../encoding/bytes.ts';
import { cellCount, copyKey, valueLength, valueStart } from '../encoding/cells.ts';
import { direntInode, direntType } from '../encoding/dirent.ts';
import { KEY_MAX, TREE } from '../encoding/keys.ts';
import { LsnfsError } from '../errors.ts';
import type { Loss } from '../store/check-damage.ts';
import type { StateReader } from '../store/state.ts';
import { ROOT_INODE, S_IFDIR } from './file-system.ts';

/** Paths that are listed for one damage; more are counted. */
const PATHS_MAX = 1000;
/** Entries between two yields. */
const STEP_ENTRIES = 1024;
const SLASH = Buffer.from('/');

export interface HitPath {
  readonly path: Buffer;
  /** Of a directory of which only these names are hit: from … on, and below …; open where undefined. */
  readonly from?: Buffer;
  readonly to?: Buffer;
}

export interface HitPaths {
  readonly paths: HitPath[];
  more: number;
}

interface Place {
  readonly parent: number;
  readonly name: Buffer;
}

interface Search {
  readonly loss: Loss;
  readonly found: (Place & { inode: number })[];
  more: number;
}

/** Looks up what each loss hits in a state. The results come in the order of the losses. */
export function* findPaths(state: StateReader, losses: readonly Loss[]): Generator<void, HitPaths[]> {
  const searches = losses.map((loss): Search => ({ loss, found: [], more: 0 }));
  const byInode = new Map<number, Search[]>();
  const ranges: Search[] = [];
  for (const search of searches) {
    const { loss } = search;
    if (loss.kind === 'inode') {
      const same = byInode.get(loss.inode);
      if (same === undefined) byInode.set(loss.inode, [search]);
      else same.push(search);
    } else if (loss.kind === 'inodes') ranges.push(search);
  }
  const directories = new Map<number, Place>();
  const hit = (search: Search, place: Place, inode: number): void => {
    if (search.found.length < PATHS_MAX) search.found.push({ ...place, inode });
    else search.more++;
  };
  let work = 0;
  for (const { parent, name, inode, type } of entriesOf(state)) {
    if (++work % STEP_ENTRIES === 0) yield;
    if (type === S_IFDIR) directories.set(inode, { parent, name });
    for (const search of byInode.get(inode) ?? []) hit(search, { parent, name }, inode);
    for (const search of ranges) {
      const { loss } = search;
      if (loss.kind === 'inodes' && inode >= loss.first && inode <= loss.last)
        hit(search, { parent, name }, inode);
    }
  }
  const spell = (place: Place): Buffer => pathOf(directories, place);
  return searches.map((search) => {
    const { loss, found } = search;
    const paths: HitPath[] = found.map((place) => ({ path: spell(place) }));
    switch (loss.kind) {
      case 'inode':
        if (loss.inode === ROOT_INODE) paths.push({ path: SLASH });
        else if (paths.length === 0)
          paths.push({ path: Buffer.from(`(inode ${loss.inode}, which has no name)`) });
        break;
      case 'inodes':
        if (loss.first <= ROOT_INODE && loss.last >= ROOT_INODE) paths.unshift({ path: SLASH });
        break;
      case 'names':
        search.more += namesHit(loss, directories, paths);
        break;
      default:
    }
    return { paths, more: search.more };
  });
}

/** The directories of which entries lie between two keys. Returns how many there are beyond those listed. */
function namesHit(
  loss: Loss & { kind: 'names' },
  directories: ReadonlyMap<number, Place>,
  paths: HitPath[],
): number {
  const { from, to } = loss;
  const first = from === undefined ? 0 : directoryOf(from);
  const last = to === undefined ? Number.POSITIVE_INFINITY : directoryOf(to);
  let more = 0;
  const add = (inode: number): void => {
    if (inode < first || inode > last) return;
    const fromName = inode === first && from !== undefined ? from.subarray(8) : undefined;
    const toName = inode === last && to !== undefined ? to.subarray(8) : undefined;
    // Nothing is below the empty name.
    if (toName !== undefined && toName.length === 0) return;
    if (paths.length >= PATHS_MAX) {
      more++;
      return;
    }
    const place = directories.get(inode);
    const path =
      inode === ROOT_INODE ? SLASH : place === undefined ? nameless(inode) : pathOf(directories, place);
    paths.push({ path, ...(fromName?.length && { from: fromName }), ...(toName && { to: toName }) });
  };
  add(ROOT_INODE);
  // The names of the edges may be lost themselves.
  for (const edge of new Set([first, last])) {
    if (edge > ROOT_INODE && Number.isFinite(edge) && !directories.has(edge)) add(edge);
  }
  for (const inode of directories.keys()) add(inode);
  return more;
}

function directoryOf(key: Buffer): number {
  return getU64BE(key.length >= 8 ? key : Buffer.concat([key, Buffer.alloc(8 - key.length)]), 0);
}

function nameless(inode: number): Buffer {
  return Buffer.from(`(directory ${inode}, whose name is lost)`);
}

function pathOf(directories: ReadonlyMap<number, Place>, place: Place): Buffer {
  const parts: Buffer[] = [place.name];
  let at = place.parent;
  for (let steps = 0; at !== ROOT_INODE; steps++) {
    const above = directories.get(at);
    if (above === undefined || steps > directories.size) {
      parts.push(nameless(at));
      break;
    }
    parts.push(above.name);
    at = above.parent;
  }
  const pieces: Buffer[] = [];
  if (at === ROOT_INODE) pieces.push(SLASH);
  parts.reverse().forEach((part, index) => {
    if (index > 0) pieces.push(SLASH);
    pieces.push(part);
  });
  return Buffer.concat(pieces);
}

interface NamespaceEntry extends Place {
  readonly inode: number;
  readonly type: number;
}

/** The entries of a state that can be read. */
function* entriesOf(state: StateReader): Generator<NamespaceEntry> {
  const { space, root } = state.namespace;
  const key = Buffer.alloc(KEY_MAX);
  for (const item of walkTree(space, root, TREE.namespace)) {
    if ('message' in item || item.level > 0) continue;
    const { bytes } = item;
    for (let slot = 0, count = cellCount(bytes); slot < count; slot++) {
      const length = copyKey(bytes, slot, key, 0);
      if (length < 9) continue;
      const start = valueStart(bytes, slot);
      let inode: number;
      try {
        inode = direntInode(bytes, start, valueLength(bytes, slot));
      } catch (error) {
        // That it is no entry was found by the check.
        if (error instanceof LsnfsError) continue;
        throw error;
      }
      const name = Buffer.from(key.subarray(8, length));
      yield { parent: getU64BE(key, 0), name, inode, type: direntType(bytes, start) };
    }
  }
}
