import { Client, credentials, status } from "@grpc/grpc-js";
import { afterEach, expect, test } from "vitest";
import { countCalls } from "../../../src/agent/control-calls.ts";
import { MetricsStore } from "../../../src/agent/metrics/index.ts";
import { grpcService, inbound } from "../../../src/proto/index.ts";
import { detectServer } from "../../support/mesh-messages.ts";
import { PolicyServer, policy } from "../../support/policy-server.ts";
import { until } from "../../support/until.ts";

const closing: (() => void)[] = [];
afterEach(() => {
  for (const close of closing.splice(0)) close();
});

test("calls of the control plane", async () => {
  const server = new PolicyServer();
  await server.start();
  closing.push(() => server.kill());
  server.say(80, policy(detectServer({})));
  server.say(81, { kind: "status", code: status.NOT_FOUND });
  server.say(82, { kind: "status", code: status.INTERNAL });
  const store = new MetricsStore(() => performance.now());
  let now = 1_000;
  const client = new Client(`127.0.0.1:${server.port}`, credentials.createInsecure(), {
    interceptors: [countCalls(store.registry, "policy:8090", "policy.linkerd", () => now)],
    "grpc.initial_reconnect_backoff_ms": 100,
  });
  closing.push(() => client.close());
  const { watchPort } = grpcService(inbound.InboundServerPolicies);
  const watch = (port: number) => {
    const call = client.makeServerStreamRequest(
      watchPort.path,
      watchPort.requestSerialize,
      watchPort.responseDeserialize,
      { workload: "w", port } as inbound.PortSpec,
    );
    call.on("error", () => {});
    return call;
  };
  const labels = 'addr="policy:8090",tls="true",server_id="policy.linkerd"';
  const lines = (family: string, match: RegExp = /./) =>
    store
      .format()
      .split("\n")
      .filter((line) => line.startsWith(`${family}{`) && match.test(line));

  expect(lines("control_request_total")).toEqual([`control_request_total{${labels}} 0`]);
  const call = watch(80);
  now += 12;
  await new Promise((resolve) => call.once("data", resolve));
  expect(lines("control_request_total")).toEqual([`control_request_total{${labels}} 1`]);
  expect(lines("control_response_latency_ms_bucket", /le="(10|20)"/)).toEqual([
    `control_response_latency_ms_bucket{${labels},status_code="200",le="10"} 0`,
    `control_response_latency_ms_bucket{${labels},status_code="200",le="20"} 1`,
  ]);
  // It goes on: no answer yet.
  expect(lines("control_response_total")).toEqual([]);
  call.cancel();
  watch(81);
  watch(82);
  const answers = await until(() => {
    const found = lines("control_response_total");
    return found.length === 3 ? found : undefined;
  }, "three answers");
  expect(answers.sort()).toEqual([
    `control_response_total{${labels},status_code="200",classification="failure",grpc_status="13",error=""} 1`,
    `control_response_total{${labels},status_code="200",classification="success",grpc_status="1",error=""} 1`,
    `control_response_total{${labels},status_code="200",classification="success",grpc_status="5",error=""} 1`,
  ]);
  server.kill();
  await until(() => {
    watch(80);
    return lines("control_response_total", /unclassified/)[0];
  }, "a call that found nobody");
  expect(lines("control_response_total", /unclassified/)[0]).toContain(
    `{${labels},classification="failure",grpc_status="",error="unclassified"}`,
  );
});
