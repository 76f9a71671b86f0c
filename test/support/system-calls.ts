import { spawnSync } from "node:child_process";
import { readFile } from "node:fs/promises";

const attempt = spawnSync("strace", [
  ...["-f", "-e", "trace=none"],
  ...[process.execPath, "-e", "0"],
]);

/** Why system calls cannot be seen on this machine; false: they can. */
export const cannotTrace =
  attempt.error !== undefined
    ? "strace is missing: install it to see the flush"
    : attempt.status !== 0
      ? `strace cannot trace here: ${attempt.stderr.toString().split("\n")[0]}`
      : false;

const tracedCalls =
  "openat,fdatasync,fsync,msync,write,writev,pwrite64,pwritev,sendmsg,sendto";

/**
 * Arguments of strace that run a command and note its calls in a file.
 *
 * The command is the process that is started, strace its child: signals go where they are meant to.
 */
export function straceArguments(
  file: string,
  command: readonly string[],
): readonly string[] {
  return [
    // Every byte, in hexadecimal.
    ...["-D", "-f", "-y", "-xx", "-s", "1000000", "-o", file],
    ...["-e", `trace=${tracedCalls}`, ...command],
  ];
}

/** A call of the kernel by one of a process's threads. */
export interface SystemCall {
  readonly name: string;
  /** What it is made on: a file's path, `socket:[…]`; empty: nothing that is open. */
  readonly path: string;
  /** Number of what it is made on; −1: nothing that is open. */
  readonly descriptor: number;
  /** The rest of its arguments, as strace has them. */
  readonly text: string;
  /** What it wrote, as far as it got. */
  bytes: Buffer;
  /** What it gave; NaN: it never ended. */
  result: number;
}

/** A call began, or ended; calls of several threads overlap. */
export interface TraceEvent {
  readonly what: "begins" | "ends";
  readonly call: SystemCall;
}

/** What a trace has, in its order. */
export async function eventsIn(file: string): Promise<readonly TraceEvent[]> {
  const events: TraceEvent[] = [];
  /** By thread: the call that another thread's interrupted on its line. */
  const open = new Map<string, SystemCall>();
  for (const line of (await readFile(file, "latin1")).split("\n")) {
    const [, thread, rest] = /^(\d+) +(.*)$/.exec(line) ?? [];
    if (rest === undefined) continue;
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    const call = resumed === null ? callIn(rest) : open.get(thread);
    if (call === undefined) continue;
    if (resumed === null) events.push({ what: "begins", call });
    if (rest.includes("<unfinished ...>")) {
      open.set(thread, call);
      continue;
    }
    open.delete(thread);
    call.result = Number(/\) += (-?\d+)/.exec(rest)?.[1] ?? NaN);
    if (call.name !== "openat")
      call.bytes = call.bytes.subarray(0, Math.max(0, call.result || 0));
    events.push({ what: "ends", call });
  }
  return events;
}

function callIn(line: string): SystemCall | undefined {
  const [, name, text] = /^(\w+)\((.*)$/.exec(line) ?? [];
  if (text === undefined) return undefined;
  const [, descriptor, path] = /^(\d+)<([^>]*)>/.exec(text) ?? [];
  const hex = [...text.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)]
    .map(([, digits]) => digits.replaceAll("\\x", ""))
    .join("");
  return {
    ...{ name, text, result: NaN },
    path: path === undefined ? "" : unescaped(path),
    descriptor: descriptor === undefined ? -1 : Number(descriptor),
    bytes: Buffer.from(hex, "hex"),
  };
}

/** Paths of descriptors are in hexadecimal too. */
function unescaped(text: string): string {
  return text.replaceAll(/\\x([0-9a-f]{2})/g, (_, digits: string) =>
    String.fromCharCode(parseInt(digits, 16)),
  );
}

/** A transaction that has reached the disk: its pages were flushed, and then its root was. */
export interface Flushed {
  /** Everything that it wrote. */
  readonly bytes: Buffer;
}

/**
 * Follows a trace, and tells LMDB's transactions in it apart.
 *
 * LMDB writes the pages, flushes them, and then writes its root through a descriptor opened with O_DSYNC: the
 * transaction is on disk when that write returns.
 *
 * @throws {Error} a root was written before its pages were flushed
 */
export class StoreTrace {
  readonly #roots = new Set<number>();
  #pages: Buffer[] = [];
  #isFlushed = true;

  /** @returns the transaction that an event ended; undefined: it ended none */
  take({ what, call }: TraceEvent): Flushed | undefined {
    const { name, path, descriptor, result, bytes } = call;
    if (name === "openat") {
      const isRoot = call.text.includes("O_DSYNC");
      if (what === "ends" && isRoot && bytes.toString().endsWith("/data.mdb"))
        this.#roots.add(result);
      return undefined;
    }
    if (!path.endsWith("/store/data.mdb")) return undefined;
    if (["fdatasync", "fsync", "msync"].includes(name)) {
      if (what === "ends" && result === 0) this.#isFlushed = true;
      return undefined;
    }
    if (!this.#roots.has(descriptor)) {
      if (what === "begins") {
        this.#isFlushed = false;
        this.#pages.push(bytes);
      }
      return undefined;
    }
    if (what === "begins" && !this.#isFlushed)
      throw new Error(`a root before its pages: ${call.text.slice(0, 200)}`);
    if (what === "begins" || result !== bytes.length) return undefined;
    const flushed = { bytes: Buffer.concat(this.#pages) };
    this.#pages = [];
    return flushed;
  }
}

/** Finds the messages of gRPC in what a server writes to its connections: DATA frames of HTTP/2 (RFC 9113, 6.1). */
export class MessageTrace {
  readonly #connections = new Map<number, Buffer>();

  /** @returns how many messages begin in what a call writes */
  take({ what, call }: TraceEvent): number {
    // From when it begins on, the other side may have it.
    if (what !== "begins" || !/^(TCP|socket):/.test(call.path)) return 0;
    const { descriptor, bytes } = call;
    let rest = Buffer.concat([
      this.#connections.get(descriptor) ?? Buffer.alloc(0),
      bytes,
    ]);
    let messages = 0;
    while (rest.length >= 9 && rest.length >= 9 + rest.readUIntBE(0, 3)) {
      const length = rest.readUIntBE(0, 3);
      if (rest[3] === 0 && length > 0) messages++;
      rest = rest.subarray(9 + length);
    }
    this.#connections.set(descriptor, rest);
    return messages;
  }
}
