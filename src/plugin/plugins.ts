/**
 * Plugins: modules that get hooks and are stopped with the store.
 *
 * A plugin is a module whose default export is a function: it is given the database and returns its hooks. Modules
 * named in the setting `plugins` are loaded when the store opens; a server such as the mount opens the database
 * itself and registers nothing. The engine knows none of them.
 *
 * A module is code with all rights of the process, and a store may come from somebody else. So what `lsnfs.json` names is
 * loaded only where whoever opens the store has said so (`allowPlugins`, `lsnfs mount --plugins`), from a file that is
 * theirs; what the opening program itself names (`settings.plugins`) is its own affair. A module is an absolute path or
 * the name of an installed package: neither a URL, which could hold the code itself, nor a path that depends on where
 * somebody happens to stand.
 */
import { pathToFileURL } from 'node:url';
import { LsnfsError } from '../errors.ts';
import type { Database, SnapshotInfo } from './database.ts';

export interface PluginHooks {
  /** Something became durable. */
  commit?(event: { lsn: number }): void | Promise<void>;
  /** A snapshot was made. */
  snapshot?(event: SnapshotInfo): void | Promise<void>;
  /** The store is about to close. */
  stop?(): void | Promise<void>;
}

const PACKAGE_NAME = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*(?:\/[A-Za-z0-9._~-]+)*$/;

/** What import() takes for a module. @throws Error that says what a module can be */
function specifierOf(module: string): string {
  if (module.startsWith('/')) return pathToFileURL(module).href;
  if (PACKAGE_NAME.test(module) && !module.split('/').includes('..')) return module;
  throw new Error('a module is an absolute path or the name of a package');
}

export type Plugin = (database: Database) => PluginHooks | Promise<PluginHooks>;

export interface LoadedPlugins {
  run(hook: 'commit', event: { lsn: number }): Promise<void>;
  run(hook: 'snapshot', event: SnapshotInfo): Promise<void>;
  stop(): Promise<void>;
}

/**
 * Loads and starts plugins. A hook that throws is reported and changes nothing: what it was told of has happened.
 * @throws LsnfsError INVALID_INPUT when a module cannot be loaded; those before it are stopped.
 */
export async function loadPlugins(
  database: Database,
  modules: readonly string[],
  warn: (message: string) => void,
): Promise<LoadedPlugins> {
  const started: { module: string; hooks: PluginHooks }[] = [];
  const call = async (module: string, hook: string, work: () => void | Promise<void>): Promise<void> => {
    try {
      await work();
    } catch (error) {
      warn(
        `plugin ${module}, ${hook}: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`,
      );
    }
  };
  const stop = async (): Promise<void> => {
    for (const { module, hooks } of started.reverse()) await call(module, 'stop', () => hooks.stop?.());
  };
  for (const module of modules) {
    try {
      const { default: plugin } = (await import(specifierOf(module))) as { default?: unknown };
      if (typeof plugin !== 'function') throw new Error('its default export is not a function');
      started.push({ module, hooks: await (plugin as Plugin)(database) });
    } catch (error) {
      await stop();
      throw new LsnfsError(
        'INVALID_INPUT',
        `the plugin ${module} cannot be loaded: ${(error as Error).message}`,
        { module },
      );
    }
  }
  return {
    async run(hook: 'commit' | 'snapshot', event: { lsn: number } & Partial<SnapshotInfo>): Promise<void> {
      for (const { module, hooks } of started) {
        await call(module, hook, () =>
          hook === 'commit' ? hooks.commit?.(event) : hooks.snapshot?.(event as SnapshotInfo),
        );
      }
    },
    stop,
  };
}
