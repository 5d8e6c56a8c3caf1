import type { TestProject } from 'vitest/node';
import { provideControlPlane } from './global-setup.ts';

/** Called by vitest once per run of the `embedded` project; what it returns is the teardown. */
export function setup(project: TestProject): Promise<() => Promise<void>> {
  return provideControlPlane(project, 'embedded');
}
