import { readFileSync } from 'node:fs';
import { API_SERVER_SERVICE_ACCOUNT } from '@meshkit/crds/roles';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { Wire } from './exchange.ts';
import { AUDIENCE, Cast, eventually, type RunningServer, startServer } from './running-server.ts';

const cast = new Cast();
let running: RunningServer;
let wire: Wire;
let token: string;

beforeAll(async () => {
  await cast.open();
  await cast.account('reader', 'meshkit-shards-reader');
  token = await cast.token(cast.namespace, 'reader', AUDIENCE);
  running = await startServer(await cast.process(API_SERVER_SERVICE_ACCOUNT));
  await eventually(() => running.server.notReady() === undefined || undefined, 'ready');
  wire = new Wire(running.url);
});

afterAll(async () => {
  wire?.close();
  await running?.server.stop();
  await cast.close();
});

const scrape = async () => (await fetch(`${running.healthUrl}/metrics`)).text();

it('docs/metrics.md has every metric of /metrics, as it is described there, and no other', async () => {
  const text = readFileSync(new URL('../../docs/metrics.md', import.meta.url), 'utf8');
  const documented = text
    .split('\n')
    .filter((line) => line.startsWith('| `meshkit_'))
    .map((line) => line.split(/(?<!\\)\|/).map((cell) => cell.trim().replaceAll('`', '')))
    .map(([, name, type, , help]) => ({ name, type, help }));
  const served = [...(await scrape()).matchAll(/^# HELP (meshkit_\S+) (.*)\n# TYPE \S+ (\w+)$/gm)].map(
    ([, name, help, type]) => ({ name, type, help }),
  );
  expect(documented).toEqual(served.sort((a, b) => (a.name! < b.name! ? -1 : 1)));
});

it('a request is counted and timed by what was asked, how, and how it went', async () => {
  await wire.get(`/meshkit/shards?namespace=${cast.namespace}`, token, {
    'mesh-requested-protocol': 'h3; reason=timeout',
  });
  await wire.get('/meshkit/shards', token);
  await wire.get('/meshkit/shards');
  const text = await eventually(async () => {
    const found = await scrape();
    return found.includes('decision="unauthenticated"') ? found : undefined;
  }, 'the counters');
  for (const line of [
    'meshkit_access_total{op="list",scope="read",decision="allow",transport="rest"} 1',
    'meshkit_access_total{op="list",scope="read",decision="deny",transport="rest"} 1',
    'meshkit_access_total{op="list",scope="read",decision="unauthenticated",transport="rest"} 1',
    'meshkit_request_duration_seconds_count{op="list",transport="rest",status="200"} 1',
    'meshkit_protocol_downgrades_total{reason="timeout"} 1',
    'meshkit_requests_by_protocol_total{protocol="h2"} 3',
  ]) {
    expect(text).toContain(line);
  }
});
