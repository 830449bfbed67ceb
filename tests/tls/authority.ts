/** Certificates for tests, with every fault a client's certificate can have. */
import "reflect-metadata";
import * as x509 from "@peculiar/x509";

/** A CA's signature uses the hash of its curve's size. */
const HASHES: Record<string, string> = { "P-256": "SHA-256", "P-384": "SHA-384", "P-521": "SHA-512" };
const DAY = 86_400_000;

x509.cryptoProvider.set(crypto);

export interface TestCertificate {
  readonly certificate: x509.X509Certificate;
  readonly keys: CryptoKeyPair;
  /** PEM. */
  readonly cert: string;
  readonly key: string;
}

export interface CertificateOptions {
  /** Without "for tests", which is added. */
  readonly name?: string;
  /** Hex of the serial's octets. */
  readonly serial?: string;
  readonly notBefore?: Date;
  readonly notAfter?: Date;
  readonly isCa?: boolean;
  readonly pathLength?: number;
  readonly usages?: string[];
  readonly extensions?: x509.Extension[];
  readonly curve?: "P-256" | "P-384" | "P-521";
}

let serials = 0x1000;

/** Issues a certificate; without an issuer it is self-signed. */
export async function issue(
  issuer: TestCertificate | undefined,
  options: CertificateOptions,
): Promise<TestCertificate> {
  const algorithm = { name: "ECDSA", namedCurve: options.curve ?? "P-256" };
  const keys = await crypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const signer = (issuer?.keys ?? keys).privateKey.algorithm as EcKeyAlgorithm;
  const subject = `CN=${options.name ?? "client"} (for tests)`;
  const isCa = options.isCa ?? false;
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: options.serial ?? (++serials).toString(16),
    subject,
    issuer: issuer?.certificate.subject ?? subject,
    notBefore: options.notBefore ?? new Date(Date.now() - DAY),
    notAfter: options.notAfter ?? new Date(Date.now() + DAY),
    signingAlgorithm: { name: "ECDSA", hash: HASHES[signer.namedCurve]! },
    publicKey: keys.publicKey,
    signingKey: (issuer?.keys ?? keys).privateKey,
    extensions: [
      new x509.BasicConstraintsExtension(isCa, options.pathLength, true),
      ...isCa ? [new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true)] : [],
      ...options.usages ? [new x509.ExtendedKeyUsageExtension(options.usages)] : [],
      ...options.extensions ?? [],
    ],
  });
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
  return {
    certificate,
    keys,
    cert: certificate.toString("pem"),
    key: x509.PemConverter.encode(pkcs8, "PRIVATE KEY"),
  };
}

/** A root CA. */
export function authority(name: string, options: CertificateOptions = {}): Promise<TestCertificate> {
  return issue(undefined, { name, isCa: true, ...options });
}

export function client(ca: TestCertificate, options: CertificateOptions = {}): Promise<TestCertificate> {
  return issue(ca, { usages: [x509.ExtendedKeyUsage.clientAuth], ...options });
}

export function server(ca: TestCertificate, options: CertificateOptions = {}): Promise<TestCertificate> {
  return issue(ca, {
    name: "server",
    ...options,
    usages: [x509.ExtendedKeyUsage.serverAuth],
    extensions: [
      new x509.SubjectAlternativeNameExtension([{ type: "dns", value: "localhost" }, {
        type: "ip",
        value: "127.0.0.1",
      }]),
    ],
  });
}
