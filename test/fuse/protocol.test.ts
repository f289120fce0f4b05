import test from 'ava';
import { parseMountinfo, unescapeField } from '../../fuse/mountinfo.ts';
import * as notify from '../../fuse/notify.ts';
import * as p from '../../fuse/protocol.ts';
import { direntSize, Reply, statusReply, writeReply } from '../../fuse/reply.ts';
import { Request } from '../../fuse/request.ts';

test('structures have the sizes of linux/fuse.h', (t) => {
  const sizes: Record<string, [number, number]> = {
    fuse_in_header: [p.IN_HEADER.SIZE, 40],
    fuse_out_header: [p.OUT_HEADER.SIZE, 16],
    fuse_attr: [p.ATTRIBUTES.SIZE, 88],
    fuse_entry_out: [p.ENTRY_OUT.SIZE, 128],
    fuse_attr_out: [p.ATTRIBUTES_OUT.SIZE, 104],
    fuse_init_in: [p.INIT_IN.SIZE, 64],
    fuse_init_out: [p.INIT_OUT.SIZE, 64],
    fuse_forget_one: [p.FORGET_ONE.SIZE, 16],
    fuse_getattr_in: [p.GETATTR_IN.SIZE, 16],
    fuse_setattr_in: [p.SETATTR_IN.SIZE, 88],
    fuse_statx_in: [p.STATX_IN.SIZE, 24],
    fuse_statx_out: [p.STATX_OUT.SIZE, 288],
    fuse_mknod_in: [p.MKNOD_IN.SIZE, 16],
    fuse_mkdir_in: [p.MKDIR_IN.SIZE, 8],
    fuse_rename2_in: [p.RENAME2_IN.SIZE, 16],
    fuse_open_out: [p.OPEN_OUT.SIZE, 16],
    fuse_create_in: [p.CREATE_IN.SIZE, 16],
    fuse_release_in: [p.RELEASE_IN.SIZE, 24],
    fuse_flush_in: [p.FLUSH_IN.SIZE, 24],
    fuse_read_in: [p.READ_IN.SIZE, 40],
    fuse_write_in: [p.WRITE_IN.SIZE, 40],
    fuse_setxattr_in: [p.SETXATTR_IN.SIZE, 16],
    fuse_kstatfs: [p.STATFS_OUT.SIZE, 80],
    fuse_dirent: [p.DIRENT.SIZE, 24],
    fuse_fallocate_in: [p.FALLOCATE_IN.SIZE, 32],
    fuse_lseek_in: [p.LSEEK_IN.SIZE, 24],
    fuse_copy_file_range_in: [p.COPY_FILE_RANGE_IN.SIZE, 56],
    fuse_notify_inval_inode_out: [p.NOTIFY_INVAL_INODE_OUT.SIZE, 24],
    fuse_notify_inval_entry_out: [p.NOTIFY_INVAL_ENTRY_OUT.SIZE, 16],
    fuse_notify_delete_out: [p.NOTIFY_DELETE_OUT.SIZE, 24],
    fuse_notify_retrieve_out: [p.NOTIFY_RETRIEVE_OUT.SIZE, 32],
  };
  for (const [name, [ours, theirs]] of Object.entries(sizes)) t.is(ours, theirs, name);
  t.is(p.SETATTR_IN.mode, 68);
  t.is(p.INIT_OUT.flags2, 32);
  t.is(p.STATX_OUT.mask, 32);
  t.is(p.STATX_OUT.ownDeviceMajor, 32 + 136);
});

test('node ids carry door and inode', (t) => {
  for (const [door, inode] of [
    [0, 1],
    [0, 2 ** 32],
    [1, 1],
    [2 ** 23 - 1, 2 ** 40 - 1],
    [p.WAKE_DOOR, p.WAKE_INODE],
  ] as const) {
    const high = p.nodeHigh(door, inode);
    t.is(p.doorOfNode(high), door);
    t.is(p.inodeOfNode(inode % 2 ** 32, high), inode);
  }
});

