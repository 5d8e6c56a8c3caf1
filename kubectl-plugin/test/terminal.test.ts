import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { parse, stringify } from 'yaml';
import { Stage } from './stage.ts';

const DRIVER = fileURLToPath(new URL('terminal.py', import.meta.url));

/** Only a real terminal has a width, colours, and a Ctrl-C that reaches the whole foreground group. */
const python = spawnSync('python3', ['-c', 'import pty, termios'], { encoding: 'utf8' });
const missing = python.status === 0 ? undefined : 'there is no python3 with a pty module here';
if (missing !== undefined) process.stderr.write(`The terminal tests are SKIPPED: ${missing}\n`);

describe.skipIf(missing !== undefined)('kubectl mesh in a terminal', () => {
  const stage = new Stage();
  let observer: string;

  beforeAll(async () => {
    await stage.open();
    await stage.startApi();
    await stage.shard('0000', 'Active', 'node-1');
    await stage.shard('0001', 'Lost', 'a-node-with-a-rather-long-name-that-fills-a-terminal');
    observer = await stage.kubeconfig('observer', 'meshkit-shards-observer');
  });

  afterAll(() => stage.close());

  async function terminal(line: string, { columns = 80, after = '', env = {} } = {}) {
    const command = `exec python3 ${DRIVER} ${columns} '${after}' ${line}`;
    const { stdout, stderr, code } = await stage.run(command, {
      KUBECONFIG: observer,
      TERM: 'xterm',
      ...env,
    });
    expect({ stderr, code }).toEqual({ stderr: '', code: 0 });
    return JSON.parse(stdout) as { code: number; output: string };
  }

  it('fits its table to the width, and colours what needs a look', async () => {
    const narrow = await terminal('kubectl-mesh shards list');
    expect(narrow.code).toBe(0);
    expect(narrow.output).toContain('\u001b[31mLost\u001b[39m');
    expect(narrow.output).not.toContain('EPOCH');
    for (const line of narrow.output.split('\n')) {
      expect(stripVTControlCharacters(line).length).toBeLessThanOrEqual(80);
    }
    const wide = await terminal('kubectl-mesh shards list', { columns: 200 });
    expect(wide.output).toContain('EPOCH');
  });

  it('has no colour under NO_COLOR, nor in a terminal that has none', async () => {
    for (const env of [{ NO_COLOR: '1' }, { TERM: 'dumb' }]) {
      const { output } = await terminal('kubectl-mesh shards list', { env });
      expect(output).toContain('Lost');
      expect(output).not.toContain('\u001b');
    }
  });

  it('lets a credential plugin talk to a person, and to nobody who completes a word', async () => {
    const config = parse(readFileSync(observer, 'utf8'));
    const args = ['-c', `printf '%s\\n' "$KUBERNETES_EXEC_INFO" >>${stage.folder}/told; exit 1`];
    config.users[0].user = {
      exec: { apiVersion: 'client.authentication.k8s.io/v1', command: 'sh', args },
    };
    const env = { KUBECONFIG: stage.file('asking.kubeconfig', stringify(config)) };
    for (const line of ['kubectl-mesh shards list', 'kubectl_complete-mesh shards get o']) {
      await terminal(line, { env });
    }
    const told = readFileSync(`${stage.folder}/told`, 'utf8').trim().split('\n');
    expect(told.map((info) => JSON.parse(info).spec.interactive)).toEqual([true, false]);
  });

  it('ends at Ctrl-C with 130, while it waits for manifests to be typed', async () => {
    const { code, output } = await terminal('kubectl-mesh shards diff -f -', { after: 'Ctrl-D' });
    expect({ code, output }).toEqual({ code: 130, output: expect.not.stringContaining('error') });
  });

  it.each(['api', 'direct'])('ends a watch at Ctrl-C with 130: %s', async (mode) => {
    const line = `kubectl-mesh shards list -w --mode ${mode}`;
    const { code, output } = await terminal(line, { after: 'orders.0001' });
    expect(code).toBe(130);
    expect(output).toContain('orders.0000');
    expect(output).not.toContain('error');
  });
});
