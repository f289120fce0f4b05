/**
 * Names that begin with "@" at the root of a file system: which of them mean a state, and so can never be
 * created as entries. "@" itself lists the snapshots, "@lsn-…" is a state by number, "@latest" the newest, and
 * "@TIME" the state at a time. Every other "@name" is an ordinary name, or a snapshot's.
 */
const AT = 0x40;

/**
 * A point in time as it is typed after "@": a date, or a date and a time of day in the basic form without colons
 * (2026-11-22T101500Z) or that of RFC 3339 (2026-11-22T10:15:00.25+02:00).
 */
const TIME_FORM =
  /^\d{4}-?\d{2}-?\d{2}(?:[Tt ]\d{2}:?\d{2}(?::?\d{2}(?:[.,]\d{1,9})?)?(?:[Zz]|[+-]\d{2}(?::?\d{2})?)?)?$/;

/** Whether the text has the form of a time, whatever its digits say: the form is what is reserved. */
export function isTimeForm(text: string): boolean {
  return TIME_FORM.test(text);
}

/** Whether `name` at the root is reserved: "@", "@lsn-…", "@latest", or "@" and the form of a time. */
export function isReservedName(name: Uint8Array): boolean {
  if (name.length === 0 || name[0] !== AT) return false;
  if (name.length === 1) return true;
  const text = Buffer.from(name.buffer, name.byteOffset + 1, name.length - 1).toString('latin1');
  return text.startsWith('lsn-') || text === 'latest' || isTimeForm(text);
}
