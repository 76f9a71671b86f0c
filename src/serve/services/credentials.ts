import type { Metadata, ServerUnaryCall } from "@grpc/grpc-js";
import type { Access, Credentials, Principal } from "../auth.js";
import { certificateNames } from "../certificate-names.js";

/** The part of a call that says who makes it. */
export interface AuthenticatedCall {
  readonly metadata: Metadata;
  /** Empty without TLS, and where the client's certificate was not verified. */
  getAuthContext(): ReturnType<
    ServerUnaryCall<unknown, unknown>["getAuthContext"]
  >;
}

/** Who made each call when it was last looked at; by its metadata, which all that handle a call share. */
const found = new WeakMap<Metadata, Principal>();

/**
 * Who makes a call: looked up when it begins, and again only where principals have changed or one has expired since.
 *
 * @throws {UnauthenticatedError} nobody that is known and in force
 */
export function callerOf(
  access: Pick<Access, "authenticate" | "isInForce">,
  call: AuthenticatedCall,
): Principal {
  const before = found.get(call.metadata);
  if (before !== undefined && access.isInForce(before)) return before;
  const principal = access.authenticate(credentialsOf(call));
  found.set(call.metadata, principal);
  return principal;
}

function credentialsOf(call: AuthenticatedCall): Credentials {
  return {
    authorization: call.metadata.get("authorization").map(String),
    certificateNames: () =>
      certificateNames(
        call.getAuthContext().sslPeerCertificate?.subjectaltname ?? "",
      ),
  };
}
