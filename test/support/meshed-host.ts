/**
 * Both sides of one host's proxy, in a process of their own that is told of every change of its identity. Started with a
 * channel; hears {@link HostNews}, and says its ports once it knows who it is: {@link HostPorts}.
 */
import type { WorkloadIdentity } from "../../src/proxy/core/identity.ts";
import { defaultInboundPolicy, forwardPolicy } from "../../src/proxy/policy/index.ts";
import { HopProxy } from "./hops.ts";

export type HostNews =
  | {
      readonly kind: "start";
      readonly identity: WorkloadIdentity;
      /** Port of the application, on every host. */
      readonly app: number;
      /** Whether bytes are carried as they are: from here to the peer, and from the peer to here. */
      readonly opaque: { readonly there: boolean; readonly here: boolean };
    }
  | { readonly kind: "identity"; readonly identity: WorkloadIdentity }
  /** Whom its programs' connections are for: the proxy of the other host, and who that is. */
  | { readonly kind: "peer"; readonly port: number; readonly uri: string; readonly serverName: string };

export interface HostPorts {
  /** Where peers connect. */
  readonly direct: number;
  /** Where programs of the host connect. */
  readonly outbound: number;
}

let hop: HopProxy | undefined;
let peer: Extract<HostNews, { kind: "peer" }> | undefined;

async function start({ identity, app, opaque }: Extract<HostNews, { kind: "start" }>): Promise<HostPorts> {
  hop = new HopProxy(
    identity,
    (request) => {
      if (request.type !== "discovery.watch") return undefined;
      const { target } = request;
      if (target.kind === "inbound") {
        const settings = { detectTimeoutMs: 500, clusterNetworks: [], opaque: opaque.here };
        const value = defaultInboundPolicy("all-authenticated", settings);
        return { type: "discovery.inbound", key: `inbound ${target.port}`, value };
      }
      if (target.kind !== "outbound" || peer === undefined) return undefined;
      const policy = forwardPolicy("endpoint", {
        key: `127.0.0.1:${app}`,
        address: { ip: "127.0.0.1", port: app },
        identity: { kind: "uri", id: peer.uri, serverName: peer.serverName },
        expectsIdentity: true,
        hint: opaque.there ? "opaque" : "h2",
        inboundPort: peer.port,
        authorityOverride: undefined,
        weight: 10_000,
        zone: undefined,
        zoneLocality: "unknown",
        labels: {},
        http2: undefined,
      });
      const key = `outbound ${target.ip}:${target.port}`;
      const value = { policy: opaque.there ? { ...policy, kind: "opaque" as const } : policy, profile: undefined };
      return { type: "discovery.outbound", key, value };
    },
    {},
  );
  // More requests than are worth keeping.
  hop.onEnded = () => {};
  const direct = await hop.listenInbound(true);
  hop.discovery.inbound(app).retain();
  return { direct, outbound: await hop.listenOutbound() };
}

process.on("message", async (news: HostNews) => {
  if (news.kind === "start") process.send?.(await start(news));
  else if (news.kind === "identity") hop?.mesh.update(news.identity);
  else peer = news;
});
process.on("disconnect", () => process.exit(0));
