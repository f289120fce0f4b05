/** The constants of the code against the document of the format. */
import { readFileSync } from 'node:fs';
import test from 'ava';
import * as inode from '../../src/encoding/inode.ts';
import { KIND_EXTENT, KIND_INODE, KIND_ORPHAN, KIND_XATTR } from '../../src/encoding/keys.ts';
import { XATTR_HEADER, XATTR_VALUE_MAX } from '../../src/encoding/xattr.ts';
import { ENTRY_OVERHEAD } from '../../src/vfs/live-core.ts';
import { LINK_MAX } from '../../src/vfs/live-file-system.ts';

const document = readFileSync('docs/FORMAT.md', 'utf8');

test('the inode record', (t) => {
  const rows: [number, number, string][] = [
    [inode.INODE_MODE, 2, 'mode'],
    [inode.INODE_FLAGS, 2, 'flags'],
    [inode.INODE_UID, 4, 'uid'],
    [inode.INODE_GID, 4, 'gid'],
    [inode.INODE_LINKS, 4, 'links'],
    [inode.INODE_SIZE, 8, 'size'],
    [inode.INODE_EXTRA, 8, 'extra'],
    [inode.INODE_ACCESS, 8, 'access'],
    [inode.INODE_MODIFY, 8, 'modify'],
    [inode.INODE_CHANGE, 8, 'change'],
    [inode.INODE_BIRTH, 8, 'birth'],
    [inode.INODE_ACCESS_NS, 4, 'access ns'],
    [inode.INODE_MODIFY_NS, 4, 'modify ns'],
    [inode.INODE_CHANGE_NS, 4, 'change ns'],
    [inode.INODE_BIRTH_NS, 4, 'birth ns'],
  ];
  for (const [offset, size, field] of rows)
    t.true(document.includes(`| ${offset} | ${size} | ${field} |`), field);
  t.true(document.includes(`| ${inode.INODE_CONTENT} | size | content |`));
});

test('the flags of an inode', (t) => {
  const flags: [number, string][] = [
    [inode.FLAG_INLINE, 'inline'],
    [inode.FLAG_XATTRS, 'xattrs'],
    [inode.FLAG_ACCESS_ACL, 'access ACL'],
    [inode.FLAG_DEFAULT_ACL, 'default ACL'],
    [inode.FLAG_CAPABILITY, 'capability'],
    [inode.FLAG_PREALLOCATED, 'preallocated'],
    [inode.FLAG_LINKABLE, 'linkable'],
  ];
  for (const [flag, name] of flags) t.true(document.includes(`| ${flag} | ${name} |`), name);
});

test('keys and limits', (t) => {
  const kinds: [number, string][] = [
    [KIND_INODE, 'inode u64, `10` '],
    [KIND_XATTR, 'inode u64, `20`, name'],
    [KIND_EXTENT, 'inode u64, `30`, block u64'],
    [KIND_ORPHAN, 'zero u64, `01`, inode u64'],
  ];
  for (const [kind, text] of kinds) {
    t.true(document.includes(text), text);
    t.true(text.includes(`\`${kind.toString(16).padStart(2, '0')}\``));
  }
  t.is(inode.MAX_FILE_SIZE, 2 ** 50);
  t.is(inode.inlineMax(4096), 1024);
  t.is(XATTR_HEADER, 4);
  t.is(XATTR_VALUE_MAX, 65_536);
  t.is(ENTRY_OVERHEAD, 16);
  t.is(LINK_MAX, 65_000);
});
