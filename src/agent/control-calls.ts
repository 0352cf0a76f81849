import { InterceptingCall, type Interceptor, ListenerBuilder, RequesterBuilder, status } from "@grpc/grpc-js";
import { LATENCY_MS_BUCKETS, type Labels, type MetricsRegistry } from "../proxy/core/metrics.ts";
import { isGrpcFailure } from "../proxy/policy/index.ts";

/**
 * Counts the calls of one client of the control plane under linkerd2-proxy's `control_*` names (telemetry.md §1.9).
 * A stream is one request, whose latency ends with its first message and whose response ends with it.
 *
 * @param address - `host:port` as called.
 * @param serverId - The identity that the server must prove.
 * @param now - Monotonic milliseconds.
 */
export function countCalls(
  metrics: MetricsRegistry,
  address: string,
  serverId: string,
  now: () => number = () => performance.now(),
): Interceptor {
  const labels: Labels = { addr: address, tls: "true", server_id: serverId };
  const requests = metrics.counter("control_request_total", labels);
  const answered = (code: Labels, classification: "success" | "failure", grpcStatus: string, error: string) =>
    metrics
      .counter("control_response_total", { ...labels, ...code, classification, grpc_status: grpcStatus, error })
      .add(1);
  return (options, nextCall) => {
    const startedAt = now();
    let heard = false;
    let timed = false;
    const latency = (code: Labels) => {
      if (timed) return;
      timed = true;
      metrics
        .histogram("control_response_latency_ms", { ...labels, ...code }, LATENCY_MS_BUCKETS)
        .observe(now() - startedAt);
    };
    const listener = new ListenerBuilder()
      .withOnReceiveMetadata((metadata, next) => {
        heard = true;
        next(metadata);
      })
      .withOnReceiveMessage((message, next) => {
        latency(OK);
        next(message);
      })
      .withOnReceiveStatus((ended, next) => {
        const { code } = ended;
        // What grpc-js says in the name of a server that said nothing: it was not reached, or we gave the call up.
        if (!heard && code === status.UNAVAILABLE) {
          latency({});
          answered({}, "failure", "", "unclassified");
        } else if (heard || code !== status.CANCELLED) {
          latency(OK);
          answered(OK, isGrpcFailure(code) ? "failure" : "success", String(code), "");
        }
        next(ended);
      })
      .build();
    const requester = new RequesterBuilder()
      .withStart((metadata, _listener, next) => {
        requests.add(1);
        next(metadata, listener);
      })
      .build();
    return new InterceptingCall(nextCall(options), requester);
  };
}

const OK: Labels = { status_code: "200" };
