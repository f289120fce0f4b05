import test from 'ava';
import { Company } from '../../fuse/company.ts';

test('a program is alone when it has waited for the disk before, and nobody else has sent a request since', (t) => {
  const company = new Company();
  const fsync = (process: number): boolean => {
    company.note(process);
    return company.isAlone();
  };
  t.deepEqual([fsync(7), fsync(7), fsync(7), fsync(7)], [false, false, true, true]);
  // What the kernel sends for nobody is no company.
  company.note(0);
  company.note(7);
  t.true(fsync(7));
  // Another one asks for anything.
  company.note(8);
  t.deepEqual([fsync(7), fsync(7), fsync(7)], [false, false, true]);
  // Several that wait in turn are never alone.
  for (let i = 0; i < 10; i++) t.deepEqual([fsync(8), fsync(7)], [false, false]);
});
