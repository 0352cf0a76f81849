import { expect, test } from "vitest";
import { IdentitySeries } from "../../../src/agent/identity-series.ts";
import { MetricsStore } from "../../../src/agent/metrics/index.ts";
import type { WorkloadIdentity } from "../../../src/proxy/core/identity.ts";

test("the certificate on the page", () => {
  const store = new MetricsStore(() => 0);
  const series = new IdentitySeries(store.registry, () => 1_500_000);
  const lines = () =>
    store
      .format()
      .split("\n")
      .filter((line) => line.startsWith("control_identity"));
  expect(lines()).toEqual([
    "control_identity_cert_expiration_timestamp_seconds 0.0",
    "control_identity_cert_refresh_timestamp_seconds 0.0",
    'control_identity_cert_refreshes_total{result="ok"} 0',
    'control_identity_cert_refreshes_total{result="error"} 0',
  ]);
  const identity = { certificatePem: "1", notAfterMs: 90_000_500 } as WorkloadIdentity;
  series.installed(identity);
  // New trust anchors, and the certificate that was.
  series.installed({ ...identity, generation: 2, trustAnchorsPem: ["x"] });
  series.failed();
  expect(lines()).toEqual([
    "control_identity_cert_expiration_timestamp_seconds 90000.5",
    "control_identity_cert_refresh_timestamp_seconds 1500.0",
    'control_identity_cert_refreshes_total{result="ok"} 1',
    'control_identity_cert_refreshes_total{result="error"} 1',
  ]);
});
