/** The PyPI package skip-qkd as a client of the SKIP interface. */
import assert from "node:assert/strict";
import { testIfInstalled } from "../harness/installed.ts";
import { pythonWith, runAsSaes } from "../harness/python.ts";
import { startNetwork } from "../sae_api/api_fixture.ts";
import { twoSkipKmes } from "./skip_fixture.ts";

const SCRIPT = `
import sys
from skip_qkd import SkipQKDClient, MTLSConfig

directory, initiator_port, responder_port = sys.argv[1:]

def client(sae, port):
    files = [f"{directory}/{sae}{end}" for end in ("-ca.pem", "-cert.pem", "-key.pem")]
    # A client closes its connection after a request.
    return SkipQKDClient(f"127.0.0.1:{port}", "KP_A", mtls_config=MTLSConfig(*files))

def refused(call):
    try:
        call()
    except RuntimeError as error:
        return str(error)

initiator = lambda: client(1, initiator_port)
responder = lambda: client(3, responder_port)
capabilities = initiator().capabilities()
print(capabilities["localSystemID"], capabilities["remoteSystemID"], capabilities["key"], capabilities["entropy"])
for size in (None, 128, 256):
    key = initiator().request_key("3", size)
    fetched = responder().fetch_key_by_id(key["keyId"], "1")
    print(key == fetched, 4 * len(key["key"]))
    print(refused(lambda: responder().fetch_key_by_id(key["keyId"], "1")))
print(refused(lambda: initiator().request_key("99")))
entropy = initiator().entropy(128)
print(4 * len(entropy["randomStr"]), entropy["minentropy"])
`;

testIfInstalled(
  await pythonWith("skip_qkd"),
  "no Python with the package skip-qkd; pip install skip-qkd",
  "the Python package skip-qkd gets keys, capabilities and entropy",
  async (python) => {
    await using network = await startNetwork(twoSkipKmes, [1, 2, 10]);
    const bad = "Server returned error: HTTP/1.1 400 Bad Request";
    assert.deepEqual(await runAsSaes(python, network, SCRIPT, "skipPort"), [
      "1 ['3', '5'] True True",
      ...["True 256", bad, "True 128", bad, "True 256", bad],
      bad,
      "128 128",
    ]);
  },
);
