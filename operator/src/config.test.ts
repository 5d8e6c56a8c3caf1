import { describe, expect, it } from 'vitest';
import { configRows, parseConfig } from './config.ts';

function problems(args: string[], env: Record<string, string> = {}): string[] {
  const parsed = parseConfig(args, env);
  return parsed.ok ? [] : parsed.problems;
}

function settings(args: string[], env: Record<string, string> = {}) {
  const parsed = parseConfig(args, env);
  if (!parsed.ok || !('config' in parsed)) throw new Error('not a config');
  return parsed.config;
}

describe('parseConfig', () => {
  it('has defaults for everything', () => {
    expect(settings([])).toEqual({
      namespace: 'meshkit-system',
      leaseName: 'meshkit-operator',
      leaseDuration: 10_000,
      listen: { host: '127.0.0.1', port: 8090 },
      nodeLeaseDuration: 10_000,
      concurrentSets: 4,
      parallelWrites: 32,
      journalRetention: 7 * 86_400_000,
      journalSize: 64,
      logLevel: 'info',
    });
  });

  it('reads how long and how much the journal keeps', () => {
    const config = settings([
      '--journal-retention',
      '12h',
      '--journal-size=256',
      '--new-lineage',
      'restore-1',
    ]);
    expect(config).toMatchObject({ journalRetention: 43_200_000, journalSize: 256, newLineage: 'restore-1' });
    for (const wrong of ['7', '0d', '1w', '1.5d']) {
      expect(parseConfig(['--journal-retention', wrong], {})).toMatchObject({ ok: false });
    }
  });

  it('reads flags and environment variables; flags win', () => {
    const env = { MESHKIT_LEASE_DURATION: '5s', MESHKIT_NAMESPACE: 'ops', MESHKIT_KUBECONFIG: '' };
    const config = settings(['--lease-duration', '2m', '--listen=[::1]:0'], env);
    expect(config).toMatchObject({
      leaseDuration: 120_000,
      namespace: 'ops',
      listen: { host: '::1', port: 0 },
    });
    expect(config.kubeconfig).toBeUndefined();
    expect(settings(['--listen', ':9000']).listen).toEqual({ host: '0.0.0.0', port: 9000 });
  });

  it('reports every problem at once, each with its flag and variable', () => {
    const found = problems(
      [
        '--listen',
        '8090',
        '--lease-duration',
        '10',
        '--parallel-writes=0',
        '--log-level',
        'loud',
        '--no-such',
        'extra',
      ],
      { MESHKIT_CONCURRENT_SETS: 'many', MESHKIT_NODE_LEASE_DURATION: '0s' },
    );
    expect(found.sort()).toEqual([
      '--concurrent-sets (MESHKIT_CONCURRENT_SETS): must be a whole number between 1 and 64',
      '--lease-duration (MESHKIT_LEASE_DURATION): "10" is not a duration: write whole seconds or minutes, such as 30s or 5m',
      '--listen (MESHKIT_LISTEN): must be host:port, such as 127.0.0.1:8090',
      '--log-level (MESHKIT_LOG_LEVEL): Invalid option: expected one of "debug"|"info"|"warn"|"error"',
      '--no-such: no such flag (see --help)',
      '--node-lease-duration (MESHKIT_NODE_LEASE_DURATION): must be between 1s and 3600s',
      '--parallel-writes (MESHKIT_PARALLEL_WRITES): must be a whole number between 1 and 256',
      'extra: flags only, no arguments',
    ]);
  });

  it('says where a value is missing', () => {
    expect(problems(['--namespace'])).toEqual(['--namespace: a value is missing']);
    expect(problems(['--listen', '1.2.3.4:99999'])).toEqual([
      '--listen (MESHKIT_LISTEN): the port is above 65535',
    ]);
  });

  it('prints help that names every setting', () => {
    const parsed = parseConfig(['--help'], {});
    const help = parsed.ok && 'help' in parsed ? parsed.help : '';
    for (const { description } of configRows()) expect(description).not.toBe('');
    for (const { flag, variable } of configRows()) expect(help).toMatch(new RegExp(`${flag}  .*${variable}`));
  });

  it('documents the defaults as a person would give them', () => {
    for (const { flag, default: value } of configRows()) {
      if (value === '') continue;
      expect(settings([flag, value])).toEqual(settings([]));
    }
  });
});
