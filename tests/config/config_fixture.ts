/** A directory with all that a right configuration names, to be spoilt in one place at a time. */
import { loadConfig, type LoadedConfig, type LoadOptions } from "../../src/config/load.ts";
import type { Mistake } from "../../src/config/config.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import {
  type IssuedCertificate,
  makeTestCa,
  serialBytes,
  type TestCa,
} from "../harness/test_certificates.ts";

/** Free to be edited into a wrong one. */
// deno-lint-ignore no-explicit-any
export type AnyConfig = Record<string, any>;

export const PASSWORD = "pfx password for tests";

export interface Fixture extends AsyncDisposable {
  readonly path: string;
  /** Issues all the certificates; clients of the interface for KMEs have another one. */
  readonly ca: TestCa;
  readonly kmesCa: TestCa;
  readonly server: IssuedCertificate;
  readonly client: IssuedCertificate;
  /** A right configuration of KME 1 with neighbours 2 and 3 and SAEs 1, 2 (own) and 3 (of KME 2). */
  config(): AnyConfig;
  /** Writes a file into the directory, for its owner only, and gives its name. */
  write(name: string, content: string | Uint8Array): Promise<string>;
  /** Loads a text; relative paths are found beside it. */
  loadText(text: string | Uint8Array, options?: LoadOptions): ReturnType<typeof loadConfig>;
  /** Loads the right configuration after an edit. */
  load(edit?: (config: AnyConfig) => void, options?: LoadOptions): ReturnType<typeof loadConfig>;
}

export async function makeFixture(): Promise<Fixture> {
  const temp = await makeTempDir("kme-config-");
  const elsewhere = await makeTempDir("kme-config-cwd-");
  const path = temp.path;
  const write = async (name: string, content: string | Uint8Array) => {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    await Deno.writeFile(`${path}/${name}`, bytes, { mode: 0o600 });
    return name;
  };
  const distant = new Date(Date.now() + 90 * 86_400_000);
  const ca = await makeTestCa("configuration");
  const kmesCa = await makeTestCa("configuration, KMEs");
  const server = await ca.server({ notAfter: distant });
  const client = await ca.client({ notAfter: distant });
  for (const name of ["keys-1", "keys-2", "keys-3", "db"]) await Deno.mkdir(`${path}/${name}`);
  await write("ca.pem", ca.ca);
  await write("kmes-ca.pem", kmesCa.ca);
  await write("server.pem", server.cert);
  await write("server.key", server.key);
  await write("client.pfx", await client.toPkcs12(PASSWORD));
  await write("client.pem", client.cert + client.key);

  const httpsInterface = (port: number) => ({
    listen_address: `127.0.0.1:${port}`,
    ca_client_cert_path: "ca.pem",
    server_cert_path: "server.pem",
    server_key_path: "server.key",
  });
  const config = () => ({
    this_kme: {
      id: 1,
      nickname: "Alice",
      db_uri: ":memory:",
      delete_key_file_after_read: false,
      key_directory_to_watch: "keys-1",
      saes_https_interface: httpsInterface(13000),
      kmes_https_interface: { ...httpsInterface(13001), ca_client_cert_path: "kmes-ca.pem" },
      debugging_http_interface: "127.0.0.1:18080",
    },
    other_kmes: [
      {
        id: 2,
        key_directory_to_watch: "keys-2",
        inter_kme_bind_address: "kme2.example:13001",
        ignore_system_proxy_settings: true,
        https_client_authentication_certificate: "client.pfx",
        https_client_authentication_certificate_password: PASSWORD,
        certificates: [{ subject_cn: "KME 2" }] as AnyConfig[],
      },
      {
        id: 3,
        key_directory_to_watch: "keys-3",
        inter_kme_bind_address: "[::1]:13003",
        https_client_authentication_certificate: "client.pem",
        https_client_authentication_certificate_password: "",
        certificates: [{ subject_cn: "KME 3" }] as AnyConfig[],
      },
    ],
    saes: [
      { id: 1, kme_id: 1, https_client_certificate_serial: serialBytes(client.serialHex) },
      { id: 2, kme_id: 1, https_client_certificate_serial: "0A:F1" },
      { id: 3, kme_id: 2 },
    ],
  });
  const loadText = async (text: string | Uint8Array, options?: LoadOptions) => {
    await write("config.json5", text);
    return await loadConfig(`${path}/config.json5`, { cwd: elsewhere.path, ...options });
  };
  return {
    path,
    ca,
    kmesCa,
    server,
    client,
    config,
    write,
    loadText,
    load: (edit = () => {}, options) => {
      const edited = config();
      edit(edited);
      return loadText(JSON.stringify(edited), options);
    },
    [Symbol.asyncDispose]: async () => {
      await temp.remove();
      await elsewhere.remove();
    },
  };
}

/** The configuration, or a failure that says what is wrong with it. */
export function right(
  loaded: Awaited<ReturnType<typeof loadConfig>>,
): LoadedConfig {
  if ("config" in loaded) return loaded;
  throw new Error(`mistakes: ${loaded.mistakes.map((m) => `${m.member}: ${m.message}`).join("; ")}`);
}

/** The mistakes, or a failure. */
export function wrong(loaded: Awaited<ReturnType<typeof loadConfig>>): Mistake[] {
  if ("mistakes" in loaded) return loaded.mistakes;
  throw new Error("there is no mistake");
}
