import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { defaultInboundPolicy } from "../../src/proxy/policy/index.ts";
import { Hops } from "./hops.ts";

/*
 * An inbound hop in a process of its own, for tests that take something away from it: `hop-process.ts <application's
 * port>` prints the port on which connections count as intercepted. With `relay` behind the port both hops, opaque bytes
 * over mutual TLS between them; the port is the outbound one's. SIGUSR2 has it collect garbage and print how many bytes are kept.
 */
setFlagsFromString("--expose-gc");
const collectGarbage = runInNewContext("gc") as () => void;
process.on("SIGUSR2", () => {
  // Twice: memory outside the heap is given back after the first.
  collectGarbage();
  collectGarbage();
  const { heapUsed, external } = process.memoryUsage();
  console.log(heapUsed + external);
});
const appPort = Number(process.argv[2]);
const relay = process.argv[3] === "relay";
const hops = await Hops.start({
  appPort,
  detectTimeoutMs: 10_000,
  opaque: relay,
  inboundPolicy: defaultInboundPolicy("all-unauthenticated", { detectTimeoutMs: 10_000, clusterNetworks: [] }),
});
// Memory is what is measured here: nothing is kept for a test to look at.
for (const hop of [hops.client, hops.server]) hop.onEnded = () => {};
console.log(relay ? hops.port : await hops.server.listenIntercepted({ ip: "127.0.0.1", port: appPort }));
