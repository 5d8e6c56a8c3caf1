import 'reflect-metadata';
import { generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import { isIP } from 'node:net';
import {
  AuthorityKeyIdentifierExtension,
  BasicConstraintsExtension,
  ExtendedKeyUsage,
  ExtendedKeyUsageExtension,
  type Extension,
  type JsonName,
  KeyUsageFlags,
  KeyUsagesExtension,
  Name,
  PemConverter,
  SubjectAlternativeNameExtension,
  SubjectKeyIdentifierExtension,
  X509Certificate,
  X509CertificateGenerator,
} from '@peculiar/x509';

const HOUR_MS = 3_600_000;
type KeyPair = webcrypto.CryptoKeyPair;

const ECDSA = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };

/** PEM of a certificate and of its private key (ECDSA P-256, PKCS #8). */
export interface KeyedCertificate {
  cert: string;
  key: string;
}

/** A self-signed authority for one control plane, valid for `days`. */
export async function createAuthority(commonName: string, days = 30): Promise<KeyedCertificate> {
  const keys = await createPair();
  const subject = [{ CN: [commonName] }];
  const cert = await generate({ subject, issuer: subject, days, keys, signing: keys }, [
    new BasicConstraintsExtension(true, 0, true),
    new KeyUsagesExtension(KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign, true),
  ]);
  return { cert, key: await privatePem(keys) };
}

/** A certificate for a TLS server that answers on `hosts` (DNS names or IP addresses). */
export function issueServer(
  authority: KeyedCertificate,
  options: { commonName: string; hosts: readonly string[]; days?: number },
): Promise<KeyedCertificate> {
  const names = options.hosts.map((host) => ({ type: isIP(host) ? 'ip' : 'dns', value: host }) as const);
  // etcd's JSON gateway dials its own server with the server certificate, so it has to serve as a client's too.
  const usages = [ExtendedKeyUsage.serverAuth, ExtendedKeyUsage.clientAuth];
  return issue(authority, [{ CN: [options.commonName] }], options.days ?? 30, [
    new ExtendedKeyUsageExtension(usages),
    new SubjectAlternativeNameExtension(names),
  ]);
}

/** A client certificate as kube-apiserver reads it: CN is the user, every O a group. */
export function issueClient(
  authority: KeyedCertificate,
  user: { name: string; groups?: readonly string[] },
  days = 30,
): Promise<KeyedCertificate> {
  const name: JsonName = [...(user.groups ?? []).map((group) => ({ O: [group] })), { CN: [user.name] }];
  return issue(authority, name, days, [new ExtendedKeyUsageExtension([ExtendedKeyUsage.clientAuth])]);
}

/** An ECDSA P-256 pair, PEM: what signs service-account tokens (ES256). */
export function createKeys(): { privateKey: string; publicKey: string } {
  return generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
    publicKeyEncoding: { type: 'spki', format: 'pem' },
  });
}

async function issue(
  authority: KeyedCertificate,
  subject: JsonName,
  days: number,
  extensions: Extension[],
): Promise<KeyedCertificate> {
  const issuer = new X509Certificate(authority.cert);
  const [keys, privateKey, publicKey] = await Promise.all([
    createPair(),
    webcrypto.subtle.importKey('pkcs8', PemConverter.decodeFirst(authority.key), ECDSA, false, ['sign']),
    issuer.publicKey.export(ECDSA, ['verify'], webcrypto as Crypto),
  ]);
  const cert = await generate(
    { subject, issuer: issuer.subjectName.toJSON(), days, keys, signing: { privateKey, publicKey } },
    [
      new BasicConstraintsExtension(false, undefined, true),
      new KeyUsagesExtension(KeyUsageFlags.digitalSignature, true),
      ...extensions,
    ],
  );
  return { cert, key: await privatePem(keys) };
}

async function generate(
  parts: { subject: JsonName; issuer: JsonName; days: number; keys: KeyPair; signing: KeyPair },
  extensions: Extension[],
): Promise<string> {
  const serial = randomBytes(16);
  serial[0] = (serial[0]! & 0x7f) | 0x40;
  const certificate = await X509CertificateGenerator.create({
    serialNumber: serial.toString('hex'),
    subject: new Name(parts.subject).toJSON(),
    issuer: new Name(parts.issuer).toJSON(),
    // An hour of the past is included, so that a clock that steps back does not make a fresh certificate "not yet valid".
    notBefore: new Date(Date.now() - HOUR_MS),
    notAfter: new Date(Date.now() + parts.days * 24 * HOUR_MS),
    publicKey: parts.keys.publicKey,
    signingKey: parts.signing.privateKey,
    signingAlgorithm: ECDSA,
    extensions: [
      ...extensions,
      await SubjectKeyIdentifierExtension.create(parts.keys.publicKey),
      await AuthorityKeyIdentifierExtension.create(parts.signing.publicKey),
    ],
  });
  return `${certificate.toString('pem')}\n`;
}

async function createPair(): Promise<KeyPair> {
  return (await webcrypto.subtle.generateKey(ECDSA, true, ['sign', 'verify'])) as KeyPair;
}

async function privatePem(keys: KeyPair): Promise<string> {
  return `${PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', keys.privateKey), 'PRIVATE KEY')}\n`;
}
