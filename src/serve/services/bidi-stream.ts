import type {
  handleBidiStreamingCall,
  ServerDuplexStream,
} from "@grpc/grpc-js";
import { ShuttingDownError } from "../errors.js";
import type { RpcName, RpcRequest } from "../rpcs.js";
import { openCall, type OpenCall } from "./call.js";
import { watchConnection } from "./connection-age.js";
import type { ServiceContext } from "./context.js";

/** What a service does with a stream. */
export interface StreamWork<Request> {
  /** Takes one message; what it throws fails the stream. */
  receive(message: Request): void;
  /** Answers all that was taken: at half-close, and when the server ends. */
  settle(): Promise<void>;
  /** Lets go of what it holds: the stream has ended, or has failed. */
  end(): void;
}

/** A bidirectional call that its caller may make. */
export interface OpenStream<Name extends RpcName, Response> {
  readonly context: ServiceContext;
  readonly name: Name;
  readonly stream: ServerDuplexStream<RpcRequest<Name>, Response>;
  readonly call: OpenCall<Name>;
}

/**
 * Wraps the beginning of a bidirectional call.
 *
 * @param begin  not called where the call is denied
 */
export function bidiStream<Name extends RpcName, Response>(
  context: ServiceContext,
  name: Name,
  begin: (opened: OpenStream<Name, Response>) => void,
): handleBidiStreamingCall<RpcRequest<Name>, Response> {
  return (stream) => {
    const call = openCall(context, name, stream, {
      refuse: (status) => stream.emit("error", status),
    });
    if (call !== undefined) begin({ context, name, stream, call });
  };
}

/**
 * One bidirectional call: its messages, its ends, and how fast it is read.
 *
 * Half-close is answered with OK once the work has settled. When the server ends, or the connection for its age,
 * nothing more is taken, what was taken is answered, and the client is sent elsewhere with SHUTTING_DOWN.
 */
export class BidiStream<Name extends RpcName, Response> {
  readonly call: OpenCall<Name>;
  readonly #context: ServiceContext;
  readonly #name: Name;
  readonly #stream: ServerDuplexStream<RpcRequest<Name>, Response>;
  readonly #work: StreamWork<RpcRequest<Name>>;
  /** Who wants nothing read for now. */
  #holders = 0;
  #isUnread = false;
  #isEnded = false;
  #isDraining = false;

  constructor(
    { context, name, stream, call }: OpenStream<Name, Response>,
    work: StreamWork<RpcRequest<Name>>,
  ) {
    this.#context = context;
    this.#name = name;
    this.#stream = stream;
    this.#work = work;
    this.call = call;
    this.#countStream(1);
    this.#listen();
  }

  get isEnded(): boolean {
    return this.#isEnded;
  }

  /** Sends an answer. A client that does not read is not read from either: what it is owed stays bounded. */
  send(message: Response): void {
    if (this.#isEnded) return;
    if (this.#stream.write(message) || this.#isUnread) return;
    this.#isUnread = true;
    this.hold();
    this.#stream.once("drain", () => {
      this.#isUnread = false;
      this.release();
    });
  }

  /** Reads no further: the client's own buffers fill. */
  hold(): void {
    this.#holders += 1;
    if (this.#holders === 1) this.#stream.pause();
  }

  /** Takes one `hold` back. */
  release(): void {
    this.#holders -= 1;
    if (this.#holders === 0) this.#stream.resume();
  }

  /** Ends the call with a failure; idempotent. */
  fail(error: unknown): void {
    if (this.#isEnded) return;
    this.#close();
    this.#stream.emit("error", this.call.finish(error));
  }

  #listen(): void {
    const { draining } = this.#context;
    const { signal } = this.call;
    signal.addEventListener("abort", () => this.fail(signal.reason));
    const drain = (what: "server" | "connection") => {
      this.#drain(what).catch((error: unknown) => this.fail(error));
    };
    const onDrain = () => drain("server");
    if (draining.aborted) onDrain();
    draining.addEventListener("abort", onDrain);
    const { maxConnectionAgeGraceMs: graceMs } = this.#context.config.grpc;
    const unwatch = watchConnection(this.#stream, graceMs, () =>
      drain("connection"),
    );
    this.#stream.once("close", () => {
      draining.removeEventListener("abort", onDrain);
      unwatch();
    });
    this.#stream.on("error", () => this.fail(signal.reason));
    this.#stream.on("data", (message: RpcRequest<Name>) => {
      if (this.#isEnded || this.#isDraining) return;
      try {
        this.#work.receive(message);
      } catch (error) {
        this.fail(error);
      }
    });
    this.#stream.on("end", () => {
      this.#finish().catch((error: unknown) => this.fail(error));
    });
  }

  async #finish(): Promise<void> {
    await this.#work.settle();
    if (this.#isEnded) return;
    this.#close();
    this.call.finish(undefined);
    this.#stream.end();
  }

  async #drain(what: "server" | "connection"): Promise<void> {
    this.#isDraining = true;
    await this.#work.settle();
    this.fail(new ShuttingDownError(what));
  }

  #close(): void {
    this.#isEnded = true;
    this.#work.end();
    this.#countStream(-1);
  }

  #countStream(change: number): void {
    this.#context.telemetry.add("reid.stream.active", change, {
      "rpc.method": `reid.v1.${this.#name}`,
    });
  }
}
