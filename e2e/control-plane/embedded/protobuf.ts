import type { Json } from './schema.ts';
import { notImplemented } from './status.ts';

/** Field number -> name and type of a message, as far as kubectl sends it; what is not named is skipped. */
interface Message {
  [field: number]: readonly [name: string, type: 'text' | 'texts' | 'whole' | Message];
}

/** Fields 1, 2, 3 … of type text. */
function texts(...names: string[]): Message {
  return Object.fromEntries(names.map((name, index) => [index + 1, [name, 'text'] as const]));
}

const NAMED: Message = { 1: ['metadata', texts('name', 'generateName', 'namespace')] };
const RESOURCE = texts('namespace', 'verb', 'group', 'version', 'resource', 'subresource', 'name');
const ACCESS: Message = {
  1: ['resourceAttributes', RESOURCE],
  2: ['nonResourceAttributes', texts('path', 'verb')],
};
const TYPE_META = texts('apiVersion', 'kind');

/** What kubectl writes by its typed clients, which know no JSON: `create namespace`, `auth can-i`, `create token` and such. */
const MESSAGES: Record<string, Message | undefined> = {
  Namespace: NAMED,
  ServiceAccount: NAMED,
  SelfSubjectReview: {},
  SelfSubjectAccessReview: { 2: ['spec', ACCESS] },
  TokenRequest: { 2: ['spec', { 1: ['audiences', 'texts'], 4: ['expirationSeconds', 'whole'] }] },
};

/** An object in Kubernetes' protobuf envelope: four magic bytes, then runtime.Unknown (1: type, 2: the message itself). */
export function decodeProtobuf(bytes: Buffer): Json {
  const fields = [...fieldsOf(bytes.subarray(4))];
  const part = (number: number) => fields.find((field) => field.number === number)?.bytes ?? Buffer.alloc(0);
  const { apiVersion, kind } = decode(TYPE_META, part(1));
  const message = MESSAGES[String(kind)];
  if (!message) throw notImplemented(`protobuf of ${kind}, which kubectl sends here; apply it as YAML, or`);
  return { apiVersion, kind, ...decode(message, part(2)) };
}

function decode(message: Message, bytes: Buffer): Json {
  const object: Json = {};
  for (const field of fieldsOf(bytes)) {
    const [name, type] = message[field.number] ?? [];
    if (!name || !type) continue;
    if (type === 'whole') object[name] = field.value;
    else if (type === 'text') object[name] = field.bytes.toString();
    else if (type === 'texts')
      object[name] = [...((object[name] as string[] | undefined) ?? []), field.bytes.toString()];
    else object[name] = decode(type, field.bytes);
  }
  return object;
}

function* fieldsOf(bytes: Buffer): Generator<{ number: number; value: number; bytes: Buffer }> {
  let at = 0;
  const varint = () => {
    let [value, scale] = [0, 1];
    for (; at < bytes.length; scale *= 128) {
      const byte = bytes[at++] ?? 0;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) break;
    }
    return value;
  };
  while (at < bytes.length) {
    const tag = varint();
    const value = varint();
    const length = tag % 8 === 2 ? value : 0;
    yield { number: Math.floor(tag / 8), value, bytes: bytes.subarray(at, at + length) };
    at += length;
  }
}
