import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openApiDocument } from './openapi.ts';
import type { Operation } from './operation.ts';
import { type ReadSource, shardOperations } from './shard-operations.ts';
import { type WatchSource, watchShards } from './watch-operation.ts';

/** Writes openapi/openapi.json: what the operations say of themselves. No operation runs, so no source is needed. */
const path = fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url));
const document = openApiDocument([
  ...shardOperations({} as ReadSource),
  watchShards({} as WatchSource) as Operation,
]);
writeFileSync(path, `${JSON.stringify(document, null, 2)}\n`);
