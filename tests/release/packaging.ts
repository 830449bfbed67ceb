/** Tests that make packages, which a release does on Linux. */
import { findProgram } from "../harness/child_process.ts";
import { testWith } from "../harness/installed.ts";

const dpkgDeb = Deno.build.os === "linux" ? findProgram("dpkg-deb") : undefined;

/** Registers a test that runs `scripts/package.sh`; on another system it is ignored. */
export function packagingTest(name: string, fn: () => Promise<void>): void {
  testWith(dpkgDeb, "packages are made on Linux, with GNU tools and dpkg-deb", name, fn);
}
