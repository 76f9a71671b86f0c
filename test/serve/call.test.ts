import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Metadata, type ServerUnaryCall } from "@grpc/grpc-js";
import { systemClock } from "#core/clock";
import { parseConfig } from "#core/config";
import { silentLog } from "#core/log";
import { silentTelemetry } from "#core/telemetry";
import { Access } from "#serve/auth";
import { CallCounter } from "#serve/drain";
import {
  MAX_DEADLINE_MS,
  rpcNames,
  rpcs,
  type RpcName,
  type RpcRequest,
} from "#serve/rpcs";
import { unary, type Call } from "#serve/services/call";
import type { ServiceContext } from "#serve/services/context";

const { auth, tls } = parseConfig({});
const access = await Access.open({
  ...{ auth, tls, clock: systemClock, log: silentLog },
});

/** What every call needs of its server. */
function contextOf() {
  const calls = new CallCounter();
  const { signal } = new AbortController();
  const context = {
    config: parseConfig({}),
    access,
    clock: systemClock,
    log: silentLog,
    telemetry: silentTelemetry,
    instanceId: "i",
    calls,
    draining: signal,
    shutdown: signal,
  };
  // The rest is for the services themselves.
  return { calls, context: context as unknown as ServiceContext };
}

/** The other side of the network: a call with a deadline, or with none. */
const callFrom = (leftMs: number) =>
  ({
    // A gallery of no name is nobody's.
    request: { gallery: "", galleries: [] },
    metadata: new Metadata(),
    getAuthContext: () => ({}),
    getDeadline: () => Date.now() + leftMs,
    on: () => undefined,
    sendMetadata: () => undefined,
  }) as unknown as ServerUnaryCall<RpcRequest<RpcName>, object>;

/** Runs a handler under an RPC's name; gives the status that it ends with. */
function ended(
  context: ServiceContext,
  name: RpcName,
  leftMs: number,
  handler: (request: object, call: Call) => Promise<object>,
): Promise<{ code: number; details: string; metadata: Metadata }> {
  return new Promise((resolve) =>
    unary(
      context,
      name,
      handler,
    )(callFrom(leftMs), (status) =>
      resolve(status as { code: number; details: string; metadata: Metadata }),
    ),
  );
}

describe("the deadline of a call", () => {
  test("is the RPC's own where the caller has none, and 10 minutes at most", async () => {
    const { context } = contextOf();
    for (const name of rpcNames) {
      const { deadlineMs } = rpcs[name];
      if (deadlineMs === undefined) continue;
      for (const [asked, wanted] of [
        [Infinity, deadlineMs],
        [3_600_000, MAX_DEADLINE_MS],
      ]) {
        let left = 0;
        await ended(context, name, asked, (_, call) => {
          left = call.remainingMs();
          return Promise.reject(new RangeError("enough"));
        });
        assert.ok(left <= wanted && left > wanted - 1000, `${name}: ${left}`);
      }
    }
  });

  for (const [name, stage] of [
    ["SearchService/Search", "search"],
    ["GalleryService/Enroll", "commit"],
  ] as const)
    test(`ends ${name} in stage ${stage} though the handler does not stop, and the server waits for it`, async () => {
      const { calls, context } = contextOf();
      let stop: () => void = () => undefined;
      const handler = () =>
        new Promise<object>((resolve) => (stop = () => resolve({})));
      const { code, details, metadata } = await ended(
        context,
        name,
        50,
        handler,
      );
      assert.equal(code, 4);
      assert.match(details, new RegExp(`in stage ${stage}: allow more time`));
      const [bytes] = metadata.get("grpc-status-details-bin");
      assert.ok(bytes.includes("DEADLINE"));
      assert.equal(calls.count, 1);
      stop();
      await calls.idle();
    });
});
