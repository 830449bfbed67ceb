/** The packages and the SBOM, made here; the Debian package is installed into a directory of its own. */
import assert from "node:assert/strict";
import { join, relative } from "node:path";
import { npmPackages, stagePackages } from "../../scripts/npm_files.ts";
import { makeSbom } from "../../scripts/sbom.ts";
import { hostTarget } from "../../scripts/targets.ts";
import { VERSION } from "../../src/version.ts";
import { findProgram, runChild } from "../harness/child_process.ts";
import { testWith } from "../harness/installed.ts";
import { PROJECT_ROOT, startKme } from "../harness/kme_process.ts";
import { makeTempDir } from "../harness/temp_dir.ts";
import { makeTestNetwork } from "../harness/test_network.ts";
import { packagingTest } from "./packaging.ts";

async function run(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runChild(program, { args, cwd: PROJECT_ROOT });
  assert.equal(code, 0, `${program} ${args.join(" ")}\n${stdout}${stderr}`);
  return stdout;
}

/** Packages of the file that `KME_TEST_BINARY` names, or of a script in its place that runs the sources. */
async function makePackages(directory: string, target = "linux-x64"): Promise<void> {
  const script = join(directory, "kme");
  const command =
    `exec '${Deno.execPath()}' run -A --config '${PROJECT_ROOT}deno.json' '${PROJECT_ROOT}src/main.ts'`;
  await Deno.writeTextFile(script, `#!/bin/sh\n${command} "$@"\n`, { mode: 0o755 });
  const binary = Deno.env.get("KME_TEST_BINARY") ?? script;
  await run(`${PROJECT_ROOT}scripts/package.sh`, target, binary, directory);
}

/** The names by which links reach the headings of a document, as hosting platforms make them. */
function anchorsOf(markdown: string): string[] {
  return [...markdown.matchAll(/^#+ (.*)$/gm)].map(([, heading]) =>
    heading!.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-")
  );
}

/** Asserts that each relative link and picture of the documents in `directory` is there, with its heading. */
async function assertLinksResolve(directory: string): Promise<void> {
  const missing: string[] = [];
  let links = 0;
  for (const place of ["", "docs", "certs", "examples"]) {
    for await (const { name } of Deno.readDir(join(directory, place))) {
      if (!name.endsWith(".md")) continue;
      const text = await Deno.readTextFile(join(directory, place, name));
      for (const [, link] of text.matchAll(/\]\((?!\w+:)([^)\s]+)\)/g)) {
        links++;
        const [path, anchor] = link!.split("#") as [string, string?];
        const target = path === "" ? join(directory, place, name) : join(directory, place, path);
        const found = await Deno.stat(target).then(() => true, () => false);
        if (!found || anchor && !anchorsOf(await Deno.readTextFile(target)).includes(anchor)) {
          missing.push(`${join(place, name)}: ${link}`);
        }
      }
    }
  }
  assert.deepEqual(missing, []);
  assert.ok(links > 50, `only ${links} links were found`);
}

packagingTest("the archive has the program and all that belongs to it", async () => {
  await using dir = await makeTempDir();
  await makePackages(dir.path);
  const name = `kme-${VERSION}-linux-x64`;
  const archive = join(dir.path, `${name}.tar.gz`);
  const files = (await run("tar", "-tzf", archive)).split("\n");
  for (
    const file of [
      "LICENSE",
      "kme",
      "kme.1",
      "kme.service",
      "README.md",
      "CHANGELOG.md",
      "SECURITY.md",
      "docs/operations.md",
      "docs/alerts.yml",
      "docs/kme.service",
      "docs/console-light.png",
      "docs/openapi.yaml",
      "config_kme1.json5",
      "completions/kme.bash",
      "completions/_kme",
      "completions/kme.fish",
    ]
  ) assert.ok(files.includes(`${name}/${file}`), file);
  assert.deepEqual(files.filter((file) => /\.(?:key|pem|pfx)$/.test(file)), [], "no private key is in it");
  await run("tar", "-xzf", archive, "-C", dir.path);
  assert.equal(await run(join(dir.path, name, "kme"), "--version"), `kme ${VERSION}\n`);
  const names = files.map((file) => file.toLowerCase());
  assert.deepEqual(
    names.filter((file, at) => names.indexOf(file) !== at),
    [],
    "names that differ by case only",
  );
  await assertLinksResolve(join(dir.path, name));

  // As the samples say, so that the paths in them exist.
  const { code, stderr } = await runChild(join(dir.path, name, "kme"), {
    args: ["certs", "certs/network.json5", "--out", "certs", "--configs"],
    cwd: join(dir.path, name),
  });
  assert.equal(code, 0, stderr);
  for (const sample of ["config_kme1.json5", "config_kme2.json5"]) {
    const text = await Deno.readTextFile(join(dir.path, name, sample));
    const paths = [...text.matchAll(/"(certs\/[^"]+)"/g)].map(([, path]) => path!);
    assert.ok(paths.length >= 7, sample);
    for (const path of paths) await Deno.stat(join(dir.path, name, path));
    await Deno.stat(join(dir.path, name, "certs", sample));
  }

  // The same sources give the same archive.
  const first = await Deno.readFile(archive);
  await makePackages(dir.path);
  assert.deepEqual(await Deno.readFile(archive), first);
});

