import { expect, it } from 'vitest';
import { acceptsJson } from './accept.ts';

it.each([
  [undefined, true],
  ['', true],
  ['*/*', true],
  ['application/json', true],
  ['text/html, application/xhtml+xml, */*;q=0.8', true],
  ['Application/JSON; charset=utf-8', true],
  ['application/*', true],
  ['text/html', false],
  ['text/event-stream', false],
  ['application/json;q=0, */*', false],
  ['*/*;q=0', false],
  ['*/*;q=0, application/json', true],
  ['nonsense', false],
])('Accept: %s -> %s', (accept, expected) => {
  expect(acceptsJson(accept)).toBe(expected);
});