function requestOf(body: Uint8Array, change: (bytes: Buffer) => void = () => {}): Request {
  const request = new Request(4096);
  // What an older request left behind.
  request.bytes.fill(0x41);
  const bytes = Buffer.alloc(40 + body.length);
  bytes.writeUInt32LE(bytes.length, 0);
  bytes.set(body, 40);
  change(bytes);
  request.bytes.set(bytes);
  request.decode(bytes.length);
  return request;
}

test('strings must end within the request', (t) => {
  t.deepEqual(Buffer.from(requestOf(Buffer.from('name\0')).name(0)), Buffer.from('name'));
  t.throws(() => requestOf(Buffer.from('name')).name(0), { message: /EINVAL/ });
  t.throws(() => requestOf(Buffer.from('\0')).name(0), { message: /EINVAL/ });
  t.throws(() => requestOf(Buffer.alloc(0)).name(0), { message: /EINVAL/ });
  t.throws(() => requestOf(Buffer.from('a/b\0')).name(0), { message: /EINVAL/ });
  t.throws(() => requestOf(Buffer.from('..\0')).name(0), { message: /EINVAL/ });
  t.is(requestOf(Buffer.from('..\0')).name(0, true).length, 2);
  t.throws(() => requestOf(Buffer.from(`${'n'.repeat(256)}\0`)).name(0), { message: /ENAMETOOLONG/ });
  const two = requestOf(Buffer.from('first\0second\0'));
  two.name(0);
  t.is(Buffer.from(two.nextName()).toString(), 'second');
  t.throws(() => two.nextName(), { message: /EINVAL/ });
});

test('a length or extensions that lie leave an empty body', (t) => {
  const wrongLength = requestOf(Buffer.from('name\0'), (bytes) => bytes.writeUInt32LE(4000, 0));
  t.is(wrongLength.bodySize, 0);
  const extension = requestOf(Buffer.from('name\0'), (bytes) => bytes.writeUInt16LE(100, 36));
  t.is(extension.bodySize, 0);
  t.false(new Request(4096).decode(39));
});

test('offsets that are negative or beyond 2^53 are refused', (t) => {
  const body = Buffer.alloc(8);
  body.writeBigInt64LE(-1n);
  t.throws(() => requestOf(body).offset64(0), { message: /EINVAL/ });
  body.writeBigInt64LE(2n ** 60n);
  t.throws(() => requestOf(body).offset64(0), { message: /EFBIG/ });
  body.writeBigInt64LE(2n ** 53n - 1n);
  t.is(requestOf(body).offset64(0), 2 ** 53 - 1);
});

test('attributes are encoded to the bit, times before 1970 included', (t) => {
  const reply = new Reply({}, 512);
  reply.bytes.fill(0xff);
  reply.attributesOut(
    3,
    {
      inode: 2 ** 33 + 7,
      mode: 0o100644,
      links: 2,
      uid: 1000,
      gid: 0xfffffffe,
      device: 0x103,
      size: 2 ** 45 + 1,
      blocks: 8,
      blockSize: 4096,
      accessSeconds: -1,
      accessNanoseconds: 999_999_999,
      modifySeconds: -(2 ** 40),
      modifyNanoseconds: 1,
      changeSeconds: 2 ** 34,
      changeNanoseconds: 2,
      birthSeconds: 0,
      birthNanoseconds: 0,
    },
    60,
  );
  const body = Buffer.from(reply.bytes).subarray(16);
  const at = (name: keyof typeof p.ATTRIBUTES) => p.ATTRIBUTES_OUT.attributes + p.ATTRIBUTES[name];
  t.is(body.readBigUInt64LE(p.ATTRIBUTES_OUT.valid), 60n);
  t.is(body.readBigUInt64LE(at('inode')), 3n * 2n ** 40n + 2n ** 33n + 7n);
  t.is(body.readBigInt64LE(at('size')), 2n ** 45n + 1n);
  t.is(body.readBigInt64LE(at('accessSeconds')), -1n);
  t.is(body.readBigInt64LE(at('modifySeconds')), -(2n ** 40n));
  t.is(body.readBigInt64LE(at('changeSeconds')), 2n ** 34n);
  t.is(body.readUInt32LE(at('accessNanoseconds')), 999_999_999);
  t.is(body.readUInt32LE(at('gid')), 0xfffffffe);
  t.is(body.readUInt32LE(at('flags')), 0);
});

