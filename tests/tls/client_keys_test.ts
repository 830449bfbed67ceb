/** Kinds of keys and cipher suites of clients, made and offered by OpenSSL. */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { runChild } from "../harness/child_process.ts";
import { findProgram, testWith } from "../harness/installed.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { ca, withFront } from "./front_harness.ts";

const curl = findProgram("/usr/bin/curl", "/usr/local/bin/curl");
const openssl = curl && findProgram("/usr/bin/openssl", "/usr/local/bin/openssl");

/** Arguments of `openssl` for a new private key, and whether clients with such a key are served. */
const KEYS: Record<string, { make: string[]; served: boolean }> = {
  "P-521": { make: ["genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-521"], served: true },
  Ed25519: { make: ["genpkey", "-algorithm", "ED25519"], served: true },
  "RSA-2048 as PKCS#1": { make: ["genrsa", "-traditional"], served: true },
  "RSA-PSS": {
    make: ["genpkey", "-algorithm", "RSA-PSS", "-pkeyopt", "rsa_keygen_bits:2048"],
    served: false,
  },
};

for (const [what, { make, served }] of Object.entries(KEYS)) {
  testWith(
    openssl,
    "no openssl or no curl",
    `a client whose key is ${what} is ${served ? "served" : "refused"}`,
    async (program) => {
      await using directory = await makeTempDir();
      const path = (name: string) => `${directory.path}/${name}`;
      const run = async (...args: string[]) => {
        const { code, stderr } = await runChild(program, { args });
        assert.equal(code, 0, stderr);
      };
      await Deno.writeTextFile(path("ca.pem"), ca.cert);
      await Deno.writeTextFile(path("ca-key.pem"), ca.key);
      await Deno.writeTextFile(
        path("extensions"),
        "basicConstraints=CA:false\nextendedKeyUsage=clientAuth\n",
      );
      await run(...make, "-out", path("key.pem"));
      await run(
        "req",
        "-new",
        "-key",
        path("key.pem"),
        "-subj",
        "/CN=router (for tests)",
        "-out",
        path("csr.pem"),
      );
      await run(
        ...["x509", "-req", "-in", path("csr.pem"), "-CA", path("ca.pem"), "-CAkey", path("ca-key.pem")],
        ...["-set_serial", "0x5afe", "-days", "1", "-extfile", path("extensions"), "-out", path("cert.pem")],
      );
      const cert = await Deno.readTextFile(path("cert.pem"));
      assert.equal(new X509Certificate(cert).serialNumber, "5AFE");
      for (const maxVersion of ["TLSv1.2", "TLSv1.3"] as const) {
        await withFront({ maxVersion }, async (_front, port) => {
          const { code, stdout } = await runChild(curl!, {
            args: [
              ...["-sS", "--max-time", "20", "--cacert", path("ca.pem")],
              ...["--cert", path("cert.pem"), "--key", path("key.pem"), `https://localhost:${port}/`],
            ],
          });
          assert.equal(code === 0 && stdout === "5afe", served, `${maxVersion}: ${stdout}`);
        });
      }
    },
  );
}

testWith(
  openssl,
  "no openssl or no curl",
  "clients that offer only RSA key exchange or CBC are refused with an alert, those with ECDHE and GCM are not",
  async (program) => {
    await withFront({}, async (_front, port) => {
      const offer = async (cipher: string) => {
        const { stdout, stderr } = await runChild(program, {
          args: ["s_client", "-connect", `127.0.0.1:${port}`, "-tls1_2", "-cipher", cipher],
        });
        return stdout + stderr;
      };
      for (const cipher of ["AES256-GCM-SHA384", "ECDHE-RSA-AES256-SHA384", "ECDHE-ECDSA-AES256-SHA384"]) {
        assert.match(await offer(cipher), /alert handshake failure/, cipher);
      }
      assert.match(await offer("ECDHE-ECDSA-AES256-GCM-SHA384"), /Cipher is ECDHE-ECDSA-AES256-GCM-SHA384/);
    });
  },
);
