/**
 * How one request is answered: the {@link Exchange} that carries it, the {@link Service} that takes it, and the layers
 * that wrap one service in another. May import rings 0 and 1. Layers that belong to one direction alone live with it,
 * in `inbound/` and `outbound/`.
 *
 * Start at `exchange.ts`, then `service.ts`, then read `inbound/http.ts` or `outbound/http.ts` top to bottom.
 */
export { compose, type Stack } from "./compose.ts";
export type { Dispatcher } from "./dispatcher.ts";
export * from "./exchange.ts";
export { stopped } from "./filtered.ts";
export { forward } from "./forward.ts";
export * from "./meters.ts";
export { markOrigProto, origProto, stripPeerErrors } from "./orig-proto.ts";
export { type AttemptRecorder, type Recorder, type RetryMeter, record } from "./record.ts";
export { grpcStatusOf, isGrpc, type RescueOptions, rescue } from "./rescue.ts";
export type { Layer, ResponseLayer, Service } from "./service.ts";
