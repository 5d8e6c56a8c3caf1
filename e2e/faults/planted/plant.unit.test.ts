import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { FAULT_CLASSES } from '../schedule.ts';
import { BUGS, SETTINGS } from './bugs.ts';
import { withEdit } from './plant.ts';

const root = join(import.meta.dirname, '..', '..', '..');

test.each(BUGS)('$name still finds its place, and changes something there', (bug) => {
  const source = readFileSync(join(root, bug.file), 'utf8');
  expect(withEdit(source, bug)).not.toBe(source);
  expect(FAULT_CLASSES).toContain(bug.faultClass);
});

test.each(SETTINGS)('the setting $name finds its place too', (setting) => {
  expect(withEdit(readFileSync(join(root, setting.file), 'utf8'), setting)).toContain(setting.replace);
});

test('a text that has moved on is noticed', () => {
  expect(() => withEdit('one two one', { ...BUGS[0]!, find: 'one' })).toThrow('2 times');
  expect(() => withEdit('', { ...BUGS[0]!, find: 'one' })).toThrow('0 times');
});

test('there are at least ten, each with a name of its own', () => {
  expect(new Set(BUGS.map(({ name }) => name)).size).toBe(BUGS.length);
  expect(BUGS.length).toBeGreaterThanOrEqual(10);
});
