import type { StoredMembership } from "../bootstrap/identity/index.ts";
import type { Config } from "./config.ts";
import { INTERCEPTION_FILE, interceptionFile } from "./intercept-file.ts";
import type { AgentLogger } from "./log.ts";
import type { Store } from "./store.ts";

const API_SERVER = "kubernetes.default.svc";

export interface InterceptionPlanDeps {
  readonly config: Config;
  readonly store: Store;
  readonly log: AgentLogger;
  readonly member: () => StoredMembership | undefined;
  /** Of a name of the cluster; undefined while nobody can be asked. */
  readonly addresses: (name: string) => Promise<readonly string[]> | undefined;
}

/** The file that says which rules there are to be. Root reads it, and looks whenever it is written. */
export class InterceptionPlan {
  readonly #deps: InterceptionPlanDeps;
  #apiServers: readonly string[] = [];

  constructor(deps: InterceptionPlanDeps) {
    this.#deps = deps;
  }

  /** @param again - Also if nothing changed. */
  write(again = false): void {
    const { config, member, store, log } = this.#deps;
    const uid = process.getuid?.() ?? 0;
    // As root the exemption of our own connections would exempt everybody's: such a set-up is for tests without rules.
    if (uid === 0) return;
    const unit = process.env["INVOCATION_ID"] === undefined ? undefined : "mesh-agent.service";
    const file = interceptionFile(
      config,
      member()?.configuration,
      member()?.enrollers ?? [],
      this.#apiServers,
      uid,
      unit,
    );
    const text = `${JSON.stringify(file, undefined, 2)}\n`;
    try {
      if (again || store.read(INTERCEPTION_FILE)?.toString() !== text) store.write(INTERCEPTION_FILE, text);
    } catch (error) {
      log.error("the interception plan could not be written", { why: (error as Error).message });
    }
  }

  /** Its address is one of the captured networks, and whoever works on the cluster from here must not depend on us. */
  async findApiServer(): Promise<void> {
    const domain = this.#deps.member()?.configuration.clusterDomain;
    const found = domain === undefined ? undefined : await this.#deps.addresses(`${API_SERVER}.${domain}`);
    if (found === undefined || found.length === 0 || `${found}` === `${this.#apiServers}`) return;
    this.#apiServers = found;
    this.write();
  }

  get capturesSomething(): boolean {
    const { config, member } = this.#deps;
    const { captureNetworks = [], ports = [] } = member()?.configuration ?? {};
    const configured = config["interception.capture"].length + config["inbound.ports"].length;
    return process.getuid?.() !== 0 && captureNetworks.length + ports.length + configured > 0;
  }
}
