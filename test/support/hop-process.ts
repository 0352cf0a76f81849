import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { Hops } from "./hops.ts";

/*
 * An inbound hop in a process of its own, for tests that take something away from it: `hop-process.ts <application's
 * port>` prints the port on which connections count as intercepted. With `relay` behind the port both hops, opaque bytes
 * over mutual TLS between them; the port is the outbound one's.
 */
const appPort = Number(process.argv[2]);
const relay = process.argv[3] === "relay";
const hops = await Hops.start({
  appPort,
  detectTimeoutMs: 10_000,
  opaque: relay,
  inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] }),
});
console.log(relay ? hops.port : await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort }));
