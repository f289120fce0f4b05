/**
 * A store received from somebody: bytes are changed anywhere, and every checksum above them made right again, from the
 * page up to the control block. It may show wrong content. It must not crash, hang, read out of bounds, or ask for memory
 * without end.
 */
import { getU32 } from '../../src/encoding/bytes.ts';
import {
  cellCount,
  childChecksum,
  childLsn,
  childNumber,
  isLeaf,
  setChild,
  validateTreePage,
  valueLength,
  valueStart,
} from '../../src/encoding/cells.ts';
import { crc32 } from '../../src/encoding/checksum.ts';
import {
  CONTROL_CHECKSUM,
  CONTROL_NAME,
  CONTROL_SLOT_SIZE,
  decodeControl,
  encodeControl,
} from '../../src/encoding/control.ts';
import {
  FRAME_CHECKSUM,
  FRAME_HEADER_SIZE,
  FRAME_PAYLOAD_LENGTH,
  frameSeed,
} from '../../src/encoding/frame.ts';
import { type PageRef, sealPage } from '../../src/encoding/page.ts';
import {
  decodeCatalogRoot,
  decodeVersionRoot,
  encodeCatalogRoot,
  encodeVersionRoot,
} from '../../src/encoding/root.ts';
import { LsnfsError } from '../../src/errors.ts';
import type { Database } from '../../src/plugin/database.ts';
import type { MemoryDirectory } from '../../src/storage/memory-device.ts';
import { checkStore } from '../../src/store/check.ts';
import { checkFileSystem } from '../../src/vfs/check.ts';
import { type FileSystem, O_RDONLY, ROOT_CALLER, ROOT_INODE } from '../../src/vfs/file-system.ts';
import { type BuiltStore, buildStore, fileBytes, openDatabase } from './corruption-store.ts';
import { type FuzzParser, type FuzzSession, find, StepLimit, tolerate } from './fuzz-parser.ts';
import type { Mutator } from './mutator.ts';

const PAGE_SIZE = 4096;
/** Bytes read of one file: a hostile size must not be read to its end. */
const READ_MAX = 1 << 20;

/** The pages of a store that the newest control block leads to, to be changed and sealed again. */
class OpenedStore {
  private readonly directory: MemoryDirectory;
  private readonly m: Mutator;
  private readonly data: Buffer;
  private readonly seen = new Set<number>();

  constructor(directory: MemoryDirectory, m: Mutator) {
    this.directory = directory;
    this.m = m;
    this.data = fileBytes(directory, 'data');
  }

  private page(number: number): Buffer {
    return this.data.subarray(number * PAGE_SIZE, (number + 1) * PAGE_SIZE);
  }

  /** Changes a page now and then, children first. Returns the reference that is right afterwards. */
  private tree<Ref extends PageRef>(ref: Ref): Ref {
    const { m } = this;
    const bytes = this.page(ref.number);
    if (ref.number === 0 || bytes.length < PAGE_SIZE || this.seen.has(ref.number)) return ref;
    this.seen.add(ref.number);
    if (!isLeaf(bytes)) {
      for (let slot = 0; slot < cellCount(bytes); slot++) {
        const child = {
          number: childNumber(bytes, slot),
          lsn: childLsn(bytes, slot),
          checksum: childChecksum(bytes, slot),
        };
        const { number, lsn, checksum } = this.tree(child);
        setChild(bytes, slot, number, lsn, checksum);
      }
    }
    if (m.chance(4)) {
      // What is structurally sound gets further: most changes are of values.
      const before = Buffer.from(bytes);
      for (let attempt = 0; attempt < 4; attempt++) {
        const slot = m.below(Math.max(1, cellCount(before)));
        if (isLeaf(before) && m.below(4) > 0) {
          const start = valueStart(before, slot);
          m.scribble(bytes, start, start + valueLength(before, slot));
        } else m.scribble(bytes, 4, m.chance(3) ? 200 : PAGE_SIZE);
        const isSound = tolerate(() => {
          validateTreePage(bytes, 0);
          return true;
        });
        if (isSound === true || m.chance(6)) break;
        before.copy(bytes);
      }
    }
    return { ...ref, checksum: sealPage(bytes, ref.number, ref.lsn) };
  }

