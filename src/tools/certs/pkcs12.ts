/**
 * PKCS#12 files (RFC 7292) with one certificate and its key, both encrypted with PBES2: PBKDF2 with HMAC-SHA-256
 * and AES-256-CBC; the whole is authenticated with HMAC-SHA-256.
 */
import * as asn1js from "asn1js";
import * as pkijs from "pkijs";

/**
 * What openssl uses. The plain key is in a file of the same directory and mode, so more iterations would protect
 * nothing, and some readers derive the key at every connection.
 */
const ITERATIONS = 2048;
const BAG_SHROUDED_KEY = "1.2.840.113549.1.12.10.1.2";
const BAG_CERTIFICATE = "1.2.840.113549.1.12.10.1.3";
const ATTRIBUTE_FRIENDLY_NAME = "1.2.840.113549.1.9.20";
const ATTRIBUTE_LOCAL_KEY_ID = "1.2.840.113549.1.9.21";
const CONTENT_DATA = "1.2.840.113549.1.7.1";
const CONTENT_ENCRYPTED_DATA = "1.2.840.113549.1.7.6";

/**
 * Bytes of a PKCS#12 file. It holds no CA certificate: readers such as node:tls would trust it.
 *
 * @param certificate DER of the certificate.
 * @param key DER (PKCS#8) of its key.
 * @param password May be empty.
 * @param name Shown by certificate stores.
 */
export async function encodePkcs12(
  certificate: BufferSource,
  key: BufferSource,
  password: string,
  name: string,
): Promise<Uint8Array<ArrayBuffer>> {
  const encryption = {
    password: new TextEncoder().encode(password).buffer,
    contentEncryptionAlgorithm: { name: "AES-CBC", length: 256 } as unknown as Algorithm,
    hmacHashAlgorithm: "SHA-256",
    iterationCount: ITERATIONS,
  } as unknown as Parameters<pkijs.PKCS8ShroudedKeyBag["makeInternalValues"]>[0];
  // Readers match certificates with keys by it.
  const localKeyId = await crypto.subtle.digest("SHA-1", certificate);
  const attributes = derSet([
    new pkijs.Attribute({ type: ATTRIBUTE_FRIENDLY_NAME, values: [new asn1js.BmpString({ value: name })] }),
    new pkijs.Attribute({
      type: ATTRIBUTE_LOCAL_KEY_ID,
      values: [new asn1js.OctetString({ valueHex: localKeyId })],
    }),
  ]);

  const shrouded = new pkijs.PKCS8ShroudedKeyBag({ parsedValue: pkijs.PrivateKeyInfo.fromBER(key) });
  await shrouded.makeInternalValues(encryption);
  shrouded.encryptedData = whole(shrouded.encryptedData);
  const keys = new pkijs.SafeContents({
    safeBags: [new pkijs.SafeBag({ bagId: BAG_SHROUDED_KEY, bagValue: shrouded, bagAttributes: attributes })],
  });

  const certificates = new pkijs.SafeContents({
    safeBags: [
      new pkijs.SafeBag({
        bagId: BAG_CERTIFICATE,
        bagValue: new pkijs.CertBag({ parsedValue: pkijs.Certificate.fromBER(certificate) }),
        bagAttributes: attributes,
      }),
    ],
  });
  const encrypted = new pkijs.EncryptedData();
  await encrypted.encrypt({ ...encryption, contentToEncrypt: certificates.toSchema().toBER(false) });
  const { contentType, contentEncryptionAlgorithm, encryptedContent } = encrypted.encryptedContentInfo;
  encrypted.encryptedContentInfo = new pkijs.EncryptedContentInfo({
    contentType,
    contentEncryptionAlgorithm,
    encryptedContent: whole(encryptedContent!),
    disableSplit: true,
  });

  const pfx = new pkijs.PFX({
    parsedValue: {
      integrityMode: 0,
      authenticatedSafe: new pkijs.AuthenticatedSafe({
        safeContents: [
          new pkijs.ContentInfo({
            contentType: CONTENT_ENCRYPTED_DATA,
            content: encrypted.toSchema(),
          }),
          new pkijs.ContentInfo({
            contentType: CONTENT_DATA,
            content: new asn1js.OctetString({ valueHex: keys.toSchema().toBER(false) }),
          }),
        ],
      }),
    },
  });
  await pfx.makeInternalValues({
    password: encryption.password,
    iterations: ITERATIONS,
    pbkdf2HashAlgorithm: "SHA-256",
    hmacHashAlgorithm: "SHA-256",
  });
  return new Uint8Array(pfx.toSchema().toBER(false));
}

/** pkijs splits octet strings, which is BER; some readers accept only DER. */
function whole(octets: asn1js.OctetString): asn1js.OctetString {
  return new asn1js.OctetString({ valueHex: octets.getValue() });
}

/** Attributes in the order that DER requires of a SET OF (X.690, clause 11.6): node:tls of Deno refuses any other. */
function derSet(attributes: pkijs.Attribute[]): pkijs.Attribute[] {
  const encoded = (attribute: pkijs.Attribute) => new Uint8Array(attribute.toSchema().toBER(false)).toHex();
  // Tags and lengths come first, so that no encoding is the beginning of another.
  return attributes.sort((a, b) => encoded(a) < encoded(b) ? -1 : 1);
}
