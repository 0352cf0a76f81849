import { describe, expect, it } from "vitest";
import { parseExposition } from "../../../../src/lab/demo/exposition.ts";
import { goldenMetrics, quantile } from "../../../../src/lab/demo/golden.ts";
import { Progress } from "../../../../src/lab/demo/progress.ts";
import { renderCall, renderGolden, renderTransitions } from "../../../../src/lab/demo/render.ts";
import { columns, styleFor, widthOf } from "../../../../src/lab/demo/style.ts";
import type { TapEvent } from "../../../../src/proxy/core/messages.ts";

const plain = styleFor(false, undefined);
const coloured = styleFor(true, undefined);

describe("style", () => {
  it("colours terminals only, and not against NO_COLOR", () => {
    expect(styleFor(false, undefined).bad("x")).toBe("x");
    expect(styleFor(true, "1").bad("x")).toBe("x");
    expect(styleFor(true, "").bad("x")).toBe("\x1b[31mx\x1b[0m");
    expect(widthOf(coloured.bold("four"))).toBe(4);
  });

  it("aligns columns, coloured or not", () => {
    const rows = (style: typeof plain) => [
      ["A", "N"],
      [style.good("long"), "10"],
      ["b", "7"],
    ];
    expect(columns(rows(plain), new Set([1]))).toBe("  A      N\n  long  10\n  b      7\n");
    const bare = columns(rows(coloured), new Set([1]))
      .replaceAll("\x1b[32m", "")
      .replaceAll("\x1b[0m", "");
    expect(bare).toBe(columns(rows(plain), new Set([1])));
  });
});

describe("exposition", () => {
  it("reads names, labels with escapes, and values", () => {
    const page = '# HELP a b\n# TYPE a counter\na{x="1",y="q\\"\\\\\\n"} 2\nb 3.5\n\nnonsense\n';
    expect(parseExposition(page)).toEqual([
      { name: "a", labels: { x: "1", y: 'q"\\\n' }, value: 2 },
      { name: "b", labels: {}, value: 3.5 },
    ]);
  });
});

describe("golden metrics", () => {
  const page = (ok: number, bad: number, low: number) =>
    parseExposition(
      [
        `response_total{direction="outbound",dst_service="web",tls="true",classification="success"} ${ok}`,
        `response_total{direction="outbound",dst_service="web",tls="true",classification="failure"} ${bad}`,
        `response_total{direction="inbound",tls="true",classification="success"} 1000`,
        `response_latency_ms_bucket{direction="outbound",dst_service="web",le="10"} ${low}`,
        `response_latency_ms_bucket{direction="outbound",dst_service="web",le="20"} ${ok + bad}`,
        `response_latency_ms_bucket{direction="outbound",dst_service="web",le="+Inf"} ${ok + bad}`,
      ].join("\n"),
    );

  it("are the difference of two readings", () => {
    const [way, ...more] = goldenMetrics("vm", page(100, 0, 100), page(190, 10, 150), 10);
    expect(more).toEqual([]);
    expect(way).toMatchObject({ from: "vm", to: "web", requests: 100, perSecond: 10, successRate: 0.9, tlsShare: 1 });
    expect(way?.p50Ms).toBeCloseTo(10);
    expect(way?.p95Ms).toBeCloseTo(19);
  });

  it("count from nothing, and say nothing about nothing", () => {
    expect(goldenMetrics("vm", [], page(5, 5, 10), 5)[0]).toMatchObject({ requests: 10, successRate: 0.5 });
    expect(goldenMetrics("vm", page(1, 1, 1), page(1, 1, 1), 5)[0]).toMatchObject({
      requests: 0,
      successRate: undefined,
      p50Ms: undefined,
    });
  });

  it("estimate quantiles as dashboards do", () => {
    const infinite = Number.POSITIVE_INFINITY;
    expect(
      quantile(
        new Map([
          [1, 0],
          [2, 10],
          [infinite, 10],
        ]),
        0.5,
      ),
    ).toBeCloseTo(1.5);
    expect(
      quantile(
        new Map([
          [1, 1],
          [infinite, 10],
        ]),
        0.99,
      ),
    ).toBe(1);
    expect(quantile(new Map(), 0.5)).toBeUndefined();
  });
});

describe("rendering", () => {
  const request: TapEvent = {
    direction: "outbound",
    atMs: 0,
    method: "GET",
    authority: "web.shop",
    path: "/x",
    status: 200,
    grpcStatus: undefined,
    source: "10.0.0.1:1",
    sourceIdentity: "vm.shop",
    destination: "10.0.0.2:8080",
    destinationIdentity: undefined,
    tls: false,
    route: "",
    latencyMs: 1.25,
    requestBytes: 0,
    responseBytes: 1,
  };

  it("shows who called whom, and what is missing", () => {
    const text = renderCall({ host: "vm-1", command: "curl x", answer: "hello", request }, plain);
    expect(text).toBe(
      [
        "  vm-1 $ curl x",
        "    hello",
        "      from      vm.shop",
        "      to        10.0.0.2:8080 (no identity)",
        "      TLS       no",
        "      request   GET web.shop/x",
        "      route     none",
        "      endpoint  10.0.0.2:8080",
        "      status    200",
        "      latency   1.3 ms",
        "",
        "",
      ].join("\n"),
    );
  });

  it("marks failures, of gRPC too", () => {
    const failed = { host: "h", command: "c", answer: "a", request: { ...request, grpcStatus: 14 } };
    expect(renderCall(failed, coloured)).toContain(coloured.bad("200, grpc-status 14"));
  });

  it("puts tables under their heads", () => {
    const transition = {
      name: "shop/vm",
      afterSeconds: 1.23,
      ready: "True",
      reason: "Attached",
      identity: "spiffe://x",
      address: "10.0.0.1",
    };
    expect(renderTransitions([transition], plain)).toBe(
      "  AFTER  EXTERNALWORKLOAD  READY  REASON    ADDRESS   IDENTITY\n  1.2 s  shop/vm           True   Attached  10.0.0.1  spiffe://x\n",
    );
    const way = {
      from: "a",
      to: "b",
      requests: 0,
      perSecond: 0,
      successRate: undefined,
      p50Ms: undefined,
      p95Ms: 3.21,
      p99Ms: 123.4,
      tlsShare: 1,
    };
    expect(renderGolden([way], plain)).toBe(
      "  FROM  TO  REQUESTS  RPS  SUCCESS  P50     P95     P99     MTLS\n  a     b          0  0.0        -    -  3.2 ms  123 ms  100.0 %\n",
    );
  });
});

describe("progress", () => {
  it("is a line per step where nothing can be written over", () => {
    let now = 0;
    let text = "";
    const progress = new Progress({ write: (more) => (text += more), isTerminal: false, style: plain }, () => now);
    progress.begin("first");
    now = 1_500;
    progress.begin("second");
    now = 2_000;
    progress.failed();
    progress.done();
    expect(text).toBe("  ✓ first  1.5 s\n  ✗ second  0.5 s\n");
  });

  it("draws over itself on a terminal", () => {
    let text = "";
    const progress = new Progress({ write: (more) => (text += more), isTerminal: true, style: plain }, () => 0);
    progress.begin("step");
    progress.done();
    expect(text).toBe("\r\x1b[K  ⠋ step\r\x1b[K  ✓ step  0.0 s\n");
  });
});
