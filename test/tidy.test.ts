/**
 * Style that a machine can hold: the order of the layers, no import cycles, no forgotten notes, no dead file, one
 * barrel, and documents that know every command.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import test from 'ava';

/** The directory of package.json, from wherever the compiled test lies. */
function projectDirectory(): string {
  let directory = import.meta.dirname;
  while (!existsSync(join(directory, 'package.json'))) directory = dirname(directory);
  return directory;
}

const root = projectDirectory();

function filesBelow(folder: string, ending: string): string[] {
  if (!existsSync(join(root, folder))) return [];
  return readdirSync(join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith(ending))
    .map((name) => join(folder, name))
    .sort();
}

/** The layers of the design, lowest first; an entry is a path or the folder that holds it. */
const LAYERS = [
  ['src/errors.ts'],
  ['src/encoding/'],
  ['src/storage/'],
  ['src/wal/'],
  ['src/btree/'],
  ['src/store/'],
  ['src/history/'],
  ['src/vfs/'],
  ['src/plugin/', 'src/index.ts'],
  ['fuse/'],
  ['cli/'],
  ['bench/', 'scripts/', 'test/'],
];

function rankOf(file: string): number {
  return LAYERS.findIndex((layer) =>
    layer.some((place) => file === place || (place.endsWith('/') && file.startsWith(place))),
  );
}

