/**
 * POSIX ACLs as text, the way tar archives have them (SCHILY.acl.*): "user::rw-,user:1000:r--,group::r--,…".
 *
 * Written with numbers only. Read with numbers, or with names that a number follows as bsdtar writes it
 * ("user:anna:rw-:1000"); names alone mean nothing to a store, which knows no users.
 */
import { LsnfsError } from '../errors.ts';
import { type Acl, formatAcl, parseAcl } from '../vfs/acl.ts';

/** Tags of the binary form, by the word of the text, for the owner and for somebody named. */
const TAGS = new Map<string, { own: number; named?: number }>([
  ['user', { own: 0x01, named: 0x02 }],
  ['group', { own: 0x04, named: 0x08 }],
  ['mask', { own: 0x10 }],
  ['other', { own: 0x20 }],
]);
const NO_ID = 0xffffffff;

/** Text of an ACL in binary. @throws PosixError EINVAL */
export function aclText(value: Uint8Array): string {
  const lines = parseAcl(value).map(({ tag, permissions, id }) => {
    const [word, tags] = [...TAGS].find(([, { own, named }]) => tag === own || tag === named)!;
    const letters = [4, 2, 1].map((bit, i) => ((permissions & bit) === 0 ? '-' : 'rwx'[i]));
    return `${word}:${tag === tags.named ? id : ''}:${letters.join('')}`;
  });
  return lines.join(',');
}

/** An ACL in binary, of its text. @throws LsnfsError INVALID_INPUT */
export function aclFromText(text: string): Buffer {
  const acl: Acl = [];
  for (const part of text.split(/[\n,]/)) {
    const line = part.replace(/#.*/, '').trim();
    if (line === '') continue;
    const match =
      /^(\w+):([^:]*):([r-][w-][x-])(?::(\d+))?$/.exec(line) ?? /^(mask|other):()([r-][w-][x-])$/.exec(line);
    const word = match?.[1] ?? '';
    const tags = TAGS.get(WORDS.get(word) ?? word);
    const name = match?.[2] ?? '';
    const id = match?.[4] ?? name;
    const tag = name === '' ? tags?.own : tags?.named;
    if (match === null || tag === undefined || (name !== '' && !(/^\d+$/.test(id) && Number(id) < NO_ID))) {
      throw new LsnfsError(
        'INVALID_INPUT',
        `"${line}" of an ACL cannot be read; users and groups must be numbers`,
      );
    }
    const permissions = [...match[3]!].reduce((sum, letter, i) => sum | (letter === '-' ? 0 : 4 >> i), 0);
    acl.push({ tag, permissions, id: name === '' ? NO_ID : Number(id) });
  }
  acl.sort((a, b) => a.tag - b.tag || a.id - b.id);
  return formatAcl(acl);
}

/** Short forms that star writes. */
const WORDS = new Map([
  ['u', 'user'],
  ['g', 'group'],
  ['m', 'mask'],
  ['o', 'other'],
]);
