import { afterAll, expect, it } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import type { MeshSite } from "./site.ts";

const { namespace, group, pod } = SAMPLE;

/** The admin server of a VM, as the cluster sees it. */
export function scrapes(site: () => MeshSite): void {
  afterAll(() => site().kubectl("delete", "service", "scraped", "-n", namespace));

  it("scrapers reach metrics and health under port 4191, and nothing else of the admin server", async () => {
    const service = {
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "scraped", namespace },
      spec: { selector: { app: group }, ports: [{ name: "linkerd-admin", port: 4191 }] },
    };
    await site().apply(service);
    const url = `http://scraped.${namespace}.svc.cluster.local:4191`;
    const answers = async (path: string) => {
      const args = ["-sS", "-m", "5", "--retry", "3", "--retry-all-errors", "-w", "\n%{http_code}", `${url}${path}`];
      return (await site().lab.exec(pod, "curl", args)).stdout;
    };
    expect(await answers("/metrics")).toContain("process_start_time_seconds");
    expect(await answers("/ready")).toBe("ready\n\n200");
    expect(await answers("/status.json")).toBe("\n404");
  });
}
