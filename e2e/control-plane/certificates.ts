import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  randomBytes,
  sign,
} from 'node:crypto';
import { isIP } from 'node:net';
import {
  bitString,
  boolean,
  children,
  type Der,
  explicit,
  implicit,
  integer,
  octetString,
  oid,
  sequence,
  set,
  time,
  utf8,
} from './der.ts';

const DAY_MS = 86_400_000;
const ECDSA_SHA256 = sequence(oid('1.2.840.10045.4.3.2'));
const COMMON_NAME = '2.5.4.3';
const ORGANIZATION = '2.5.4.10';
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

/** PEM of a certificate and of its private key (ECDSA P-256, PKCS #8). */
export interface KeyedCertificate {
  cert: string;
  key: string;
}

/** A self-signed authority for one control plane, valid for `days`. */
export function createAuthority(commonName: string, days = 30): KeyedCertificate {
  const { publicKey, privateKey } = createKeys();
  const subject = distinguishedName([[COMMON_NAME, commonName]]);
  const cert = certificate({
    subject,
    issuer: subject,
    days,
    publicKey,
    signingKey: privateKey,
    authorityKey: publicKey,
    extensions: [
      extension('2.5.29.19', true, sequence(boolean(true), integer(0))), // basic constraints: a CA of leaves only
      extension('2.5.29.15', true, bitString(Buffer.from([0x06]), 1)), // key usage: keyCertSign, cRLSign
    ],
  });
  return { cert, key: privateKey };
}

/** A certificate for a TLS server that answers on `hosts` (DNS names or IP addresses). */
export function issueServer(
  authority: KeyedCertificate,
  options: { commonName: string; hosts: readonly string[]; days?: number },
): KeyedCertificate {
  // etcd's JSON gateway dials its own server with the server certificate, so it has to serve as a client's too.
  return issue(authority, [[COMMON_NAME, options.commonName]], options.days ?? 30, [
    extension('2.5.29.37', false, sequence(oid(SERVER_AUTH), oid(CLIENT_AUTH))),
    extension('2.5.29.17', false, sequence(...options.hosts.map(generalName))),
  ]);
}

/** A client certificate as kube-apiserver reads it: CN is the user, every O a group. */
export function issueClient(
  authority: KeyedCertificate,
  user: { name: string; groups?: readonly string[] },
  days = 30,
): KeyedCertificate {
  const groups = (user.groups ?? []).map((group): [string, string] => [ORGANIZATION, group]);
  return issue(authority, [...groups, [COMMON_NAME, user.name]], days, [
    extension('2.5.29.37', false, sequence(oid(CLIENT_AUTH))),
  ]);
}

/** An ECDSA P-256 pair, PEM: what certificates here use, and what signs service-account tokens (ES256). */
export function createKeys(): { privateKey: string; publicKey: string } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
}

function issue(
  authority: KeyedCertificate,
  name: [string, string][],
  days: number,
  extensions: Der[],
): KeyedCertificate {
  const { publicKey, privateKey } = createKeys();
  const cert = certificate({
    subject: distinguishedName(name),
    issuer: subjectOf(authority.cert),
    days,
    publicKey,
    signingKey: authority.key,
    authorityKey: createPublicKey(authority.key).export({ type: 'spki', format: 'pem' }).toString(),
    extensions: [
      extension('2.5.29.19', true, sequence()), // basic constraints: not a CA
      extension('2.5.29.15', true, bitString(Buffer.from([0x80]), 7)), // key usage: digitalSignature
      ...extensions,
    ],
  });
  return { cert, key: privateKey };
}

/** RFC 5280 4.1, signed with ECDSA over SHA-256. */
function certificate(parts: {
  subject: Der;
  issuer: Der;
  days: number;
  publicKey: string;
  signingKey: string;
  authorityKey: string;
  extensions: readonly Der[];
}): string {
  const now = Date.now();
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const body = sequence(
    explicit(0, integer(2)),
    integer(serial),
    ECDSA_SHA256,
    parts.issuer,
    // An hour of the past is included, so that a clock that steps back does not make a fresh certificate "not yet valid".
    sequence(time(new Date(now - 3_600_000)), time(new Date(now + parts.days * DAY_MS))),
    parts.subject,
    spki(parts.publicKey),
    explicit(
      3,
      sequence(
        ...parts.extensions,
        extension('2.5.29.14', false, octetString(keyIdentifier(parts.publicKey))),
        extension('2.5.29.35', false, sequence(implicit(0, keyIdentifier(parts.authorityKey)))),
      ),
    ),
  );
  const signature = sign('sha256', body, createPrivateKey(parts.signingKey));
  return pem('CERTIFICATE', sequence(body, ECDSA_SHA256, bitString(signature)));
}

function extension(id: string, critical: boolean, value: Der): Der {
  return sequence(oid(id), ...(critical ? [boolean(true)] : []), octetString(value));
}

function distinguishedName(attributes: readonly [string, string][]): Der {
  return sequence(...attributes.map(([type, value]) => set(sequence(oid(type), utf8(value)))));
}

/** The `subject` element of a certificate: sixth of the seven that follow the version. */
function subjectOf(cert: string): Der {
  const body = children(fromPem(cert))[0];
  const subject = body && children(body)[5];
  if (!subject) throw new TypeError('not an X.509 version 3 certificate');
  return subject;
}

/** RFC 5280 4.2.1.2, method 1: SHA-1 of the public key's bits. */
function keyIdentifier(publicKey: string): Uint8Array {
  const bits = children(spki(publicKey))[1]!;
  return createHash('sha1').update(bits.subarray(3)).digest();
}

function generalName(host: string): Der {
  return isIP(host) ? implicit(7, addressBytes(host)) : implicit(2, Buffer.from(host, 'ascii'));
}

function addressBytes(address: string): Uint8Array {
  if (isIP(address) === 4) return Buffer.from(address.split('.').map(Number));
  const [head = '', tail] = address.split('::');
  const left = head.split(':').filter(Boolean);
  const right = (tail ?? '').split(':').filter(Boolean);
  const groups = [...left, ...Array(8 - left.length - right.length).fill('0'), ...right];
  return Buffer.from(groups.map((group) => group.padStart(4, '0')).join(''), 'hex');
}

function spki(publicKey: string): Der {
  return createPublicKey(publicKey).export({ type: 'spki', format: 'der' });
}

function pem(label: string, der: Der): string {
  const lines = Buffer.from(der)
    .toString('base64')
    .replaceAll(/(.{64})(?=.)/g, '$1\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function fromPem(text: string): Der {
  return Buffer.from(text.replaceAll(/-----[^-]+-----|\s/g, ''), 'base64');
}
