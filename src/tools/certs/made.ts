/** Descriptions of the certificates of a network: paths, names and serials. */

/** One certificate with its files. Paths begin with the directory as it was given. */
export interface MadeCertificate {
  /** Like `kme-1-local-zone/client_1`; its path below the directory without extension. */
  readonly name: string;
  /** PEM of the certificate. */
  readonly crt: string;
  /** PEM (PKCS#8) of its private key. */
  readonly key: string;
  /** Common name of its subject. */
  readonly commonName: string;
  /** Bytes of the serial number without sign padding, as in `https_client_certificate_serial`. */
  readonly serial: Uint8Array;
  readonly notAfter: Date;
}

/** The certificate of a CA. */
export interface MadeCa extends MadeCertificate {
  /** Its CRL in PEM; absent: it has none. */
  readonly crl?: string;
}

/** A client's certificate. */
export interface MadeClient extends MadeCertificate {
  /** Certificate and key in one PEM file. */
  readonly pem: string;
  /** Certificate and key as PKCS#12; the password is the network's. */
  readonly pfx: string;
}

export interface MadeKme {
  readonly id: string;
  /** CA of its SAEs' client certificates and of `saesServer`. */
  readonly saesCa: MadeCa;
  readonly saesServer: MadeCertificate;
  /** CA of other KMEs' client certificates and of `kmesServer`. */
  readonly kmesCa: MadeCa;
  readonly kmesServer: MadeCertificate;
  /** Client certificates of its SAEs, by SAE id. */
  readonly saes: ReadonlyMap<string, MadeClient>;
  /** Client certificates with which other KMEs call this one, by the caller's id. */
  readonly callers: ReadonlyMap<string, MadeClient>;
  /** Configuration file, when asked for. */
  readonly config?: string;
}

export interface MadeNetwork {
  /** By KME id. */
  readonly kmes: ReadonlyMap<string, MadeKme>;
  /** Files written this time, in order. */
  readonly written: readonly string[];
  /** Certificates and CRLs that expire or do not match the network file any more. */
  readonly warnings: readonly string[];
}
