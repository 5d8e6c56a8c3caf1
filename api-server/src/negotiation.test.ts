import { expect, it } from 'vitest';
import { accepts, acceptsGzip } from './negotiation.ts';

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
])('Accept: %s allows JSON: %s', (accept, expected) => {
  expect(accepts(accept, 'application/json')).toBe(expected);
});

it.each([
  ['text/event-stream', true],
  ['text/*', true],
  ['*/*', true],
  ['application/json', false],
])('Accept: %s allows an event stream: %s', (accept, expected) => {
  expect(accepts(accept, 'text/event-stream')).toBe(expected);
});

it.each([
  [undefined, false],
  ['', false],
  ['gzip', true],
  ['GZIP;q=0.5', true],
  ['br, gzip', true],
  ['*', true],
  ['identity', false],
  ['gzip;q=0, *', false],
  ['deflate, br', false],
])('Accept-Encoding: %s asks for gzip: %s', (header, expected) => {
  expect(acceptsGzip(header)).toBe(expected);
});
