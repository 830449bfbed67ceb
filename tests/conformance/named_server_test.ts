/** The suite itself: it tests the server that the environment names, and leaves out what that does not offer. */
import assert from "node:assert/strict";
import { runChild } from "../harness/child_process.ts";
import { eventually } from "../harness/eventually.ts";
import { PROJECT_ROOT } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";

const inside = Object.keys(Deno.env.toObject()).some((name) => name.startsWith("KME_CONFORMANCE_"));

function runSuite(env: Record<string, string>, ...files: string[]) {
  return runChild(Deno.execPath(), {
    args: [
      "test",
      "-A",
      "--no-check",
      "--config",
      `${PROJECT_ROOT}deno.json`,
      ...files.map((file) => `${PROJECT_ROOT}tests/conformance/${file}`),
    ],
    cwd: PROJECT_ROOT,
    env: { ...env, NO_COLOR: "1" },
  });
}

Deno.test({
  name: "the suite runs against the server that the environment names",
  ignore: inside,
  fn: async () => {
    const options = { max_SAE_ID_count: 0 };
    await using network = await makeTestNetwork({
      kmes: [{ id: "kme-a", saes: ["a"], options }, { id: "kme-b", saes: ["b/1", "c"], options }],
    });
    await network.writeKeyFile("kme-a", "kme-b", 1200);
    await network.startAll();
    await eventually(async () => (await network.client("b/1").status("a")).json.stored_key_count === 1200);
    const env: Record<string, string> = {
      KME_CONFORMANCE_MASTER_URL: `https://127.0.0.1:${network.kme("kme-a").saesPort}`,
      KME_CONFORMANCE_SLAVE_URL: `https://localhost:${network.kme("kme-b").saesPort}/`,
    };
    for (const [role, id] of [["MASTER", "a"], ["SLAVE", "b/1"], ["THIRD", "c"]] as const) {
      const { cert, key, ca } = network.sae(id);
      env[`KME_CONFORMANCE_${role}_SAE_ID`] = id;
      for (const [name, text] of [["CERT", cert], ["KEY", key], ["CA", ca]] as const) {
        const path = env[`KME_CONFORMANCE_${role}_${name}`] = `${network.directory}/${role}-${name}.pem`;
        await Deno.writeTextFile(path, text, { mode: 0o600 });
      }
    }
    const whole = await runSuite(env, "clause_4_test.ts", "clause_5_4_test.ts", "clause_6_2_test.ts");
    assert.equal(whole.code, 0, whole.stdout + whole.stderr);
    assert.match(
      whole.stdout,
      /additional_slave_SAE_IDs: .*\(max_SAE_ID_count of Status is 0\) \.\.\. ignored/,
    );
    assert.match(whole.stdout, /^ok \| \d+ passed \| 0 failed \| 1 ignored/m);

    // A third SAE that is the slave itself is let in where it must not be: that is seen.
    const wrong = await runSuite({
      ...env,
      KME_CONFORMANCE_THIRD_CERT: env.KME_CONFORMANCE_SLAVE_CERT!,
      KME_CONFORMANCE_THIRD_KEY: env.KME_CONFORMANCE_SLAVE_KEY!,
    }, "clause_5_4_test.ts");
    assert.equal(wrong.code, 1);
    assert.match(wrong.stdout, /5\.4: the KME shall reject with 401 an SAE .* FAILED/);

    const { KME_CONFORMANCE_THIRD_KEY: _, ...incomplete } = env;
    const missing = await runSuite(incomplete, "clause_5_2_test.ts");
    assert.equal(missing.code, 1);
    assert.match(missing.stdout + missing.stderr, /KME_CONFORMANCE_THIRD_KEY is not set/);
  },
});
