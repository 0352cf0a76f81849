import { chownSync, existsSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join as path } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { beforeAll, expect, it } from "vitest";
import { stringify } from "yaml";
import { EXIT } from "../../../src/agent/exit.ts";
import { decodeJoinString, encodeJoinString, type JoinString } from "../../../src/bootstrap/control/index.ts";
import { AGENT_UID } from "../../../src/lab/agent-on-host.ts";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { until } from "../../support/until.ts";
import { type Ended, logLines, type MeshSite } from "./site.ts";

/** The second VM and its group, once it has joined. */
export const HOST = "vm-2";
export const GROUP = "idle-app";
const IDLE_PORT = 8081;

const capabilities = (names: string) => [
  "setpriv",
  ...[`--reuid=${AGENT_UID}`, `--regid=${AGENT_UID}`, "--clear-groups"],
  ...[`--inh-caps=${names}`, `--ambient-caps=${names}`, `--bounding-set=-all,${names}`],
];
// As the unit starts it, and as somebody who is nobody. Both may read this program wherever it lies.
const AGENT = capabilities("+net_admin,+dac_read_search");
const NOBODY = capabilities("+dac_read_search");

/** One try on the second VM, with directories of its own: what it said, and what it left. */
interface Try extends Ended {
  /** Files in its state directory. */
  readonly left: readonly string[];
  /** Whether the join string is still there. */
  readonly joinKept: boolean;
}

let tries = 0;

