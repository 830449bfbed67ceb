/** `kme check` looks at the free space of the database's disk. */
import assert from "node:assert/strict";
import { runKme } from "../harness/kme_process.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { fullDiskTest } from "../store/full_disk.ts";

fullDiskTest("little free space is a warning, and none an error", 8, async (disk) => {
  await using network = await makeTestNetwork({
    kmes: [{ id: 1, saes: [1], database: `sqlite://${disk.path}/kme.db` }],
  });
  const { configPath } = network.kme(1);
  const little = await runKme(["check", configPath]);
  assert.match(little.stdout, /warn .*free space of the database's disk.* [78] MiB are left/);
  await disk.fill();
  const none = await runKme(["check", configPath]);
  assert.match(none.stdout, /fail .*free space of the database's disk.* 0 MiB: the disk is full/);
  assert.equal(none.code, 1);
});
