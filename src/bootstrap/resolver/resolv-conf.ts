import { STUB } from "./model.ts";

// First, because resolvers ask in order: ours refuses every name but the cluster's, and a refusal is what makes them go
// on to the next (glibc res_send.c: SERVFAIL, NOTIMP and REFUSED; musl likewise).
const LINES = `# mesh-agent: names of the cluster; everything else is refused here and asked at the servers below\nnameserver ${STUB}\n`;

// resolv.conf(5): MAXNS.
const MOST_SERVERS = 3;

/** Pure: the text with our lines at its head. The rest is not looked at: {@link withoutStub} gives it back to the byte. */
export function withStub(text: string): string {
  return LINES + withoutStub(text);
}

/** Pure: the text without our lines, wherever somebody else's edit has left them. */
export function withoutStub(text: string): string {
  return text.replace(LINES, "");
}

/** Addresses of the servers that a resolver would ask, in order. */
export function nameservers(text: string): readonly string[] {
  return text.split("\n").flatMap((line) => /^nameserver\s+([^\s#;]+)/.exec(line)?.[1] ?? []);
}

/** What an operator should know about such a file; empty if nothing. */
export function caveats(text: string): readonly string[] {
  const servers = nameservers(withoutStub(text));
  const said: string[] = [];
  if (servers.length === 0)
    said.push("no other server is named: names outside of the cluster have nobody to answer them");
  const lost = servers[MOST_SERVERS - 1];
  if (lost !== undefined) said.push(`programs ask ${MOST_SERVERS} servers at most: ${lost} is not asked any more`);
  if (/^options\b.*\brotate\b/m.test(text))
    said.push("with `options rotate` some queries for the cluster's names go to other servers first");
  return said;
}
