/** The SKIP interface (Secure Key Integration Protocol, draft-cisco-skip) as Hono routes, on the same keys as the SAE interface. */
import { Hono } from "hono";
import { randomBytes } from "node:crypto";
import type { Delivery } from "../delivery/delivery.ts";
import type { Directory } from "../delivery/directory.ts";
import { buffer, overwrite } from "../domain/bytes.ts";
import { type Key, KeySize } from "../domain/key.ts";
import { mayReach, type Sae } from "../domain/network.ts";
import type { FrontEnv } from "../http/context.ts";
import { answerJson } from "../http/json_answer.ts";
import { tolerantPath } from "../http/path.ts";
import type { SaeRequestObserver } from "../http/request_observer.ts";
import { allow, parameters, type SaeContext, saeRequests, withoutBody } from "../http/sae_requests.ts";
import { parseKeyIdOfPath, parseMinEntropy, parseNewKey, parseRemoteSystem } from "./skip_requests.ts";

export interface SkipAppOptions {
  readonly delivery: Delivery;
  readonly directory: Directory;
  readonly observer?: SaeRequestObserver;
}

export function skipApp({ delivery, directory, observer }: SkipAppOptions): Hono<FrontEnv> {
  const app = new Hono<FrontEnv>({ getPath: tolerantPath });
  const { identify, answerErrorsOf } = saeRequests({ directory, observer, hidesPath: () => true });
  answerErrorsOf(app);

  const route = (path: string, answer: (c: SaeContext, sae: Sae) => unknown | Promise<unknown>) =>
    app.all(path, async (c) => {
      const sae = identify(c);
      allow(c, ["GET"]);
      withoutBody(c);
      return answerJson(c, JSON.stringify(await answer(c, sae)));
    });

  route("/capabilities", (_, sae) => ({
    entropy: true,
    key: true,
    algorithm: "QKD",
    localSystemID: sae.id.text,
    remoteSystemID: directory.remoteSaes().map(({ id }) => id.text).filter((id) => mayReach(sae, id)),
  }));

  route("/key", async (c, sae) => {
    const { remoteSystem, size = KeySize.default } = parseNewKey(parameters(c), directory);
    const begin = performance.now();
    const keys = await delivery.getKeys(
      sae,
      remoteSystem,
      { number: 1, size, additionalSlaves: [] },
      c.env.connection,
    );
    observer?.answered("enc_keys", performance.now() - begin);
    return keyAnswer(keys);
  });

  route("/key/:keyId", async (c, sae) => {
    const id = parseKeyIdOfPath(c.req.param("keyId") ?? "");
    const remoteSystem = parseRemoteSystem(parameters(c), directory);
    const begin = performance.now();
    const keys = await delivery.getKeysWithIds(sae, remoteSystem, [id], c.env.connection);
    observer?.answered("dec_keys", performance.now() - begin);
    return keyAnswer(keys);
  });

  route("/entropy", (c) => {
    const bits = parseMinEntropy(parameters(c));
    return { randomStr: randomBytes(Math.ceil(bits / 8)).toString("hex"), minentropy: bits };
  });

  return app;
}

/** Overwrites the bits of the key: this memory is not needed any more. */
function keyAnswer(keys: readonly Key[]) {
  const [key] = keys;
  const answer = { keyId: key!.id.toHex(), key: buffer(key!.bits).toString("hex") };
  overwrite(keys);
  return answer;
}