  private root(ref: PageRef, encode: (bytes: Buffer) => void): PageRef {
    const bytes = this.page(ref.number);
    encode(bytes);
    sealPage(bytes, ref.number, ref.lsn);
    if (this.m.chance(5)) this.m.scribble(bytes, 32, 200);
    return { ...ref, checksum: sealPage(bytes, ref.number, ref.lsn) };
  }

  /** Changes the store. */
  change(): void {
    const { m, directory } = this;
    const control = fileBytes(directory, CONTROL_NAME);
    const slots = [0, 1].map((slot) =>
      control.subarray(slot * CONTROL_SLOT_SIZE, (slot + 1) * CONTROL_SLOT_SIZE),
    );
    const blocks = slots.map(decodeControl);
    const newest = blocks[0]!.sequence > blocks[1]!.sequence ? 0 : 1;
    const block = blocks[newest]!;
    const { checkpoint } = block;
    if (!m.chance(4)) {
      const catalog = decodeCatalogRoot(this.page(checkpoint.rootPage), checkpoint.rootPage);
      const version = decodeVersionRoot(this.page(catalog.version.number), catalog.version.number);
      const placed = this.root(catalog.version, (bytes) =>
        encodeVersionRoot(bytes, {
          ...version,
          namespace: this.tree(version.namespace),
          inodes: this.tree(version.inodes),
          registry: this.tree(version.registry),
        }),
      );
      const root = { number: checkpoint.rootPage, lsn: checkpoint.rootLsn, checksum: 0 };
      const { checksum } = this.root(root, (bytes) =>
        encodeCatalogRoot(bytes, {
          ...catalog,
          version: placed,
          versions: this.tree(catalog.versions),
          lifetimes: this.tree(catalog.lifetimes),
          free: this.tree(catalog.free),
        }),
      );
      encodeControl({ ...block, checkpoint: { ...checkpoint, rootChecksum: checksum } }).copy(slots[newest]!);
      directory.open('data').write(0, this.data, 0, this.data.length);
    }
    if (m.chance(4)) {
      const slot = slots[newest]!;
      m.scribble(slot, 12, 100);
      slot.writeUInt32LE(crc32(slot, 0, CONTROL_CHECKSUM), CONTROL_CHECKSUM);
    }
    directory.open(CONTROL_NAME).write(0, control, 0, control.length);
  }
}

/** Changes records of the log's last frames and makes their checksums right, and those of all that follow. */
function changeLog(built: BuiltStore, directory: MemoryDirectory, m: Mutator): void {
  const storeId = decodeControl(fileBytes(directory, CONTROL_NAME).subarray(CONTROL_SLOT_SIZE)).storeId;
  const first = built.frames.length - 1 - m.below(Math.min(built.frames.length, 14));
  let previous: number | undefined;
  for (const { file, from, to } of built.frames.slice(first)) {
    const device = directory.open(file);
    const bytes = Buffer.alloc(to - from);
    device.read(from, bytes, 0, bytes.length);
    if (previous === undefined || m.chance(6)) m.scribble(bytes, FRAME_HEADER_SIZE);
    if (previous !== undefined) bytes.writeUInt32LE(previous, 24);
    const end = FRAME_HEADER_SIZE + getU32(bytes, FRAME_PAYLOAD_LENGTH);
    previous = crc32(bytes, 4, Math.min(end, bytes.length), frameSeed(storeId));
    bytes.writeUInt32LE(previous, FRAME_CHECKSUM);
    device.write(from, bytes, 0, bytes.length);
  }
}