packagingTest("the archives of other platforms have the program under its name there", async () => {
  await using dir = await makeTempDir();
  await makePackages(dir.path, "windows-x64");
  const name = `kme-${VERSION}-windows-x64`;
  const files = (await run("tar", "-tzf", join(dir.path, `${name}.tar.gz`))).split("\n");
  assert.ok(files.includes(`${name}/kme.exe`));
  assert.ok(!files.includes(`${name}/kme.service`));
  const made = (await Array.fromAsync(Deno.readDir(dir.path))).map((entry) => entry.name);
  assert.deepEqual(made.filter((name) => name.endsWith(".deb")), []);
});

const dpkg = Deno.build.os === "linux" && Deno.uid() === 0 ? findProgram("dpkg") : undefined;

testWith(
  dpkg,
  "dpkg is missing, or this is not root",
  "the Debian package is installed, runs and is purged",
  async (dpkg) => {
    await using dir = await makeTempDir();
    await makePackages(dir.path);
    const root = join(dir.path, "root");
    await Deno.mkdir(`${root}/etc`, { recursive: true });
    await Deno.mkdir(`${root}/var/lib/dpkg/info`, { recursive: true });
    await Deno.mkdir(`${root}/var/lib/dpkg/updates`);
    await Deno.writeTextFile(`${root}/var/lib/dpkg/status`, "");
    await Deno.writeTextFile(`${root}/etc/passwd`, "root:x:0:0:root:/root:/bin/sh\n");
    await Deno.writeTextFile(`${root}/etc/group`, "root:x:0:\n");
    for (const name of ["shadow", "gshadow"]) await Deno.writeTextFile(`${root}/etc/${name}`, "");
    const architecture = (await run(dpkg, "--print-architecture")).trim();
    const target = architecture === "arm64" ? "linux-arm64" : "linux-x64";
    if (target !== "linux-x64") await makePackages(dir.path, target);
    const file = join(dir.path, `kme_${VERSION}_${architecture}.deb`);
    const inRoot = (...args: string[]) =>
      run(dpkg, `--root=${root}`, "--force-script-chrootless,depends,confdef", "--log=/dev/null", ...args);

    await inRoot("--install", file);
    const user = /^kme:x:(\d+):(\d+):.*:\/var\/lib\/kme:\/usr\/sbin\/nologin$/m
      .exec(await Deno.readTextFile(`${root}/etc/passwd`));
    assert.ok(user !== null, "there is no user kme");
    const facts = async (path: string) => {
      const { mode, uid, gid } = await Deno.stat(root + path);
      return [(mode! & 0o7777).toString(8), uid, gid];
    };
    assert.deepEqual(await facts("/var/lib/kme"), ["750", Number(user[1]), Number(user[2])]);
    assert.deepEqual(await facts("/etc/kme"), ["750", 0, Number(user[2])]);
    assert.deepEqual(await facts("/usr/bin/kme"), ["755", 0, 0]);
    const unit = await Deno.readTextFile(`${root}/usr/lib/systemd/system/kme.service`);
    assert.match(unit, /^ExecStart=\/usr\/bin\/kme \/etc\/kme\/kme\.json5$/m);
    assert.match(unit, /^EnvironmentFile=-\/etc\/default\/kme$/m);

    // As the unit starts it, but for the user and systemd.
    await using network = await makeTestNetwork({ kmes: [{ id: 1, saes: [1] }] });
    const kme = await startKme(network.kme(1).configPath, { program: { executable: `${root}/usr/bin/kme` } });
    assert.equal(await kme.stop(), 0);

    // What the administrator changed or added stays over an upgrade and a purge.
    await Deno.writeTextFile(`${root}/etc/default/kme`, "LOG_LEVEL=debug\n");
    await Deno.writeTextFile(`${root}/etc/kme/kme.json5`, "{}");
    await inRoot("--install", file);
    assert.equal(await Deno.readTextFile(`${root}/etc/default/kme`), "LOG_LEVEL=debug\n");
    await Deno.writeTextFile(`${root}/var/lib/kme/kme.db`, "for tests only");
    await inRoot("--remove", "kme");
    await Deno.stat(`${root}/var/lib/kme/kme.db`);
    await Deno.stat(`${root}/etc/default/kme`);
    await inRoot("--purge", "kme");
    await Deno.stat(`${root}/etc/kme/kme.json5`);
    for (const path of ["/var/lib/kme", "/etc/default/kme", "/usr/bin/kme", "/usr/share/doc/kme"]) {
      await assert.rejects(Deno.stat(root + path), Deno.errors.NotFound, path);
    }
  },
);

