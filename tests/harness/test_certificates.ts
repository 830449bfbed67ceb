/** Certificates for tests, issued with the project's own library. Every one says that it is for tests. */
import { encodePkcs12 } from "../../src/tools/certs/pkcs12.ts";
import { randomSerial, serialFromHex } from "../../src/tools/certs/random_serial.ts";
import * as x509 from "../../src/tools/certs/issue.ts";

const ORGANIZATION = "for tests only";

/** A certificate with its key. */
export interface IssuedCertificate {
  /** PEM. */
  readonly cert: string;
  /** PEM, PKCS#8. */
  readonly key: string;
  /** PEM of the CA that issued it. */
  readonly ca: string;
  /** Serial as lower-case hex, two digits a byte, no leading zero byte. */
  readonly serialHex: string;
  /** PKCS#12 of certificate and key. */
  toPkcs12(password: string): Promise<Uint8Array>;
}

export interface IssueOptions {
  commonName?: string;
  /** Hex of the serial number; random by default. */
  serialHex?: string;
  /** An hour ago by default. */
  notBefore?: Date;
  /** In two days by default. */
  notAfter?: Date;
  /** P-256 by default. */
  keyType?: x509.KeyType;
}

/** A certificate authority. */
export interface TestCa {
  /** PEM. */
  readonly ca: string;
  /** A server's certificate, for loopback. */
  server(options?: IssueOptions & { hosts?: string[] }): Promise<IssuedCertificate>;
  client(options?: IssueOptions): Promise<IssuedCertificate>;
}

/** Makes a CA that is valid from ten years ago to ten years ahead, so that it can issue expired certificates. */
export async function makeTestCa(commonName: string): Promise<TestCa> {
  const decade = 3650 * 86_400_000;
  const identity = await x509.issueCa(
    { commonName, organization: ORGANIZATION },
    await x509.generateKeys("P-256"),
    wholeSeconds(new Date(Date.now() - decade), new Date(Date.now() + decade)),
  );
  const ca = x509.certificateToPem(identity.certificate);

  const issue = async (purpose: x509.Purpose, options: IssueOptions): Promise<IssuedCertificate> => {
    const serial = options.serialHex === undefined ? randomSerial() : serialFromHex(options.serialHex);
    if (serial === undefined) throw new Error(`no serial number: ${options.serialHex}`);
    const standard = x509.validity(2, new Date());
    const { certificate, keys } = await x509.issueLeaf(
      identity,
      { commonName: options.commonName ?? purpose.kind, organization: ORGANIZATION },
      purpose,
      await x509.generateKeys(options.keyType ?? "P-256"),
      wholeSeconds(options.notBefore ?? standard.notBefore, options.notAfter ?? standard.notAfter),
      serial,
    );
    return {
      cert: x509.certificateToPem(certificate),
      key: await x509.privateKeyToPem(keys.privateKey),
      ca,
      serialHex: serial.toHex(),
      toPkcs12: async (password) => {
        const key = await crypto.subtle.exportKey("pkcs8", keys.privateKey);
        return encodePkcs12(certificate.rawData, key, password, ORGANIZATION);
      },
    };
  };
  return {
    ca,
    server: ({ hosts = ["127.0.0.1", "::1", "localhost"], ...options } = {}) =>
      issue({ kind: "server", hosts }, options),
    client: (options = {}) => issue({ kind: "client" }, options),
  };
}

/** Bytes of a serial as the configuration's array of integers. */
export function serialBytes(serialHex: string): number[] {
  return [...serialFromHex(serialHex)!];
}

function wholeSeconds(notBefore: Date, notAfter: Date): x509.Validity {
  const round = (date: Date) => new Date(Math.floor(date.getTime() / 1000) * 1000);
  return { notBefore: round(notBefore), notAfter: round(notAfter) };
}
