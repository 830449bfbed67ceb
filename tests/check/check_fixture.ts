/** A right configuration of KME 1, neighbour of KME 2, to be spoilt in one place at a time. */
import "reflect-metadata";
import { check, type CheckOptions } from "../../src/check/run_checks.ts";
import type { CheckLine } from "../../src/check/check_line.ts";
import { loadConfig } from "../../src/config/load.ts";
import type { Config } from "../../src/config/config.ts";
import { makeTestNetwork, type TestNetwork } from "../harness/test_network.ts";
import assert from "node:assert/strict";
import * as x509 from "@peculiar/x509";
import { authority, type CertificateOptions, issue, type TestCertificate } from "../tls/authority.ts";
import { IN_PARALLEL } from "../harness/parts.ts";

const DAY_MS = 86_400_000;

/** The CA of the servers that these tests make themselves. */
export const ca = await authority("CA", { notAfter: inDays(400) });

export function inDays(days: number): Date {
  return new Date(Date.now() + days * DAY_MS);
}

/** A server's certificate, for loopback and a year, or as the options say. */
export function serverCertificate(
  issuer: TestCertificate | undefined = ca,
  options: CertificateOptions & { hosts?: string[] } = {},
): Promise<TestCertificate> {
  const { hosts = ["127.0.0.1"], ...rest } = options;
  const names = hosts.map((value) => ({ type: /^[\d.]+$/.test(value) ? "ip" : "dns", value } as const));
  return issue(issuer, {
    name: "server",
    notAfter: inDays(365),
    usages: [x509.ExtendedKeyUsage.serverAuth],
    extensions: hosts.length === 0 ? [] : [new x509.SubjectAlternativeNameExtension(names)],
    ...rest,
  });
}

/** Two KMEs; SAEs 1 and 2 are of KME 1, SAE 3 of KME 2. Its certificates end in two days, unless they are replaced. */
export function twoKmes(database = ":memory:"): Promise<TestNetwork> {
  return makeTestNetwork({
    kmes: [{ id: 1, saes: [1, 2], database, console: true }, { id: 2, saes: [3] }],
  });
}

/** Writes a server's certificate and key in place of those of one interface of KME 1. */
export async function putServer(
  network: TestNetwork,
  name: "saes" | "kmes",
  { cert, key }: Pick<TestCertificate, "cert" | "key">,
): Promise<void> {
  const { directory } = network.kme(1);
  await Deno.writeTextFile(`${directory}/${name}-server-cert.pem`, `${cert}\n`);
  await Deno.writeTextFile(`${directory}/${name}-server-key.pem`, `${key}\n`);
}

export async function putClientCa(network: TestNetwork, name: "saes" | "kmes", pem: string): Promise<void> {
  await Deno.writeTextFile(`${network.kme(1).directory}/${name}-ca.pem`, `${pem}\n`);
}

/** What is found about KME 1. */
export function checked(network: TestNetwork, options: CheckOptions = {}): Promise<CheckLine[]> {
  return check(network.kme(1).configPath, options);
}

export async function configOf(network: TestNetwork): Promise<Config> {
  const loaded = await loadConfig(network.kme(1).configPath);
  assert.ok("config" in loaded, "the configuration has mistakes");
  return loaded.config;
}

/** The one line that is about this, at this level, and says this; a line that is no `ok` says what to do. */
export function found(
  lines: readonly CheckLine[],
  level: CheckLine["level"],
  what: string,
  detail: RegExp,
): CheckLine {
  const matching = lines.filter((line) =>
    line.level === level && line.what === what && detail.test(line.detail)
  );
  assert.equal(matching.length, 1, `${level} ${what} ${detail} among\n${JSON.stringify(lines, null, 1)}`);
  const [line] = matching as [CheckLine];
  assert.equal(line.fix === undefined, level === "ok");
  return line;
}

/**
 * Runs as a user without rights: root may do everything. The user is that of the whole process, so a file that calls this
 * must not be run beside others.
 */
export async function withoutRights<T>(run: () => Promise<T>): Promise<T> {
  if (Deno.env.has(IN_PARALLEL)) throw new Error("name this file in ALONE of tests/harness/parts.ts");
  const { default: process } = await import("node:process");
  if (process.getuid?.() !== 0) return await run();
  process.seteuid!(65534);
  try {
    return await run();
  } finally {
    process.seteuid!(0);
  }
}
