import assert from "node:assert/strict";
import { checkNetwork, firstHop, neighboursOf, NetworkError } from "../../../src/tools/certs/network_file.ts";
import type { NetworkFile } from "../../../src/tools/certs/network_file.ts";
import { twoKmes } from "./network_files.ts";

function mistakesOf(value: unknown): [member: string, message: string][] {
  try {
    checkNetwork(value, "network.json5");
  } catch (error) {
    assert.ok(error instanceof NetworkError);
    assert.ok(error.mistakes.every((mistake) => mistake.file === "network.json5"));
    return error.mistakes.map(({ member, message }) => [member, message]);
  }
  return [];
}

Deno.test("all mistakes of a network file are reported at once", () => {
  const wrong = twoKmes() as unknown as Record<string, unknown> & { kmes: Record<string, unknown>[] };
  wrong.key_type = "RSA";
  wrong.leaf_days = 0;
  wrong.valid_from = "2999-01-01";
  wrong.certificates = "certs";
  wrong.kmes[0]!.id = 1.5;
  wrong.kmes[0]!.saes_interface = { hosts: ["https://kme1", "kme1:443"], port: 70000, listen: "kme1" };
  wrong.kmes[0]!.saes = [{ id: "", serial: "00" }, { id: 9007199254740993, serial: "xyz" }, {
    id: 4,
    name: "../x",
  }];
  delete wrong.kmes[1]!.kmes_interface;
  assert.deepEqual(mistakesOf(wrong).map(([member]) => member).sort(), [
    "",
    "key_type",
    "kmes[0].id",
    "kmes[0].saes[0].id",
    "kmes[0].saes[0].serial",
    "kmes[0].saes[1].id",
    "kmes[0].saes[1].serial",
    "kmes[0].saes[2].name",
    "kmes[0].saes_interface.hosts[0]",
    "kmes[0].saes_interface.hosts[1]",
    "kmes[0].saes_interface.listen",
    "kmes[0].saes_interface.port",
    "kmes[1].kmes_interface",
    "leaf_days",
    "valid_from",
  ]);
  assert.match(mistakesOf(wrong).find(([member]) => member === "")![1], /certificates/);
  for (const nothing of [null, 1, [], {}]) assert.ok(mistakesOf(nothing).length > 0);
});

Deno.test("duplicate ids, serials, ports and file names are refused", () => {
  const network = twoKmes();
  network.kmes[1]!.id = "1";
  network.kmes[1]!.saes = [{ id: "2" }, { id: 5, serial: "00ff" }, { id: 6, serial: "FF" }];
  assert.deepEqual(mistakesOf(network), [
    ["kmes[1].id", "KME 1 exists already (kmes[0].id)"],
    ["kmes[1].saes[0].id", "SAE 2 exists already (kmes[0].saes[1].id)"],
    ["kmes[1].saes[2].serial", "serial ff of KME 1 exists already (kmes[1].saes[1].serial)"],
  ]);
  const ports = twoKmes();
  ports.kmes[0]!.kmes_interface.port = ports.kmes[0]!.saes_interface.port;
  assert.deepEqual(mistakesOf(ports), [["kmes[0].kmes_interface.port", "is the port of saes_interface too"]]);
  const skip = twoKmes();
  skip.kmes[0]!.skip_port = skip.kmes[0]!.saes_interface.port;
  skip.kmes[1]!.skip_port = skip.kmes[1]!.kmes_interface.port;
  assert.deepEqual(mistakesOf(skip), [
    ["kmes[0].skip_port", "is the port of saes_interface too"],
    ["kmes[1].skip_port", "is the port of kmes_interface too"],
  ]);
  const names = twoKmes();
  names.kmes[0]!.saes = [{ id: 1, name: "CA" }, { id: 2, name: "kme_server" }, { id: 4, name: "x" }, {
    id: 5,
    name: "X",
  }];
  assert.deepEqual(mistakesOf(names).map(([member]) => member), [
    "kmes[0].saes[0].name",
    "kmes[0].saes[1].name",
    "kmes[0].saes[3].name",
  ]);
});

Deno.test("serials are a number of at most 20 octets", () => {
  const serial = (text: string) => {
    const network = twoKmes();
    network.kmes[0]!.saes = [{ id: 1, serial: text }];
    return mistakesOf(network).length === 0;
  };
  for (const good of ["1", "0x0A", "7f".repeat(20), "00".repeat(30) + "ff".repeat(19)]) {
    assert.ok(serial(good), good);
  }
  for (const bad of ["", "0", "0000", "-1", "g", "ff".repeat(20), "01" + "00".repeat(20)]) {
    assert.ok(!serial(bad), bad);
  }
});

function chain(links?: NetworkFile["links"]): NetworkFile {
  const network = twoKmes();
  const kme = network.kmes[1]!;
  return {
    ...network,
    kmes: [...network.kmes, { ...kme, id: "three", saes: [] }, { ...kme, id: 4, saes: [] }],
    links,
  };
}

Deno.test("links define neighbours", () => {
  const all = checkNetwork(chain());
  assert.deepEqual(neighboursOf(all, "three"), ["1", "2", "4"]);
  const some = checkNetwork(chain([[1, 2], [2, "three"], ["4", "three"]]));
  assert.deepEqual(neighboursOf(some, "1"), ["2"]);
  assert.deepEqual(neighboursOf(some, "three"), ["2", "4"]);
  assert.deepEqual(["2", "three", "4"].map((target) => firstHop(some, "1", target)), ["2", "2", "2"]);
  assert.deepEqual(["1", "2", "three"].map((target) => firstHop(some, "4", target)), [
    "three",
    "three",
    "three",
  ]);

  assert.deepEqual(mistakesOf(chain([[1, 2], ["three", 4]])), [
    ["links", "KME three cannot be reached from KME 1"],
    ["links", "KME 4 cannot be reached from KME 1"],
  ]);
  assert.deepEqual(mistakesOf(chain([[1, 1], [2, 7]])), [
    ["links[0]", "must be between two KMEs"],
    ["links[1]", "there is no KME 7"],
  ]);
});

Deno.test("an interface of this computer listens there only, unless it says otherwise", () => {
  const listen = (hosts: string[], listen?: string) => {
    const network = twoKmes();
    network.kmes[0]!.saes_interface = { hosts, port: 1, listen };
    return checkNetwork(network).kmes[0]!.saesInterface.listen;
  };
  assert.equal(listen(["localhost", "127.0.0.1", "::1"]), "127.0.0.1");
  assert.equal(listen(["localhost", "kme1.example"]), "0.0.0.0");
  assert.equal(listen(["localhost"], "::"), "::");
});
