import type { Metadata, ServerUnaryCall } from "@grpc/grpc-js";
import type { Credentials } from "../auth.js";
import { certificateNames } from "../certificate-names.js";

/** The part of a call that says who makes it. */
export interface AuthenticatedCall {
  readonly metadata: Metadata;
  /** Empty without TLS, and where the client's certificate was not verified. */
  getAuthContext(): ReturnType<
    ServerUnaryCall<unknown, unknown>["getAuthContext"]
  >;
}

/** What a call brings to say who makes it. */
export function credentialsOf(call: AuthenticatedCall): Credentials {
  return {
    authorization: call.metadata.get("authorization").map(String),
    certificateNames: () =>
      certificateNames(
        call.getAuthContext().sslPeerCertificate?.subjectaltname ?? "",
      ),
  };
}
