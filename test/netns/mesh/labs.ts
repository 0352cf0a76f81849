import { existsSync, readdirSync } from "node:fs";
import { expect, it } from "vitest";
import { bringUp, SAMPLE } from "../../../src/lab/sample.ts";
import type { Lab } from "../../../src/lab/up.ts";
import type { MeshSite } from "./site.ts";

// A VM's endpoint takes a moment from the agent's readiness until every proxy knows it.
const PATIENCE = ["--fail", "--retry", "5", "--retry-all-errors", "--retry-delay", "1"];

/** What the VM's application answers to the pod of the same lab. */
async function ask(lab: Lab): Promise<unknown> {
  const url = `http://${SAMPLE.group}.${SAMPLE.namespace}.svc.cluster.local/`;
  return JSON.parse((await lab.exec(SAMPLE.pod, "curl", ["-sS", "-m", "10", ...PATIENCE, url])).stdout);
}

const ANSWER = {
  app: SAMPLE.vm,
  client: `${SAMPLE.pod}.${SAMPLE.namespace}.serviceaccount.identity.linkerd.cluster.local`,
};

function traces(id: string): string[] {
  const namesakes = ["/run/netns", "/etc/netns"].flatMap((directory) =>
    existsSync(directory) ? readdirSync(directory).filter((name) => name.startsWith(`ma-${id}-`)) : [],
  );
  return existsSync(`/run/mesh-agent-labs/${id}`) ? [...namesakes, id] : namesakes;
}

/** A second lab beside the first, twice under the same name: neither knows of the other, and none leaves a trace. */
export function labs(site: () => MeshSite): void {
  const id = `b${process.pid % 1_000_000}`;

  it.each(["once", "again"])("comes up beside the first, %s", async () => {
    const lab = await bringUp({ id, join: true, progress: () => {}, signal: new AbortController().signal });
    try {
      expect(lab.network.prefix).not.toBe(site().lab.network.prefix);
      expect(await ask(lab)).toMatchObject(ANSWER);
      expect(await ask(site().lab)).toMatchObject(ANSWER);
    } finally {
      await lab.stop();
    }
    expect(traces(id)).toEqual([]);
    expect(await ask(site().lab)).toMatchObject(ANSWER);
  });
}
