import test from 'ava';
import fc from 'fast-check';
import { LsnfsError } from '../../src/errors.ts';
import { bytesOfText, textOfBytes } from '../../src/plugin/text.ts';
import { seedOf } from '../helpers/random.ts';

test('every name survives the way through text and JSON', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 255 }), (bytes) => {
      const text = JSON.parse(JSON.stringify(textOfBytes(bytes))) as string;
      return bytesOfText(text).equals(bytes);
    }),
    { seed: seedOf(t, 'names') },
  );
  t.pass();
});

test('UTF-8 is itself, other bytes are as in Python', (t) => {
  t.is(textOfBytes(Buffer.from('größe 🙂')), 'größe 🙂');
  t.is(textOfBytes(Buffer.from([0x61, 0xff, 0xc3, 0x62])), 'a\udcff\udcc3b');
  t.is(
    textOfBytes(Buffer.from([0xed, 0xb3, 0xbf])),
    '\udced\udcb3\udcbf',
    'a surrogate in UTF-8 is not UTF-8',
  );
  t.deepEqual(bytesOfText('a\udcff'), Buffer.from([0x61, 0xff]));
  for (const text of ['\ud800', '\udc00', '\udc7f', 'a\udd00']) {
    t.throws(() => bytesOfText(text), { instanceOf: LsnfsError });
  }
});
