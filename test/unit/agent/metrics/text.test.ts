import { describe, expect, it } from "vitest";
import { FAMILIES, familyNamed } from "../../../../src/agent/metrics/families.ts";
import { formatFamily, formatLabels } from "../../../../src/agent/metrics/text.ts";

describe("the legacy encoder", () => {
  it("prints a counter under its own name", () => {
    const labels = formatLabels({ direction: "inbound", tls: "true", client_id: "" });
    expect(formatFamily(familyNamed("request_total"), [{ labels, values: [41] }])).toBe(
      [
        "# HELP request_total HTTP requests.",
        "# TYPE request_total counter",
        'request_total{direction="inbound",tls="true",client_id=""} 41',
        "",
      ].join("\n"),
    );
  });

  it("prints le last and short, counts before the sum", () => {
    const values = new Float64Array(27);
    values[0] = 2; // ≤ 1
    values[2] = 1; // ≤ 3
    values[25] = 1; // +Inf
    values[26] = 70_005;
    const lines = formatFamily(familyNamed("response_latency_ms"), [{ labels: 'direction="inbound"', values }]).split(
      "\n",
    );
    expect(lines.slice(1, 5)).toEqual([
      "# TYPE response_latency_ms histogram",
      'response_latency_ms_bucket{direction="inbound",le="1"} 2',
      'response_latency_ms_bucket{direction="inbound",le="2"} 2',
      'response_latency_ms_bucket{direction="inbound",le="3"} 3',
    ]);
    expect(lines.slice(-5)).toEqual([
      'response_latency_ms_bucket{direction="inbound",le="50000"} 3',
      'response_latency_ms_bucket{direction="inbound",le="+Inf"} 4',
      'response_latency_ms_count{direction="inbound"} 4',
      'response_latency_ms_sum{direction="inbound"} 70005',
      "",
    ]);
  });
});

describe("the registry encoder", () => {
  it("prints le first and as a float, the sum before the counts, the unit", () => {
    const family = familyNamed("outbound_http_route_request_duration_seconds");
    const labels = formatLabels({ parent_group: "core", hostname: "" });
    expect(
      formatFamily(family, [{ labels, values: [6, 1, 0, 0, 1, 42] }])
        .split("\n")
        .slice(1),
    ).toEqual([
      "# TYPE outbound_http_route_request_duration_seconds histogram",
      "# UNIT outbound_http_route_request_duration_seconds seconds",
      'outbound_http_route_request_duration_seconds_sum{parent_group="core",hostname=""} 42.0',
      'outbound_http_route_request_duration_seconds_count{parent_group="core",hostname=""} 8',
      'outbound_http_route_request_duration_seconds_bucket{le="0.05",parent_group="core",hostname=""} 6',
      'outbound_http_route_request_duration_seconds_bucket{le="0.5",parent_group="core",hostname=""} 7',
      'outbound_http_route_request_duration_seconds_bucket{le="1.0",parent_group="core",hostname=""} 7',
      'outbound_http_route_request_duration_seconds_bucket{le="10.0",parent_group="core",hostname=""} 7',
      'outbound_http_route_request_duration_seconds_bucket{le="+Inf",parent_group="core",hostname=""} 8',
      "",
    ]);
  });

  it("types a counter without _total", () => {
    const text = formatFamily(familyNamed("outbound_http_route_request_statuses_total"), [
      { labels: formatLabels({ http_status: "200", error: "" }), values: [3] },
    ]);
    expect(text).toContain("# TYPE outbound_http_route_request_statuses counter\n");
    expect(text).toContain('outbound_http_route_request_statuses_total{http_status="200",error=""} 3\n');
  });

  it("prints floats with a fraction", () => {
    const text = formatFamily(familyNamed("process_start_time_seconds"), [{ labels: "", values: [1_700_000_000] }]);
    expect(text.split("\n").at(-2)).toBe("process_start_time_seconds 1700000000.0");
  });
});

it("leaves out a family without series", () => {
  expect(formatFamily(familyNamed("request_total"), [])).toBe("");
});

it("escapes what would end a label value", () => {
  expect(formatLabels({ a: 'x"\\\ny' })).toBe('a="x\\"\\\\\\ny"');
});

it("names every family once", () => {
  expect(new Set(FAMILIES.map((family) => family.name)).size).toBe(FAMILIES.length);
  expect(() => familyNamed("requests_total")).toThrow("no such metric family");
});

// The families that a shipped consumer (viz, the dashboard, Grafana) reads.
it.each([
  "request_total",
  "response_total",
  "response_latency_ms",
  "tcp_open_connections",
  "tcp_read_bytes_total",
  "tcp_write_bytes_total",
  "tcp_close_total",
  "outbound_http_route_request_statuses_total",
  "outbound_grpc_route_request_statuses_total",
  "outbound_http_route_request_duration_seconds",
  "outbound_http_route_retry_requests_total",
  "outbound_http_route_backend_response_statuses_total",
  "outbound_http_route_backend_response_duration_seconds",
  "inbound_http_authz_allow_total",
  "inbound_http_authz_deny_total",
  "process_start_time_seconds",
  "process_cpu_seconds_total",
  "process_virtual_memory_bytes",
  "process_resident_memory_bytes",
  "process_open_fds",
])("knows %s", (name) => {
  expect(familyNamed(name).name).toBe(name);
});
