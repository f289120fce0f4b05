/** All cases of the conformance suite. */
import { attributeCases } from './attributes.ts';
import type { ConformanceCase } from './case.ts';
import { contentCases } from './content.ts';
import { directoryCases } from './directories.ts';
import { fileCases } from './files.ts';
import { nameCases } from './names.ts';
import { permissionCases } from './permissions.ts';
import { renameCases } from './renames.ts';
import { xattrCases } from './xattrs.ts';

export const conformanceCases: readonly ConformanceCase[] = [
  ...directoryCases,
  ...fileCases,
  ...nameCases,
  ...renameCases,
  ...contentCases,
  ...attributeCases,
  ...permissionCases,
  ...xattrCases,
];
