/** TLS to database servers, verified by this program's own rules. */
import type { ConnectionOptions, TLSSocket } from "node:tls";
import mysql, { type SslOptions } from "mysql2";
import type { DatabaseTls } from "../../config/config.ts";
import { checkServerIdentity, verifyServer } from "../../tls/peer_certificates.ts";
import { serverVerifier, systemCa } from "../../tls/server_trust.ts";

/** Options of `pg`, which hands them to `tls.connect`. */
export function tlsOptions({ verify, ca }: DatabaseTls): ConnectionOptions {
  if (verify === "none") return { rejectUnauthorized: false };
  return {
    ca: ca ?? systemCa(),
    rejectUnauthorized: true,
    checkServerIdentity: checkServerIdentity(serverVerifier(ca), verify === "chain"),
  };
}

/** A connection of `mysql2`, as far as it is needed here. */
interface MysqlConnection {
  readonly config: { readonly ssl: object };
  readonly stream: TLSSocket;
  startTLS(onSecure: (error?: unknown) => void): void;
}

/** What is done after the handshake of a connection with these options. */
const verifications = new WeakMap<object, (socket: TLSSocket) => void>();

/** Options of `mysql2`. */
export function verifiedMysqlTls({ verify, ca }: DatabaseTls, hostname: string): SslOptions {
  if (verify === "none") return { rejectUnauthorized: false };
  const options: SslOptions = { ca: ca ?? systemCa(), rejectUnauthorized: true, verifyIdentity: false };
  const verifier = serverVerifier(ca);
  const host = verify === "chain" ? undefined : hostname.replace(/^\[(.*)\]$/, "$1");
  verifications.set(options, (socket) => verifyServer(socket, verifier, host));
  return options;
}

// There is no option for an own verification. It has to be done before the password is sent, which is what `onSecure` does.
const { prototype } = mysql.PoolConnection as unknown as { readonly prototype: MysqlConnection };
const { startTLS } = prototype;
prototype.startTLS = function (this: MysqlConnection, onSecure) {
  const verify = verifications.get(this.config.ssl);
  startTLS.call(this, (error) => {
    if (error !== undefined || verify === undefined) return onSecure(error);
    try {
      verify(this.stream);
    } catch (refused) {
      this.stream.destroy();
      return onSecure(refused);
    }
    onSecure();
  });
};
