/** Tests that need a program of the system. */

/** Path of the first of these that is installed. */
export function findProgram(...paths: string[]): string | undefined {
  return paths.find((path) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  });
}

/**
 * Registers a test that needs a program. Where it is not installed the test is ignored and its name says why; with
 * `CI=true` it fails instead.
 */
export function testWith(
  program: string | undefined,
  missing: string,
  name: string,
  fn: (program: string, t: Deno.TestContext) => void | Promise<void>,
): void {
  if (program !== undefined) {
    Deno.test(name, (t) => fn(program, t));
    return;
  }
  Deno.test({
    name: `${name} (${missing})`,
    ignore: Deno.env.get("CI") !== "true",
    fn: () => {
      throw new Error(missing);
    },
  });
}

/** Like {@linkcode testWith}, but for a program that not every machine of the tests has: never fails for want of it. */
export function testIfInstalled(
  program: string | undefined,
  missing: string,
  name: string,
  fn: (program: string, t: Deno.TestContext) => void | Promise<void>,
): void {
  if (program !== undefined) Deno.test(name, (t) => fn(program, t));
  else Deno.test({ name: `${name} (${missing})`, ignore: true, fn: () => {} });
}
