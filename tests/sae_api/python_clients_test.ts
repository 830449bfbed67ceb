/** Clients of ETSI GS QKD 014 from PyPI, as their users call them. */
import assert from "node:assert/strict";
import { testIfInstalled } from "../harness/installed.ts";
import { pythonWith, runAsSaes } from "../harness/python.ts";
import { startNetwork, twoKmes } from "./api_fixture.ts";

const LIP6 = `
import sys
from etsi_qkd_014_client import QKD014Client

directory, master_port, slave_port = sys.argv[1:]

def client(sae, port):
    return QKD014Client(f"localhost:{port}", *(f"{directory}/{sae}-{name}.pem" for name in ("cert", "key", "ca")))

master, slave = client(1, master_port), client(3, slave_port)
code, status = master.get_status("3")
print(code, status.slave_sae_id, status.key_size, status.stored_key_count)
for wanted in ({}, {"number": 2, "size": 128}, {"number": 1, "extension_optional": [{"abc_route_type": "direct"}]}):
    code, made = master.get_key("3", **wanted)
    code_of_slave, read = slave.get_key_with_key_IDs("1", [key.key_id for key in made.keys])
    same = [(key.key_id, key.key) for key in made.keys] == [(key.key_id, key.key) for key in read.keys]
    print(code, code_of_slave, len(read.keys), same)
code, error = slave.get_key_with_key_IDs("1", [made.keys[0].key_id])
print(code, error.message)
code, error = master.get_key("99")
print(code, error.message)
`;

testIfInstalled(
  await pythonWith("etsi_qkd_014_client"),
  "no Python with the package etsi-qkd-014-client; pip install etsi-qkd-014-client",
  "the Python package etsi-qkd-014-client gets status and keys, and reads the errors",
  async (python) => {
    await using network = await startNetwork(twoKmes, [1, 2, 10]);
    assert.deepEqual(await runAsSaes(python, network, LIP6, "saesPort"), [
      "200 3 256 10",
      "200 200 1 True",
      "200 200 2 True",
      "200 200 1 True",
      "400 one or more keys specified are not found on KME",
      '400 SAE "99" is unknown',
    ]);
  },
);

const QKDSEC = `
import sys
from qkdsec.client import ETSI014Client
from qkdsec.doctor import run_all

directory, master_port, slave_port = sys.argv[1:]

def client(sae, port):
    files = (f"{directory}/{sae}-cert.pem", f"{directory}/{sae}-key.pem")
    return ETSI014Client(f"https://localhost:{port}", client_cert=files, verify=f"{directory}/{sae}-ca.pem")

with client(1, master_port) as master, client(3, slave_port) as slave:
    made = master.get_enc_keys("3", number=2, size=512, additional_slave_sae_ids=["2"])
    read = slave.get_dec_keys("1", key_ids=[key.key_id for key in made], key_ids_extension={"abc_x": 1})
    print(made == read, [key.size_bits for key in read])
    # It asks for keys and reads them as the same SAE.
    for result in run_all(master, "1").results:
        print(result.name, result.status.value)
`;

testIfInstalled(
  await pythonWith("qkdsec"),
  "no Python with the package qkdsec; pip install qkdsec",
  "the Python package qkdsec gets keys, and its conformance probe finds no fault",
  async (python) => {
    await using network = await startNetwork(twoKmes, [1, 2, 10], [1, 1, 10]);
    assert.deepEqual(await runAsSaes(python, network, QKDSEC, "saesPort"), [
      "True [512, 512]",
      "reachability pass",
      "status_fields pass",
      "enc_keys_get pass",
      "enc_keys_post pass",
      "enc_keys_caps pass",
      "extensions_accepted pass",
      "dec_keys_roundtrip pass",
      // It expects 404 for an unknown key_ID, where clause 5.4 has 400.
      "error_contract_404 warn",
      "error_contract_400 pass",
      "latency pass",
    ]);
  },
);
