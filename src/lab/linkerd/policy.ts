import type { Server, ServerUnaryCall, ServerWritableStream, sendUnaryData } from "@grpc/grpc-js";
import { grpcService, inbound, outbound } from "../../proto/index.ts";
import type { Cluster } from "./cluster.ts";
import { follow, grpcError, ifChanged } from "./follow.ts";
import { inboundPolicy, type ServerMessage } from "./inbound-policy.ts";
import { outboundPolicy } from "./outbound-policy.ts";
import type { PolicyMessage } from "./outbound-protocol.ts";
import { parseWorkloadToken } from "./workload-token.ts";

/** The policy controller: who may talk to a workload's ports, and how a workload's own traffic is routed. */
export function addPolicy(server: Server, cluster: Cluster): void {
  server.addService(grpcService(inbound.InboundServerPolicies), {
    getPort: unary((request: inbound.PortSpec) => inboundOf(cluster, request)),
    watchPort(call: ServerWritableStream<inbound.PortSpec, ServerMessage>): void {
      follow(
        call,
        cluster.store,
        ifChanged(inbound.ServerSchema, () => inboundOf(cluster, call.request)),
      );
    },
  });
  server.addService(grpcService(outbound.OutboundPolicies), {
    get: unary((request: outbound.TrafficSpec) => outboundPolicy(cluster, request)),
    watch(call: ServerWritableStream<outbound.TrafficSpec, PolicyMessage>): void {
      follow(
        call,
        cluster.store,
        ifChanged(outbound.OutboundPolicySchema, () => outboundPolicy(cluster, call.request)),
      );
    },
  });
}

function inboundOf(cluster: Cluster, { workload, port }: inbound.PortSpec): ServerMessage {
  return inboundPolicy(cluster, parseWorkloadToken(workload), port);
}

function unary<Request, Response>(answer: (request: Request) => Response) {
  return (call: ServerUnaryCall<Request, Response>, done: sendUnaryData<Response>): void => {
    try {
      done(null, answer(call.request));
    } catch (error) {
      done(grpcError(error));
    }
  };
}
