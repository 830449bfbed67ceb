/** Makes a program that `deno run` starts take itself for a compiled one; loaded before it with `--preload`. */
Object.defineProperty(Deno, "build", { value: { ...Deno.build, standalone: true } });
