/** The directories in which a KME looks for key files. */
import { isNeighbour, type WatchedDirectory } from "../domain/network.ts";
import type { Config } from "./config.ts";

/** This KME's own directory, then those of its neighbours. */
export function watchedDirectories(
  { thisKme, otherKmes }: Pick<Config, "thisKme" | "otherKmes">,
): WatchedDirectory[] {
  return [thisKme, ...otherKmes.filter(isNeighbour)]
    .flatMap(({ id, keyDirectory }) =>
      keyDirectory === undefined ? [] : [{ link: id.text, directory: keyDirectory }]
    );
}
