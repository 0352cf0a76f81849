import type { WorkloadIdentity } from "../proxy/core/identity.ts";
import type { Counter, Gauge, MetricsRegistry } from "../proxy/core/metrics.ts";

/** `control_identity_cert_*` (telemetry.md §1.9). There from the first page on: 0 until there is a certificate. */
export class IdentitySeries {
  readonly #expiration: Gauge;
  readonly #refreshed: Gauge;
  readonly #ok: Counter;
  readonly #error: Counter;
  readonly #wallMs: () => number;
  #certificatePem: string | undefined;

  /** @param wallMs - The wall clock, Unix milliseconds. */
  constructor(metrics: MetricsRegistry, wallMs: () => number) {
    this.#wallMs = wallMs;
    this.#expiration = metrics.gauge("control_identity_cert_expiration_timestamp_seconds", {});
    this.#refreshed = metrics.gauge("control_identity_cert_refresh_timestamp_seconds", {});
    this.#ok = metrics.counter("control_identity_cert_refreshes_total", { result: "ok" });
    this.#error = metrics.counter("control_identity_cert_refreshes_total", { result: "error" });
  }

  /** The identity as it is now. New trust anchors alone are no new certificate. */
  installed({ certificatePem, notAfterMs }: WorkloadIdentity): void {
    if (certificatePem === this.#certificatePem) return;
    this.#certificatePem = certificatePem;
    this.#expiration.set(notAfterMs / 1_000);
    this.#refreshed.set(this.#wallMs() / 1_000);
    this.#ok.add(1);
  }

  /** An attempt to get the next certificate has failed. */
  failed(): void {
    this.#error.add(1);
  }
}
