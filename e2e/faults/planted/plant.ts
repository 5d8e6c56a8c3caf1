import { readFileSync } from 'node:fs';
import { registerHooks } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { BUGS, type Edit, SETTINGS } from './bugs.ts';

const root = join(import.meta.dirname, '..', '..', '..');

/** What `--import` takes to plant the bug in a process of its own. */
export function registrationOf(name: string): string {
  const url = pathToFileURL(join(import.meta.dirname, 'register.ts'));
  url.searchParams.set('bug', name);
  return url.href;
}

/** The source with the bug in it. Throws when the text is not there exactly once: the source has moved on, and the bug has to follow. */
export function withEdit(source: string, { name, file, find, replace }: Edit): string {
  const pieces = source.split(find);
  if (pieces.length !== 2)
    throw new Error(`planted edit ${name}: its text is ${pieces.length - 1} times in ${file}, not once`);
  return pieces.join(replace);
}

/** From here on, the module that the bug is about is loaded with the bug in it. Nothing is written to any file. */
export function plant(name: string): void {
  const bug = [...BUGS, ...SETTINGS].find((one) => one.name === name);
  if (!bug)
    throw new Error(`no planted bug is called ${name}; there are ${BUGS.map((one) => one.name).join(', ')}`);
  const url = pathToFileURL(join(root, bug.file)).href;
  // Noticed here, not when the module is loaded: a process that never loads it would be none the wiser.
  withEdit(readFileSync(join(root, bug.file), 'utf8'), bug);
  registerHooks({
    load(loaded, context, next) {
      const result = next(loaded, context);
      if (loaded.split('?')[0] !== url) return result;
      return { ...result, source: withEdit(String(result.source), bug) };
    },
  });
}
