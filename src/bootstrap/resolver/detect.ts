import type { WIRINGS } from "./model.ts";
import { nameservers } from "./resolv-conf.ts";

/** How a host's programs come to their answers. */
export type Wiring = Exclude<(typeof WIRINGS)[number], "auto">;

/** What there is to see of it. */
export interface ResolverFacts {
  /** Of /etc/resolv.conf, without our lines; undefined if there is none. */
  readonly resolvConf: string | undefined;
  /** Where /etc/resolv.conf leads, all links followed. */
  readonly resolvConfAt: string | undefined;
  readonly nsswitch: string;
  readonly resolvedRuns: boolean;
  readonly networkManagerRuns: boolean;
  /** NetworkManager's configuration files, in the order in which it reads them. */
  readonly networkManager: readonly string[];
}

/** Which wiring, and why: a clause for the operator. */
export interface Choice {
  readonly wiring: Wiring;
  readonly why: string;
}

/** Pure: what a host of this kind needs. */
export function detect(facts: ResolverFacts): Choice {
  const { resolvConf, resolvConfAt } = facts;
  // Its own file, also while it is still starting: nobody else writes there, and asking it for something waits for it.
  if (resolvConfAt?.endsWith("/systemd/resolve/stub-resolv.conf") || resolvConfAt?.endsWith("/systemd/resolv.conf"))
    return { wiring: "resolved", why: "/etc/resolv.conf leads to systemd-resolved" };
  if (facts.resolvedRuns) {
    // A file that somebody copied; nss-resolve asks it whatever the file says.
    if (resolvConf !== undefined && nameservers(resolvConf).some((ip) => ip === "127.0.0.53" || ip === "127.0.0.54"))
      return { wiring: "resolved", why: "/etc/resolv.conf names systemd-resolved" };
    if (/^hosts:[^#\n]*\bresolve\b/m.test(facts.nsswitch))
      return { wiring: "resolved", why: "nsswitch.conf asks systemd-resolved" };
  }
  if (facts.networkManagerRuns && dnsPlugin(facts.networkManager) === "dnsmasq")
    return { wiring: "dnsmasq", why: "NetworkManager runs dnsmasq" };
  if (resolvConf === undefined) return { wiring: "none", why: "/etc/resolv.conf does not exist" };
  return { wiring: "resolv.conf", why: "programs read /etc/resolv.conf themselves" };
}

/** `dns=` of `[main]`, the last word of all files (NetworkManager.conf(5)). */
function dnsPlugin(files: readonly string[]): string | undefined {
  let plugin: string | undefined;
  for (const file of files) {
    let section = "";
    for (const line of file.split("\n")) {
      section = /^\s*\[([^\]]+)\]/.exec(line)?.[1] ?? section;
      const value = /^\s*dns\s*=\s*([a-z-]+)/.exec(line)?.[1];
      if (section === "main" && value !== undefined) plugin = value;
    }
  }
  return plugin;
}
