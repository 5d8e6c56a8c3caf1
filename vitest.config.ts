import { defineConfig, type TestProjectConfiguration } from 'vitest/config';
import { binarySettings, findBinaries } from './e2e/control-plane/binaries.ts';

const NEVER = ['**/node_modules/**', '**/dist/**'];
/** `expect.poll` waits as long as a busy machine may need; what holds at once costs nothing. */
const PATIENT = { poll: { timeout: 15_000 } };
const INTEGRATION = ['*/test/**/*.test.ts', 'e2e/feature/**/*.test.ts'];

/** One suite, run once per kind of control plane; `*.real.test.ts` and `*.embedded.test.ts` belong to one kind only. */
function integration(kind: 'embedded' | 'real', order: number): TestProjectConfiguration {
  const other = kind === 'real' ? 'embedded' : 'real';
  return {
    test: {
      name: kind,
      include: INTEGRATION,
      exclude: [...NEVER, `**/*.${other}.test.ts`],
      globalSetup: [`e2e/house/global-setup-${kind}.ts`],
      testTimeout: 30_000,
      hookTimeout: 60_000,
      expect: PATIENT,
      sequence: { groupOrder: order },
    },
  };
}

/** Asked for by name, or when its binaries are at hand: a plain `npm test` neither downloads nor builds anything. */
async function realProjects(): Promise<TestProjectConfiguration[]> {
  const isNamed = process.argv.some((argument) => argument.startsWith('--project'));
  if (process.env.MESHKIT_TEST_REAL === 'separately' && !isNamed) {
    process.stderr.write('The real tier is left to `npm run test:real` (MESHKIT_TEST_REAL=separately).\n');
    return [];
  }
  const found = await findBinaries(binarySettings(process.env));
  if (found.ok || /--project[ =]real/.test(process.argv.join(' '))) return [integration('real', 2)];
  if (!isNamed) {
    process.stderr.write(
      `The real tier is SKIPPED: ${found.reason}\n\`npm run test:real\` downloads or builds what is missing, and runs it.\n`,
    );
  }
  return [];
}

export default defineConfig(async () => ({
  test: {
    projects: [
      {
        test: {
          name: 'unit',
          include: [
            '*/src/**/*.test.ts',
            'client/agent/**/*.test.ts',
            'samples/**/*.test.ts',
            'e2e/**/*.unit.test.ts',
          ],
          exclude: NEVER,
          testTimeout: 30_000,
          expect: PATIENT,
        },
      },
      integration('embedded', 1),
      ...(await realProjects()),
    ],
  },
}));