/** Code without comments, so that words in them are not taken for imports. */
function withoutComments(text: string): string {
  return text.replace(/^\s*\/\*[\s\S]*?\*\//gm, '').replace(/^\s*\/\/.*$/gm, '');
}

interface Import {
  readonly path: string;
  /** Gone after compilation: no import at run time. */
  readonly typeOnly: boolean;
}

/** Files that a file imports, or names as the script of a thread or a process ('./x.js' and './x.ts'). */
function importsOf(file: string): Import[] {
  const text = withoutComments(readFileSync(join(root, file), 'utf8'));
  const types = new Set(
    [...text.matchAll(/^import\s+type\s[^'";]*?from\s+'([^']+)'/gm)].map((match) => match[1]!),
  );
  const named = [...text.matchAll(/['"`](\.{1,2}\/[\w./-]+\.(?:ts|js|\$\{extension\}))['"`]/g)].map(
    (match) => match[1]!,
  );
  return [...new Set(named)].map((specifier) => ({
    path: normalize(join(dirname(file), specifier)).replace(/\.(js|\$\{extension\})$/, '.ts'),
    typeOnly: types.has(specifier),
  }));
}

const code = ['src', 'fuse', 'cli'].flatMap((folder) => filesBelow(folder, '.ts'));
const others = ['test', 'scripts', 'bench'].flatMap((folder) => filesBelow(folder, '.ts'));
const graph = new Map([...code, ...others].map((file) => [file, importsOf(file)]));

test('every file is in a layer, and imports only its own and lower ones', (t) => {
  for (const [file, imports] of graph) {
    const rank = rankOf(file);
    t.true(rank >= 0, `${file} is in no layer`);
    for (const { path } of imports) {
      // Tests may name files that are compiled, or are made by them.
      if (rank === LAYERS.length - 1 && !graph.has(path)) continue;
      t.true(graph.has(path), `${file} imports ${path}, which does not exist`);
      t.true(rankOf(path) <= rank, `${file} imports ${path}, from a layer above`);
    }
  }
});

test('no import cycles', (t) => {
  const done = new Set<string>();
  const visit = (file: string, trail: string[]): void => {
    if (trail.includes(file)) {
      t.fail(`a cycle: ${[...trail.slice(trail.indexOf(file)), file].join(' → ')}`);
      return;
    }
    if (done.has(file)) return;
    for (const { path, typeOnly } of graph.get(file) ?? []) if (!typeOnly) visit(path, [...trail, file]);
    done.add(file);
  };
  for (const file of graph.keys()) visit(file, []);
  t.pass();
});

test('no dead file', (t) => {
  const used = new Set<string>();
  const visit = (file: string): void => {
    if (used.has(file)) return;
    used.add(file);
    for (const { path } of graph.get(file) ?? []) visit(path);
  };
  for (const file of ['src/index.ts', 'cli/main.ts']) visit(file);
  for (const file of others.filter((name) => /\.test\.ts$|^scripts\//.test(name))) visit(file);
  const all = [...code, ...others.filter((name) => !name.startsWith('bench/'))];
  t.deepEqual(
    all.filter((file) => !used.has(file)),
    [],
  );
});

test('src/index.ts is the only barrel', (t) => {
  for (const file of code) {
    if (file === 'src/index.ts') continue;
    const text = withoutComments(readFileSync(join(root, file), 'utf8'));
    t.notRegex(
      text,
      /^export\s+(type\s+)?(\*|\{[^}]*\})[^;]*\sfrom\s/m,
      `${file} passes exports of others on`,
    );
  }
});

test('every file opens with what it is for', (t) => {
  for (const file of code) {
    const text = readFileSync(join(root, file), 'utf8').replace(/^#!.*\n/, '');
    t.regex(text, /^(import[^;]*;\s*)*\/\*\*/, `${file} has no opening comment`);
  }
});

test('nothing is left to be done in comments', (t) => {
  const words = new RegExp(`\\b(${['TO' + 'DO', 'FIX' + 'ME', 'XX' + 'X', 'HA' + 'CK'].join('|')})\\b`);
  const documents = ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...filesBelow('docs', '.md')];
  const scripts = filesBelow('scripts', '.mjs');
  for (const file of [...code, ...others, ...scripts, ...documents]) {
    const lines = readFileSync(join(root, file), 'utf8').split('\n');
    lines.forEach((line, index) => {
      t.notRegex(line, words, `${file}:${index + 1}`);
    });
  }
});

test('no shell is given anything, and nothing from a shell is run', (t) => {
  for (const file of code) {
    const text = withoutComments(readFileSync(join(root, file), 'utf8'));
    for (const [, names] of text.matchAll(/import\s*\{([^}]*)\}\s*from\s*'(?:node:)?child_process'/g)) {
      t.notRegex(names!, /\bexec(Sync)?\b/, `${file} imports exec, which starts a shell`);
    }
    t.notRegex(
      text,
      /import\s+(\*|\w+)[^;]*from\s*'(node:)?child_process'/,
      `${file} imports it by name only`,
    );
    t.notRegex(text, /(require|import)\(\s*['"](node:)?child_process/, `${file} imports it at the top only`);
    t.notRegex(text, /\bshell\s*:/, `${file} asks for a shell`);
    t.notRegex(text, /['"`](\/bin\/)?(ba|da|z|k)?sh['"`]/, `${file} names a shell`);
    t.notRegex(text, /\beval\(|new Function\(/, `${file} runs text as code`);
  }
});

test('files in a store are opened in one place', (t) => {
  // Whoever opens a name of a store elsewhere follows the links in it.
  const allowed = new Set([
    'src/storage/store-files.ts',
    'src/storage/file-device.ts',
    'src/plugin/control-protocol.ts',
    'fuse/mount.ts',
    // Not in a store, but in /sbin.
    'cli/helper-script.ts',
  ]);
  const writing =
    /\b(openSync|writeFileSync|appendFileSync|mkdirSync|chmodSync|chownSync|createWriteStream|copyFileSync|cpSync|truncateSync|symlinkSync|linkSync)\b/;
  for (const file of code.filter((name) => !allowed.has(name))) {
    const text = withoutComments(readFileSync(join(root, file), 'utf8'));
    const found = writing.exec(text)?.[0];
    // `initialize` makes the store's own directory, at a path of the user's.
    if (file === 'src/plugin/database.ts')
      t.true(found === undefined || found === 'mkdirSync', `${file}: ${found}`);
    else t.is(found, undefined, `${file} uses ${found}: see src/storage/store-files.ts`);
  }
});

test('no test is left alone or out', (t) => {
  for (const file of others.filter((name) => name.endsWith('.test.ts'))) {
    t.notRegex(withoutComments(readFileSync(join(root, file), 'utf8')), /\btest(\.serial)?\.only\b/, file);
  }
});

test('the documents know every command and every option of it', (t) => {
  const readme = readFileSync(join(root, 'README.md'), 'utf8');
  for (const file of filesBelow('cli/commands', '.ts')) {
    const text = readFileSync(join(root, file), 'utf8');
    const names = [...text.matchAll(/\.command\('([a-z-]+)'\)/g)].map((match) => match[1]!);
    t.true(names.length > 0, `${relative('cli/commands', file)} names no command`);
    const [first, ...rest] = names;
    const spoken = rest.length === 0 ? [`lsnfs ${first}`] : rest.map((name) => `lsnfs ${first} ${name}`);
    for (const command of spoken) t.true(readme.includes(command), `README.md does not mention '${command}'`);
    for (const [, option] of text.matchAll(/'(?:-[a-z], )?(--[a-z-]+)/g)) {
      t.true(readme.includes(option!), `README.md does not mention ${option} of '${first}'`);
    }
  }
});

test('documents link to files that exist', (t) => {
  for (const file of ['README.md', 'CONTRIBUTING.md', 'CHANGELOG.md', ...filesBelow('docs', '.md')]) {
    const text = readFileSync(join(root, file), 'utf8');
    for (const [, link] of text.matchAll(/\]\(([^)#:\s]+)(?:#[^)]*)?\)/g)) {
      t.true(existsSync(join(root, dirname(file), link!)), `${file} links to ${link}`);
    }
  }
});
