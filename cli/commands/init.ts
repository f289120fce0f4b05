/** lsnfs init STORE: makes an empty store. */
import { resolve } from 'node:path';
import type { Command } from 'commander';
import { initialize } from '../../src/index.ts';
import { type PageSize, parsePageSize } from '../arguments.ts';
import { jsonOption } from '../command.ts';
import { printJson, printLine } from '../output.ts';

interface Options {
  pageSize: PageSize;
  json?: boolean;
}

export function register(program: Command): void {
  const command = program
    .command('init')
    .description('Make an empty store: a new directory, or an empty one.')
    .argument('<store>', 'the directory that will hold the store')
    .option('--page-size <bytes>', 'size of a page: 4096, 8192 or 16384', parsePageSize, 4096)
    .action(async (store: string, options: Options) => {
      const path = resolve(store);
      await initialize(path, { pageSize: options.pageSize });
      if (options.json) await printJson({ store: path, pageSize: options.pageSize });
      else await printLine(`Made the store ${path} with pages of ${options.pageSize} bytes.`);
    });
  jsonOption(command);
}
