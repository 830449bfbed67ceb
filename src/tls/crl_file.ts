/** A file of CRLs that is read again when it changes. */
import { sameBytes } from "../domain/bytes.ts";
import type { CrlVersion } from "../domain/crl_version.ts";
import { errorMessage } from "../domain/text.ts";
import { log } from "../log.ts";
import type { Certificate } from "../x509/certificate.ts";
import { type CrlProblem, CrlSet } from "../x509/crl.ts";
import type { Revocations } from "../x509/revocations.ts";

/** Milliseconds between two looks at the file. A change applies within two of them, when the file is written completely. */
const POLL_MS = 1_000;

export interface CrlStatus {
  readonly problems: readonly CrlProblem[];
  /** Milliseconds since 1970 at which the first CRL is out of date. */
  readonly nextUpdate?: number;
}

/** A CRL that is in force. */
export interface CrlInForce extends CrlVersion {
  /** Fingerprint of the certificate of the CA that has issued it. */
  readonly ca: string;
  readonly der: Uint8Array;
}

/** How CRLs in force outlast the program. */
export interface CrlKeeping {
  /** CRLs that were in force before the start, in DER: an older one in the file does not count. */
  readonly kept: readonly Uint8Array[];
  /** Stores a CRL that came into force. If it rejects, it is called again. */
  readonly keep: (crl: CrlInForce) => Promise<void>;
}

export interface CrlFileOptions {
  readonly path: string;
  /** For log lines, like `SAE interface`. */
  readonly name: string;
  /** Absent: an older CRL counts after a restart. */
  readonly keeping?: CrlKeeping;
  /** Told at each look at the file. */
  readonly onStatus?: (status: CrlStatus) => void;
}

export class CrlFile {
  readonly #options: CrlFileOptions;
  readonly #log = log("tls");
  readonly #crls: CrlSet;
  #authorities: readonly Certificate[] = [];
  /** What the file looked like when it was read last, and at the last look. */
  #readAs = "";
  #seenAs = "";
  #reported: ReadonlySet<string> = new Set();
  /** By the fingerprint of the CA. */
  readonly #kept = new Map<string, Uint8Array>();
  #keeping = false;
  #notKept: CrlProblem | undefined;
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Reads the file. One that cannot be read, or holds no CRL that can be used, is a warning in the log. */
  constructor(options: CrlFileOptions) {
    this.#options = options;
    this.#crls = new CrlSet(options.keeping?.kept);
    this.#readAs = this.#look();
    this.#seenAs = this.#readAs;
    this.#read();
  }

  /** What these CAs have revoked, by the last usable CRLs. */
  revocations(authorities: readonly Certificate[]): Revocations {
    this.#authorities = authorities;
    const revocations = this.#crls.revocations(authorities);
    this.#report();
    return revocations;
  }

  /** Calls back whenever the content has changed, until {@linkcode close}. */
  watch(onChange: () => void): void {
    this.#timer = setInterval(() => {
      const look = this.#look();
      // A file that is being written is read when it is at rest.
      const changed = look !== this.#readAs && look === this.#seenAs;
      this.#seenAs = look;
      if (changed) {
        this.#readAs = look;
        this.#read();
        onChange();
      }
      this.#report();
    }, POLL_MS);
  }

  close(): void {
    clearInterval(this.#timer);
  }

  #look(): string {
    try {
      const { ino, size, mtime } = Deno.statSync(this.#options.path);
      return `${ino} ${size} ${mtime?.getTime()}`;
    } catch (error) {
      return errorMessage(error);
    }
  }

  #read(): void {
    try {
      this.#crls.read(Deno.readFileSync(this.#options.path));
    } catch (error) {
      this.#crls.unreadable(`the file cannot be read: ${errorMessage(error)}`);
    }
  }

  /** Each problem is a warning once, and its end a line too. */
  #report(): void {
    const { name, path, onStatus } = this.#options;
    const problems = [
      ...this.#crls.problems(this.#authorities, Date.now()),
      ...this.#notKept === undefined ? [] : [this.#notKept],
    ];
    const messages = new Set(problems.map(({ message }) => message));
    for (const message of messages) {
      if (this.#reported.has(message)) continue;
      this.#log.warn("{name}: CRL file {path}: {message}; the last usable CRL stays in force", {
        name,
        path,
        message,
      });
    }
    if (messages.size === 0 && this.#reported.size > 0) {
      this.#log.info("{name}: CRL file {path} is in order again", { name, path });
    }
    this.#reported = messages;
    onStatus?.({ problems, nextUpdate: this.#crls.nextUpdate(this.#authorities) });
    if (!this.#keeping) void this.#keep();
  }

  async #keep(): Promise<void> {
    const { keeping } = this.#options;
    if (keeping === undefined) return;
    this.#keeping = true;
    try {
      for (const [ca, crl] of this.#crls.inForce) {
        const stored = [...keeping.kept, this.#kept.get(ca)];
        if (stored.some((der) => der !== undefined && sameBytes(der, crl.der))) continue;
        // One of the future, made by mistake, would keep all others out: it counts until the program ends.
        if (crl.thisUpdate > Date.now()) continue;
        const { thisUpdate, number, der } = crl;
        await keeping.keep({ ca, thisUpdate, number, der });
        this.#kept.set(ca, der);
      }
      this.#notKept = undefined;
    } catch (error) {
      const message = `the CRL in force cannot be stored, so an older one would count after a restart: ${
        errorMessage(error)
      }`;
      this.#notKept = { kind: "not_kept", message };
    } finally {
      this.#keeping = false;
    }
  }
}
