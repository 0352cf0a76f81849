/**
 * The messages we exchange with Linkerd's control plane, its proxies, SPIFFE workloads and our own enroller. The
 * `.proto` files beside this one are the source; `gen/` is made from them by `npm run proto` and committed.
 *
 * Names repeat between packages (three different `HttpRoute`s), so each package is re-exported as a namespace:
 * `outbound.HttpRoute`, `inbound.HttpRoute`. May import: the protobuf runtime only. Start reading in
 * `io/linkerd/proxy/destination.proto`; `grpc.ts` turns a generated service into what a gRPC library wants.
 */
export * as destination from "./gen/io/linkerd/proxy/destination_pb.ts";
export * as grpcRoute from "./gen/io/linkerd/proxy/grpc_route_pb.ts";
export * as httpRoute from "./gen/io/linkerd/proxy/http_route_pb.ts";
export * as httpTypes from "./gen/io/linkerd/proxy/http_types_pb.ts";
export * as identity from "./gen/io/linkerd/proxy/identity_pb.ts";
export * as inbound from "./gen/io/linkerd/proxy/inbound_pb.ts";
export * as meta from "./gen/io/linkerd/proxy/meta_pb.ts";
export * as net from "./gen/io/linkerd/proxy/net_pb.ts";
export * as opaqueRoute from "./gen/io/linkerd/proxy/opaque_route_pb.ts";
export * as outbound from "./gen/io/linkerd/proxy/outbound_pb.ts";
export * as tap from "./gen/io/linkerd/proxy/tap_pb.ts";
export * as tlsRoute from "./gen/io/linkerd/proxy/tls_route_pb.ts";
export * as enroll from "./gen/meshagent/enroll/v1/enroll_pb.ts";
export * as spiffe from "./gen/spiffe/workload_pb.ts";
export * as transportHeader from "./gen/transport/l5d/io/header_pb.ts";
export { type GrpcMethod, type GrpcService, grpcService } from "./grpc.ts";
