/** A file of CRLs that is read again when it changes. */
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

export interface CrlFileOptions {
  readonly path: string;
  /** For log lines, like `SAE interface`. */
  readonly name: string;
  /** Told at each look at the file. */
  readonly onStatus?: (status: CrlStatus) => void;
}

export class CrlFile {
  readonly #options: CrlFileOptions;
  readonly #log = log("tls");
  readonly #crls = new CrlSet();
  #authorities: readonly Certificate[] = [];
  /** What the file looked like when it was read last, and at the last look. */
  #readAs = "";
  #seenAs = "";
  #reported: ReadonlySet<string> = new Set();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** Reads the file. One that cannot be read, or holds no CRL that can be used, is a warning in the log. */
  constructor(options: CrlFileOptions) {
    this.#options = options;
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
    const problems = this.#crls.problems(this.#authorities, Date.now());
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
  }
}
