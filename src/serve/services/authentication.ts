import {
  ServerInterceptingCall,
  type Metadata,
  type ServerInterceptor,
} from "@grpc/grpc-js";
import { wireStatus } from "../status.js";
import { greeting, statusObject } from "./call.js";
import type { ServiceContext } from "./context.js";
import { callerOf } from "./credentials.js";

const HEALTH = "/grpc.health.v1.Health/";
const OURS = "/reid.v1.";

/**
 * Refuses calls by nobody who is known before a message of them is read: strangers cost no decoding.
 *
 * What a known caller may do is looked at where calls are opened; reflection is for every one of them, within its rate.
 * Health needs nobody.
 */
export function authentication(
  context: Pick<ServiceContext, "access" | "instanceId" | "log" | "telemetry">,
): ServerInterceptor {
  const { access, log, telemetry } = context;
  return ({ path }, call) => {
    if (path.startsWith(HEALTH)) return new ServerInterceptingCall(call);
    const admit = (metadata: Metadata) => {
      const principal = callerOf(access, {
        metadata,
        getAuthContext: () => call.getAuthContext(),
      });
      if (!path.startsWith(OURS)) access.spend(principal);
    };
    return new ServerInterceptingCall(call, {
      start: (next) =>
        next({
          onReceiveMetadata: (metadata, receive) => {
            try {
              admit(metadata);
            } catch (error) {
              const failure = wireStatus(error, log);
              const { reason } = failure;
              telemetry.add("reid.denied", 1, { reason });
              call.sendMetadata(greeting(context));
              call.sendStatus(statusObject(failure));
              return;
            }
            receive(metadata);
          },
        }),
    });
  };
}
