import { writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { openApiDocument } from './openapi.ts';
import { type ReadSource, shardOperations } from './shard-operations.ts';

/** Writes openapi/openapi.json: what the operations say of themselves. No operation runs, so no source is needed. */
const path = fileURLToPath(new URL('../../openapi/openapi.json', import.meta.url));
const document = openApiDocument(shardOperations({} as ReadSource));
writeFileSync(path, `${JSON.stringify(document, null, 2)}\n`);