test('replies that are sent later keep all 64 bits of unique', (t) => {
  const status = Buffer.from(statusReply(0x89abcdef, 0x80000001, -5));
  t.is(status.length, 16);
  t.is(status.readInt32LE(4), -5);
  t.is(status.readBigUInt64LE(8), 0x8000000189abcdefn);
  const written = Buffer.from(writeReply(1, 2, 4096));
  t.is(written.length, 24);
  t.is(written.readUInt32LE(0), 24);
  t.is(written.readUInt32LE(16), 4096);
});

test('directory entries are padded with NULs to eight bytes', (t) => {
  const reply = new Reply({}, 256);
  reply.bytes.fill(0xff);
  reply.dirent(0, Buffer.from('abc'), 0, 5, 0o40755, 9);
  const body = Buffer.from(reply.bytes).subarray(16);
  t.is(direntSize(3), 32);
  t.is(direntSize(8), 32);
  t.is(body.readUInt32LE(p.DIRENT.type), 4);
  t.deepEqual([...body.subarray(24, 32)], [0x61, 0x62, 0x63, 0, 0, 0, 0, 0]);
  t.is(body[32], 0xff);
});

test('notifications name nodes, names and ranges', (t) => {
  const entry = notify.invalidateEntry(0, 1, Buffer.from('@lsn-5'));
  t.is(entry.readUInt32LE(0), entry.length);
  t.is(entry.readInt32LE(4), p.NOTIFY.INVAL_ENTRY);
  t.is(entry.readBigUInt64LE(8), 0n);
  t.is(entry.readUInt32LE(24), 6);
  t.is(entry.toString('latin1', 32), '@lsn-5\0');
  const inode = notify.invalidateInode(2, 9, -1, 0);
  t.is(inode.readBigUInt64LE(16), 2n * 2n ** 40n + 9n);
  t.is(inode.readBigInt64LE(24), -1n);
  const gone = notify.deleteEntry(0, 1, 7, Buffer.from('x'));
  t.is(gone.length, 16 + 24 + 2);
  t.is(notify.incrementEpoch().length, 16);
  const known = { minor: 44, rootNames: [Buffer.from('a')], openInodes: [5] };
  const codes = (messages: Buffer[]) => messages.map((m) => m.readInt32LE(4));
  t.deepEqual(codes(notify.invalidationMessages({ everything: true }, known)), [8, 3, 2, 2]);
  t.deepEqual(codes(notify.invalidationMessages({ everything: true }, { ...known, minor: 43 })), [3, 2, 2]);
});

test('mountinfo: octal escapes, optional fields, other types', (t) => {
  t.is(unescapeField('/mnt/a\\040b\\134c\\303\\244'), '/mnt/a b\\cä');
  const [entry, other] = parseMountinfo(
    [
      '42 27 0:39 / /mnt/a\\040b rw,nosuid shared:1 master:2 - fuse.lsnfs /var/my\\040store rw,user_id=0',
      'not a line of it',
      '43 27 8:1 / / ro - ext4 /dev/vda rw',
    ].join('\n'),
  );
  t.like(entry, { mountpoint: '/mnt/a b', source: '/var/my store', type: 'fuse.lsnfs', deviceMinor: 39 });
  t.deepEqual(entry!.options, ['rw', 'nosuid', 'user_id=0']);
  t.is(other!.type, 'ext4');
});