/** Each is one line that names cause and remedy, an exit status of its own kind, and nothing left behind. */
export function refusals(site: () => MeshSite): void {
  let fresh: string;
  let expiring: string;

  beforeAll(async () => {
    const terms = [GROUP, "--port", `http=${IDLE_PORT}`, "--label", `app=${GROUP}`];
    expiring = await site().invite("late-app", "--expires", "1s");
    fresh = await site().invite(...terms);
  });

  async function attempt(
    given: string | undefined,
    options: { before?: readonly string[]; command?: readonly string[] } = {},
  ): Promise<Try> {
    const { lab } = site();
    const host = lab.host(HOST);
    const directory = path(lab.directory, `try-${++tries}`);
    const state = path(directory, "state");
    mkdirSync(state, { recursive: true });
    const joinFile = path(directory, "join");
    const machineIdFile = path(directory, "machine-id");
    writeFileSync(machineIdFile, `${String(tries).padStart(32, "0")}\n`);
    if (given !== undefined) writeFileSync(joinFile, `${given}\n`);
    const config = path(directory, "config.yaml");
    writeFileSync(
      config,
      stringify({
        proxy: { workers: 1, listeners: "self" },
        control: { socket: path(directory, "control.sock") },
        state: { directory: state },
        identity: { joinFile, machineIdFile },
      }),
    );
    for (const file of [directory, state, config, machineIdFile]) chownSync(file, AGENT_UID, AGENT_UID);
    if (given !== undefined) chownSync(joinFile, AGENT_UID, AGENT_UID);
    const command = options.command ?? ["run", "--config", config];
    const ended = await site().meshAgent(host, command, options.before ?? AGENT);
    const rules = await host.exec("nft", ["list", "tables"]);
    expect(rules.stdout).toBe("");
    return { ...ended, left: readdirSync(state), joinKept: given === undefined || existsSync(joinFile) };
  }

  /** One line, two halves: the cause, and what to do about it. */
  function expectLine({ stderr, left, code }: Try, cause: RegExp, remedy: RegExp, exit: number): void {
    const [line = "", ...more] = stderr.trimEnd().split("\n");
    expect(more).toEqual([]);
    const [said = "", toDo = ""] = line.split(" — ");
    expect(said).toMatch(cause);
    expect(toDo).toMatch(remedy);
    expect(code).toBe(exit);
    expect(left).toEqual([]);
  }

  const changed = (change: (fields: JoinString) => Partial<JoinString>): string => {
    const fields = decodeJoinString(fresh);
    return encodeJoinString({ ...fields, ...change(fields) });
  };

  it.each([
    {
      what: "no join string",
      given: () => undefined,
      cause: /has not joined a mesh/,
      remedy: /mesh-agent up/,
      exit: EXIT.joinString,
    },
    {
      what: "no join string at all, but words",
      given: () => "hello",
      cause: /this is not a join string/,
      remedy: /copy the whole line/,
      exit: EXIT.joinString,
    },
    {
      what: "an altered one",
      given: () => `${fresh.slice(0, 60)}${fresh[60] === "A" ? "B" : "A"}${fresh.slice(61)}`,
      cause: /cut short or changed/,
      remedy: /copy the whole line/,
      exit: EXIT.joinString,
    },
    {
      what: "one with a wrong secret",
      given: () => changed(({ secret }) => ({ secret: Buffer.alloc(secret.length, 7) })),
      cause: /invitation|join string/,
      remedy: /ask for a new join string/,
      exit: EXIT.joinString,
    },
    {
      what: "one that is spent",
      given: () => site().joinString,
      cause: /used|spent/,
      remedy: /--uses/,
      exit: EXIT.joinString,
    },
    {
      what: "one that has expired",
      given: () => expiring,
      cause: /expired/,
      remedy: /--expires/,
      exit: EXIT.joinString,
    },
    {
      what: "one that pins other roots than the enroller's",
      given: () => changed(() => ({ pins: [Buffer.alloc(32, 1)] })),
      cause: /does not show a root certificate that the join string pins/,
      remedy: /ask for a new join string/,
      exit: EXIT.notPermitted,
    },
    {
      what: "one that leads nowhere",
      given: () => changed(({ enrollers }) => ({ enrollers: enrollers.map((at) => at.replace(/\d+$/, "4999")) })),
      cause: /did not answer: .*ECONNREFUSED/,
      remedy: /port/,
      exit: EXIT.unreachable,
    },
  ])("refuses $what", async ({ what, given, cause, remedy, exit }) => {
    if (what.includes("expired")) await sleep(1000);
    const tried = await attempt(given());
    expectLine(tried, cause, remedy, exit);
    // Whoever mends the cause should not have to find the string again.
    expect(tried.joinKept).toBe(true);
  });

  it("says which port is taken", async () => {
    const squatter = await site().start(site().lab.host(HOST), "peer.ts", ["squatter", "4143"]);
    expectLine(await attempt(fresh), /port 4143 on \S+ is taken/, /stop what listens there/, EXIT.configuration);
    await squatter.kill("SIGKILL");
  });

  it("says what it may not do without root", async () => {
    const run = await attempt(fresh, { before: NOBODY });
    expectLine(run, /needs CAP_NET_ADMIN/, /through systemd, or as root/, EXIT.notPermitted);
    const up = await attempt(undefined, { before: NOBODY, command: ["up", fresh] });
    expectLine(up, /up needs root/, /sudo/, EXIT.notPermitted);
    const rules = await attempt(undefined, { before: NOBODY, command: ["intercept", "apply"] });
    expectLine(rules, /needs root/, /sudo/, EXIT.notPermitted);
  });

  it("says that nft is missing", async () => {
    const { lab } = site();
    // Its own search path is fixed: here the directory itself is empty. As if systemd ran, without which nothing is asked.
    const bare =
      'mount -t tmpfs none /usr/sbin && mount -t tmpfs none /run && mkdir -p /run/systemd/system && exec "$@"';
    const up = await attempt(undefined, {
      before: ["unshare", "--mount", "sh", "-c", bare, "sh"],
      command: ["up", fresh],
    });
    expectLine(up, /nft is not installed/, /nftables/, EXIT.interception);
    const rules = path(lab.directory, SAMPLE.vm, "state", "interception.json");
    const hidden = ["unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /usr/sbin && exec "$@"', "sh"];
    const apply = await attempt(undefined, { before: hidden, command: ["intercept", "apply", "--config", rules] });
    expectLine(apply, /nft is not installed/, /install the package nftables/, EXIT.interception);
  });

  it("answers 502 for an application that does not listen, and says so once", async () => {
    const { lab } = site();
    await lab.createService({
      namespace: SAMPLE.namespace,
      name: GROUP,
      app: GROUP,
      ports: [{ name: "http", port: 80, targetPort: IDLE_PORT }],
      opaquePorts: [],
    });
    const agent = await lab.join(HOST, fresh);
    const ask = async () => {
      const url = `http://${GROUP}.${SAMPLE.namespace}.svc.cluster.local/`;
      const line = ["-sS", "-o", "/dev/null", "-w", "%{http_code}", url];
      return (await lab.exec(SAMPLE.pod, "curl", line)).stdout;
    };
    // The endpoint takes a moment to be known.
    await until(async () => (await ask()) === "502", "502");
    const before = refusedLines(agent.log).length;
    expect(await ask()).toBe("502");
    await sleep(200);
    const lines = refusedLines(agent.log);
    console.log(`an application that does not listen: ${lines.length} lines, the first: ${lines[0]}`);
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.length - before).toBeLessThanOrEqual(1);
  });
}

/** Lines about an application that refuses connections. */
function refusedLines(log: string): string[] {
  return logLines(log)
    .map((line) => JSON.stringify(line))
    .filter((line) => line.includes("ECONNREFUSED") && line.includes(String(IDLE_PORT)));
}
