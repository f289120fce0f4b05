/** What opens the real database on the store thread. It lies beside this module: as source, compiled, and in the bundle. */
export function databaseModule(): string {
  const isSource = import.meta.url.endsWith('.ts');
  return new URL(isSource ? './mounted-database.ts' : './mounted-database.js', import.meta.url).href;
}
