import type { TestProject } from 'vitest/node';
import {
  type ControlPlaneKind,
  type ProvidedControlPlane,
  planeFiles,
} from '../control-plane/control-plane.ts';
import { startControlPlane } from '../control-plane/start.ts';

declare module 'vitest' {
  interface ProvidedContext {
    controlPlane: ProvidedControlPlane;
  }
}

/** One control plane with our resources, policies and roles for all tests of a vitest project; returns its end. */
export async function provideControlPlane(
  project: TestProject,
  kind: ControlPlaneKind,
): Promise<() => Promise<void>> {
  const log = (line: string) => void process.stderr.write(`[${kind}] ${line}\n`);
  const plane = await startControlPlane({ kind, env: process.env, log });
  try {
    await install(await plane.kubeconfig());
  } catch (error) {
    await plane.stop();
    throw error;
  }
  const { adminKubeconfig, caCert, caKey } = planeFiles(plane.folder);
  const { version, url, folder, kubectl } = plane;
  project.provide('controlPlane', { kind, version, url, folder, kubectl, adminKubeconfig, caCert, caKey });
  return () => plane.stop();
}

/** Imported here only, so that unit tests do not wait for a Kubernetes client to load. */
async function install(kubeconfig: string): Promise<void> {
  const [{ installManifests }, { kubeFromString }] = await Promise.all([
    import('@meshkit/crds/install'),
    import('@meshkit/crds/kube-config'),
  ]);
  const client = kubeFromString(kubeconfig);
  try {
    await installManifests(client, { signal: AbortSignal.timeout(60_000) });
  } finally {
    await client.close();
  }
}
