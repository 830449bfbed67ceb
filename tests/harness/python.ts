/** A Python for tests of clients written in it. */
import { findProgram, runChild } from "./child_process.ts";
import { PROJECT_ROOT } from "./kme_process.ts";

/** The first Python that has a module: that of `.ci/run`, then those of the system. */
export async function pythonWith(module: string): Promise<string | undefined> {
  const candidates = [`${PROJECT_ROOT}tmp/python/bin/python3`, findProgram("python3"), "/usr/bin/python3"];
  for (const python of candidates) {
    if (
      python === undefined || findProgram("python3", [python.slice(0, python.lastIndexOf("/"))]) !== python
    ) {
      continue;
    }
    const { code } = await runChild(python, { args: ["-c", `import ${module}`] });
    if (code === 0) return python;
  }
  return undefined;
}
