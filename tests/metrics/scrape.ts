/** Reads Prometheus' text format, as far as the tests need it. */

export interface Samples {
  /** Value by labels, as they are written. */
  of(name: string): Record<string, number>;
  /** The one value of a metric without labels. */
  value(name: string): number | undefined;
  /** Names with their kinds. */
  readonly families: ReadonlyMap<string, string>;
}

export function scrape(text: string): Samples {
  const byName = new Map<string, Record<string, number>>();
  const families = new Map<string, string>();
  for (const line of text.split("\n")) {
    const type = /^# TYPE (\S+) (\S+)$/.exec(line);
    if (type !== null) families.set(type[1]!, type[2]!);
    const sample = /^([a-z0-9_]+)(?:\{(.*)\})? (\S+)$/.exec(line);
    if (sample === null) continue;
    const [, name, labels = "", value] = sample;
    const ofName = byName.get(name!) ?? {};
    ofName[labels] = Number(value);
    byName.set(name!, ofName);
  }
  const of = (name: string) => byName.get(name) ?? {};
  return { of, value: (name) => of(name)[""], families };
}
