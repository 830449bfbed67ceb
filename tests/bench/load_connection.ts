/** A connection of the load generator: a raw TLS socket with one request at a time, opened again when it was closed. */
import { Buffer } from "node:buffer";
import { isIP } from "node:net";
import tls from "node:tls";
import { type HttpAnswer, parseAnswer } from "./http_answer.ts";

export interface Address {
  readonly host: string;
  readonly port: number;
  readonly context: tls.SecureContext;
}

const NOTHING = Buffer.alloc(0);

export class LoadConnection {
  readonly #address: Address;
  #socket?: tls.TLSSocket;
  #received: Buffer = NOTHING;
  #answered?: (answer: HttpAnswer) => void;
  #failed?: (error: Error) => void;

  constructor(address: Address) {
    this.#address = address;
  }

  async request(bytes: Buffer): Promise<HttpAnswer> {
    if (this.#socket === undefined) await this.#connect();
    return await new Promise((resolve, reject) => {
      this.#answered = resolve;
      this.#failed = reject;
      this.#socket!.write(bytes);
    });
  }

  /** A request under way fails with the error. */
  close(error?: Error): void {
    const failed = this.#failed;
    this.#failed = this.#answered = undefined;
    this.#socket?.destroy();
    this.#socket = undefined;
    this.#received = NOTHING;
    if (error !== undefined) failed?.(error);
  }

  #connect(): Promise<void> {
    return new Promise((resolve, reject) => {
      const { host, port, context } = this.#address;
      const socket = tls.connect({
        host,
        port,
        secureContext: context,
        ...isIP(host) === 0 ? { servername: host } : {},
      });
      this.#socket = socket;
      this.#failed = reject;
      socket.setNoDelay(true);
      socket.once("secureConnect", resolve);
      socket.on("data", (chunk: Buffer) => this.#onData(socket, chunk));
      const onEnd = (error?: Error) => {
        if (this.#socket !== socket) return; // closed by us
        const last = error === undefined ? parseAnswer(this.#received, true) : undefined;
        if (last !== undefined) this.#onAnswer(last);
        else this.close(error ?? new Error("the connection was closed"));
      };
      socket.on("error", onEnd);
      socket.on("close", () => onEnd());
    });
  }

  #onData(socket: tls.TLSSocket, chunk: Buffer): void {
    if (this.#socket !== socket) return;
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk]);
    let answer;
    try {
      answer = parseAnswer(this.#received);
    } catch (error) {
      return this.close(error as Error);
    }
    if (answer !== undefined) this.#onAnswer(answer);
  }

  #onAnswer(answer: HttpAnswer): void {
    const answered = this.#answered;
    this.#failed = this.#answered = undefined;
    this.#received = this.#received.subarray(answer.length);
    if (answer.closes) this.close();
    answered?.(answer);
  }
}
