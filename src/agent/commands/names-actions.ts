import { closeSync, constants, fstatSync, openSync, readFileSync } from "node:fs";
import { runProgram } from "../../bootstrap/interception/index.ts";
import {
  caveats,
  detect,
  type Host,
  inPlace,
  parseResolverFile,
  type ResolverFile,
  readFacts,
  STUB,
  unwire,
  type Wiring,
  WiringError,
  wire,
} from "../../bootstrap/resolver/index.ts";
import { CommandError, EXIT } from "../exit.ts";
import { type Format, print } from "./output.ts";

// Three short keys.
const MOST_BYTES = 4096;

export interface NamesOptions {
  readonly config: string;
  readonly output: Format;
}

/** This machine. */
export const HOST: Host = { root: "/", run: runProgram };

const CHANGES: Readonly<Record<Wiring, (zone: string) => string>> = {
  resolved: (zone) => `systemd-resolved: the link mesh-dns with the server ${STUB} and the routing domain ~${zone}`,
  dnsmasq: (zone) => `/etc/NetworkManager/dnsmasq.d/mesh-agent.conf: server=/${zone}/${STUB}`,
  "resolv.conf": () => `/etc/resolv.conf: two lines at its head, nameserver ${STUB}`,
  none: () => "nothing: programs find the cluster's names only if the host's resolver already does",
};

/** Runs one of `plan`, `apply` and `remove`. @throws CommandError: 64 the file, 75 a resolver that refused, 77 not root. */
export async function runNames(name: string, options: NamesOptions): Promise<void> {
  if (process.geteuid?.() !== 0)
    throw new CommandError(EXIT.notPermitted, "the host's resolver is root's", "run this command with sudo");
  try {
    if (name === "plan") await plan(options);
    else if (name === "apply") await apply(options);
    else await remove(options);
  } catch (error) {
    if (!(error instanceof WiringError)) throw error;
    throw new CommandError(
      EXIT.tryAgain,
      `names of the cluster: ${error.message}`,
      "or choose another dns.wiring in the configuration",
    );
  }
}

/** In an operator's words: how programs of this host find the cluster's names; undefined if by nothing of ours. */
export async function namesInPlace(): Promise<string | undefined> {
  const placed = await inPlace(HOST);
  return placed.length === 0 ? undefined : placed.join(", ");
}

async function plan(options: NamesOptions): Promise<void> {
  const { zone, wiring } = readFile(options.config);
  const facts = await readFacts(HOST);
  const found = detect(facts);
  const chosen = wiring === "auto" ? found : { wiring, why: "dns.wiring of the configuration says so" };
  const placed = await inPlace(HOST);
  const warnings = chosen.wiring === "resolv.conf" ? caveats(facts.resolvConf ?? "") : [];
  print(options.output, { zone, ...chosen, change: CHANGES[chosen.wiring](zone), inPlace: placed, warnings }, () =>
    [
      `Names below ${zone} are answered at ${STUB}.`,
      `By ${chosen.wiring}, because ${chosen.why}.`,
      `Changes ${CHANGES[chosen.wiring](zone)}`,
      ...warnings.map((warning) => `Beware: ${warning}.`),
      placed.length === 0 ? "Nothing of it is in place." : `In place: ${placed.join(", ")}.`,
      "",
    ].join("\n"),
  );
}

async function apply(options: NamesOptions): Promise<void> {
  const file = readFile(options.config);
  const choice = await wire(file, HOST);
  print(options.output, { ...choice, zone: file.zone }, () => `${CHANGES[choice.wiring](file.zone)} (${choice.why})\n`);
}

async function remove(options: NamesOptions): Promise<void> {
  await unwire(HOST);
  print(options.output, { removed: true }, () => "The host's resolver is as it was before.\n");
}

/** Without following a link in its last place: the directory belongs to the agent. */
function readFile(path: string): ResolverFile {
  let fd: number;
  try {
    fd = openSync(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK);
  } catch (error) {
    throw new CommandError(
      EXIT.configuration,
      `${path}: ${(error as Error).message}`,
      "join a mesh first: mesh-agent up mj1.…",
    );
  }
  try {
    if (fstatSync(fd).size > MOST_BYTES) throw new Error(`is larger than ${MOST_BYTES} bytes`);
    return parseResolverFile(JSON.parse(readFileSync(fd, "utf8")));
  } catch (error) {
    throw new CommandError(
      EXIT.configuration,
      `${path}: ${(error as Error).message}`,
      "the agent writes it anew when it starts",
    );
  } finally {
    closeSync(fd);
  }
}
