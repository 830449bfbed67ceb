/** A link whose keys come from a QKD device: what the configuration says, and mistakes in it. */
import assert from "node:assert/strict";
import { isNeighbour } from "../../src/domain/network.ts";
import { type AnyConfig, makeFixture, PASSWORD, right, wrong } from "./config_fixture.ts";

const SOURCE = {
  kind: "etsi014",
  url: "https://qkd1.example/device/api/v1/keys/",
  ca_cert_path: "ca.pem",
  https_client_authentication_certificate: "client.pfx",
  https_client_authentication_certificate_password: PASSWORD,
  local_SAE_id: 7,
  remote_SAE_id: "8",
};

const withSource = (change: Record<string, unknown>) => (config: AnyConfig) => {
  config.other_kmes[0].key_source = { ...SOURCE, ...change };
};

Deno.test("a link may have a device instead of a directory, or beside it", async () => {
  await using fixture = await makeFixture();
  await fixture.write("ca.pem", fixture.ca.ca);
  for (const withDirectory of [true, false]) {
    const { config } = right(
      await fixture.load((config) => {
        withSource({})(config);
        if (!withDirectory) delete (config as AnyConfig).other_kmes[0].key_directory_to_watch;
      }),
    );
    const [link] = config.otherKmes.filter(isNeighbour);
    assert.equal(link!.keyDirectory !== undefined, withDirectory);
    const { clientCertificate, serverCa, ...device } = link!.device!;
    assert.equal(clientCertificate.kind, "pfx");
    assert.equal(serverCa, fixture.ca.ca);
    assert.deepEqual(device, {
      kind: "etsi014",
      url: { address: { hostname: "qkd1.example", port: 443 }, path: "/device" },
      localSae: "7",
      remoteSae: "8",
      serverCrl: undefined,
      keySize: 256,
      keysPerRequest: 128,
      targetStock: 10_000,
      lowStock: 5000,
      pollSeconds: 10,
      direction: undefined,
    });
  }
});

Deno.test("each mistake is reported with what would be correct", async () => {
  await using fixture = await makeFixture();
  await fixture.write("ca.pem", fixture.ca.ca);
  const cases: [Record<string, unknown>, string, RegExp][] = [
    [{ kind: "etsi004" }, "kind", /write "etsi014"/],
    [{ url: "http://qkd1.example" }, "url", /https:/],
    [{ url: "qkd1.example:443" }, "url", /https:/],
    [{ url: "https://user@qkd1.example" }, "url", /certificate/],
    [{ url: undefined }, "url", /is missing/],
    [{ ca_cert_path: "absent.pem" }, "ca_cert_path", /does not exist/],
    [
      { https_client_authentication_certificate_password: "another" },
      "https_client_authentication_certificate_password",
      /password/,
    ],
    [{ key_size: 128 }, "key_size", /256/],
    [{ key_size: 257 }, "key_size", /multiple of 8/],
    [{ low_stock: 20_000 }, "low_stock", /target_stock/],
    [{ target_stock: 2_000_000 }, "target_stock", /max_key_count/],
    [{ remote_SAE_id: "7" }, "remote_SAE_id", /local_SAE_id/],
    [{ direction: "here" }, "direction", /"both"/],
    [{ colour: 1 }, "colour", /known here are kind/],
  ];
  for (const [change, member, pattern] of cases) {
    const found = wrong(await fixture.load(withSource(change) as never));
    assert.deepEqual(
      found.map((each) => each.member),
      [`other_kmes[0].key_source.${member}`],
      JSON.stringify(change),
    );
    assert.match(found[0]!.message, pattern);
  }
});

Deno.test("a link needs a directory or a device, and a KME without a link has neither", async () => {
  await using fixture = await makeFixture();
  await fixture.write("ca.pem", fixture.ca.ca);
  const none = wrong(
    await fixture.load((config) => delete (config as AnyConfig).other_kmes[0].key_directory_to_watch),
  );
  assert.deepEqual(none.map(({ member }) => member), ["other_kmes[0].key_directory_to_watch"]);
  assert.match(none[0]!.message, /key_source/);
  const both = wrong(
    await fixture.load((config) => {
      (config as AnyConfig).other_kmes[0] = { id: 2, reached_through: 3, key_source: SOURCE };
    }),
  );
  assert.deepEqual(both.map(({ member }) => member), ["other_kmes[0].key_source"]);
});
