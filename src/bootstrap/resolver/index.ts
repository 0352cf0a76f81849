/**
 * The host's own resolver, told that the cluster's names are answered by the agent's stub, and told to forget it. Three
 * kinds of hosts: systemd-resolved (a routing domain on a link of our own), NetworkManager with dnsmasq (a drop-in),
 * and a plain resolv.conf (two lines at its head). Root does it, when the agent starts and stops, from a small file that
 * the agent writes. May import proxy/core; programs are run through a {@link Run} that is handed in, and the few files
 * of the resolvers are written here. Start with `detect.ts` (which kind, pure), then `wiring.ts` (doing and undoing).
 */
export { type Choice, detect, type ResolverFacts, type Wiring } from "./detect.ts";
export { parseResolverFile, RESOLVER_FILE, type ResolverFile, STUB, WIRINGS } from "./model.ts";
export { caveats, nameservers, withoutStub, withStub } from "./resolv-conf.ts";
export { type Host, inPlace, type Run, readFacts, unwire, WiringError, wire } from "./wiring.ts";