Deno.test({
  name: "a package that cannot be had, or has no readable package.json, ends the build and the SBOM",
  ignore: Deno.build.os === "windows",
  fn: async () => {
    await using dir = await makeTempDir();
    await stagePackages(hostTarget(), dir.path);
    const zod = (await npmPackages()).find(({ name }) => name === "zod")!;
    const { npmCache } = JSON.parse(await run(Deno.execPath(), "info", "--json"));
    const staged = join(dir.path, "npm", relative(npmCache, zod.localPath));
    const script = (name: string, ...args: string[]) =>
      runChild(Deno.execPath(), {
        args: ["run", "-A", "--cached-only", `${PROJECT_ROOT}scripts/${name}.ts`, ...args],
        cwd: PROJECT_ROOT,
        // Nothing can be downloaded.
        env: {
          DENO_DIR: dir.path,
          HTTPS_PROXY: "http://127.0.0.1:1",
          DENORT_BIN: Deno.execPath(),
          NO_COLOR: "1",
        },
      });
    await Deno.remove(join(staged, "package.json"));
    const sbom = await script("sbom");
    assert.deepEqual([sbom.code, sbom.stdout], [1, ""]);
    assert.match(sbom.stderr, /zod\/\S+\/package\.json: No such file/);

    await Deno.remove(staged, { recursive: true });
    const compiled = await script("compile", hostTarget().name, "--out", join(dir.path, "dist"));
    assert.equal(compiled.code, 1, compiled.stderr);
    assert.match(compiled.stderr, /not in Deno's cache: zod@\S+; run "deno install --frozen"/);
  },
});

Deno.test("the SBOM names every package of deno.lock, and tells those of the program from those of development", async () => {
  const { npm } = JSON.parse(await Deno.readTextFile(`${PROJECT_ROOT}deno.lock`));
  const sbom = await makeSbom() as {
    bomFormat: string;
    specVersion: string;
    components: {
      "bom-ref": string;
      name: string;
      purl: string;
      scope: string;
      hashes: { content: string }[];
    }[];
    dependencies: { ref: string; dependsOn: string[] }[];
  };
  assert.deepEqual([sbom.bomFormat, sbom.specVersion], ["CycloneDX", "1.6"]);
  assert.equal(sbom.components.length, Object.keys(npm).length);
  const scopes = new Map(sbom.components.map(({ name, scope }) => [name, scope]));
  for (const name of ["better-sqlite3", "hono", "kysely", "pg", "mysql2", "zod", "asn1js"]) {
    assert.equal(scopes.get(name), "required", name);
  }
  for (const name of ["playwright-core", "fast-check", "ajv"]) {
    assert.equal(scopes.get(name), "excluded", name);
  }
  for (const { hashes, purl } of sbom.components) {
    assert.match(hashes[0]!.content, /^[0-9a-f]{128}$/);
    assert.match(purl, /^pkg:npm\/(?:%40[^/]+\/)?[^/@]+@\d/);
  }
  const refs = new Set(sbom.components.map((component) => component["bom-ref"]));
  assert.equal(refs.size, sbom.components.length);
  for (const { dependsOn } of sbom.dependencies) for (const ref of dependsOn) assert.ok(refs.has(ref), ref);
  assert.deepEqual(await makeSbom(), sbom);
});
