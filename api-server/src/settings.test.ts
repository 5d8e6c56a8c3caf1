import { ShardError } from '@meshkit/shards/errors';
import { describe, expect, it } from 'vitest';
import { apiServerConfig } from './config.ts';
import { readSettings, settingsHelp } from './settings.ts';

const tls = ['--tls-cert', 'cert.pem', '--tls-key=key.pem'];

describe('readSettings', () => {
  it('fills in the defaults', () => {
    expect(readSettings(apiServerConfig, tls, {})).toMatchObject({
      listen: { host: '0.0.0.0', port: 8443 },
      tlsCert: 'cert.pem',
      tlsKey: 'key.pem',
      audience: 'meshkit-shards',
      acceptClusterAudience: false,
    });
  });

  it('takes variables, and flags before them', () => {
    const env = {
      MESHKIT_TLS_CERT: 'env.pem',
      MESHKIT_TLS_KEY: 'env-key.pem',
      MESHKIT_ACCEPT_CLUSTER_AUDIENCE: 'true',
      MESHKIT_LISTEN: '[::1]:9000',
    };
    expect(readSettings(apiServerConfig, ['--tls-key', 'flag-key.pem'], env)).toMatchObject({
      tlsCert: 'env.pem',
      tlsKey: 'flag-key.pem',
      acceptClusterAudience: true,
      listen: { host: '::1', port: 9000 },
    });
    expect(
      readSettings(apiServerConfig, [...tls, '--accept-cluster-audience'], {}).acceptClusterAudience,
    ).toBe(true);
  });

  it('reports every problem at once, each once and by its flag', () => {
    const run = () =>
      readSettings(apiServerConfig, ['--listen', 'x', '--nonsense', 'stray', '--audience'], {
        MESHKIT_ACCEPT_CLUSTER_AUDIENCE: 'maybe',
        MESHKIT_HEALTH_LISTEN: 'h:99999',
      });
    expect(run).toThrow(ShardError);
    try {
      run();
    } catch (error) {
      expect((error as Error).message.split('\n').sort()).toEqual([
        '--accept-cluster-audience: is true or false',
        '--audience: needs a value',
        '--health-listen: a port is at most 65535',
        '--listen: write HOST:PORT, such as 0.0.0.0:8443',
        '--nonsense: unknown flag',
        '--tls-cert: is required: the path of a PEM certificate chain',
        "--tls-key: is required: the path of the certificate's PEM key",
        'stray: unexpected argument',
      ]);
    }
  });
});

it('explains every setting, with its variable', () => {
  const help = settingsHelp(apiServerConfig);
  for (const key of Object.keys(apiServerConfig.shape)) {
    const variable = `MESHKIT_${key.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase()}`;
    expect(help).toMatch(new RegExp(`--\\S+ +\\S.*\\(${variable}\\)`));
  }
});