/** Reads what can be reached, whatever it says. */
function readEverything(fs: FileSystem, limit: StepLimit): void {
  const buffer = Buffer.alloc(READ_MAX);
  const visit = (inode: number, depth: number): void => {
    limit.count('inodes that were visited');
    tolerate(() => fs.getattr(ROOT_CALLER, inode));
    tolerate(() => fs.readlink(ROOT_CALLER, inode));
    tolerate(() => fs.listxattr(ROOT_CALLER, inode));
    tolerate(() => fs.getxattr(ROOT_CALLER, inode, Buffer.from('user.x')));
    tolerate(() => {
      const handle = fs.open(ROOT_CALLER, inode, O_RDONLY);
      tolerate(() => fs.read(handle, 0, buffer, 0, buffer.length));
      tolerate(() => fs.lseek(handle, 0, 3));
      tolerate(() => fs.lseek(handle, 0, 4));
      fs.release(handle);
    });
    if (depth > 6) return;
    const children: { name: Buffer; inode: number }[] = [];
    tolerate(() => {
      const handle = fs.opendir(ROOT_CALLER, inode);
      tolerate(() =>
        fs.readdir(handle, 0, (name, child) => {
          children.push({ name: Buffer.from(name), inode: child });
          return children.length < 300;
        }),
      );
      fs.releasedir(handle);
    });
    for (const child of children) {
      if (child.inode === inode || child.name.toString() === '..') continue;
      tolerate(() => fs.lookup(ROOT_CALLER, inode, child.name));
      visit(child.inode, depth + 1);
    }
  };
  visit(ROOT_INODE, 0);
}

async function changeEverything(database: Database, m: Mutator): Promise<void> {
  const { live } = database.volume;
  const paths = ['/new', '/d/inline', '/d/logged', '/direct', '/d/link', '/d'];
  for (let n = 0; n < 8; n++) {
    const path = m.pick(paths);
    const work = m.below(5);
    try {
      if (work === 0) await database.put(path, m.random.bytes(m.below(3) === 0 ? 40_000 : 100));
      else if (work === 1) await database.delete(path, { recursive: true });
      else if (work === 2) await database.snapshots.create(`s${n}`);
      else if (work === 3) await database.store.checkpoint();
      else {
        const found = database.stat(path);
        if (found !== undefined) live.setattr(ROOT_CALLER, found.inode, { size: m.below(50_000) });
      }
    } catch (error) {
      if (!(error instanceof LsnfsError)) throw error;
    }
  }
}

const STORES: FuzzParser = {
  name: 'stores',
  batch: 100,
  share: 1,
  async start(mutator): Promise<FuzzSession> {
    const seed = mutator.below(2 ** 31);
    const built = await buildStore(
      { name: 'hostile', pageSize: PAGE_SIZE, crashed: mutator.chance(2), small: true },
      seed,
    );
    return {
      async step(m) {
        const directory = built.directory.clone();
        const limit = new StepLimit(100_000);
        directory.fault = (operation) => limit.count(`operations of the device: ${operation}`);
        new OpenedStore(directory, m).change();
        if (built.isCrashed && m.chance(2)) changeLog(built, directory, m);
        const warn = (message: string): void => {
          if (/AssertionError|TypeError|RangeError/.test(message))
            find(`a warning tells of a bug: ${message}`);
        };
        const database = await openDatabase(directory, warn, m.chance(4));
        try {
          readEverything(database.volume.live, limit);
          tolerate(() => database.snapshots.list());
          tolerate(() => database.at(database.lsn).close());
          tolerate(() => database.get('/d/logged'));
          await database.status();
          if (m.chance(2)) await changeEverything(database, m);
          tolerate(() => checkFileSystem(database.store.live));
          tolerate(() => checkStore(database.store));
        } finally {
          await database.close().catch((error: unknown) => {
            if (!(error instanceof LsnfsError)) throw error;
          });
        }
      },
    };
  },
};

export const STORE_PARSERS: readonly FuzzParser[] = [STORES];
