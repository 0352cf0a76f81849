import { X509Certificate } from "node:crypto";
import { type FSWatcher, readFileSync, statSync, watch } from "node:fs";
import { join } from "node:path";
import type { IdentitySource, WorkloadIdentity } from "../../proxy/core/identity.ts";
import { alternativeNames, BootstrapError, type Log, type Scheduler, splitPem, validity } from "../control/index.ts";
import { importKey, publicKeyDer } from "./key.ts";

export interface FileIdentityOptions {
  /** Holds the three files; replaced whole, as cert-manager's CSI driver or a script does. */
  readonly directory: string;
  /** `tls.key`, `tls.crt`, `ca.crt` unless told. */
  readonly key?: string;
  readonly certificate?: string;
  readonly anchors?: string;
  /** The name that peers put into SNI: the ExternalWorkload's `serverName`. The first DNS name unless told. */
  readonly serverName?: string;
  readonly scheduler: Scheduler;
  readonly log: Log;
  /** New files do not make an identity: for metrics. */
  readonly failed?: () => void;
}

// Besides the watch: network file systems and renamed directories send no events.
const POLL_MS = 30_000;
// Three files are not replaced in one step.
const SETTLE_MS = 200;

/** An identity kept in files by somebody else: read at start, and again whenever they change and fit together. */
export class FileIdentity implements IdentitySource {
  readonly #options: FileIdentityOptions;
  readonly #listeners = new Set<(identity: WorkloadIdentity) => void>();
  readonly #paths: readonly [string, string, string];
  #identity: WorkloadIdentity;
  #seen: string;
  #problem: string | undefined;
  #watcher: FSWatcher | undefined;
  #cancels: (() => void)[] = [];

  /** @throws BootstrapError `no-identity`, one line, if the files do not make an identity. */
  constructor(options: FileIdentityOptions) {
    this.#options = options;
    const { directory, key = "tls.key", certificate = "tls.crt", anchors = "ca.crt" } = options;
    this.#paths = [join(directory, key), join(directory, certificate), join(directory, anchors)];
    this.#seen = this.#stamp();
    this.#identity = this.#read(1);
  }

  start(): void {
    const { scheduler, directory } = this.#options;
    const poll = () => {
      this.#look();
      this.#cancels[0] = scheduler.after(POLL_MS, poll);
    };
    this.#cancels[0] = scheduler.after(POLL_MS, poll);
    try {
      this.#watcher = watch(directory, { persistent: false }, () => {
        this.#cancels[1]?.();
        this.#cancels[1] = scheduler.after(SETTLE_MS, () => this.#look());
      });
      this.#watcher.on("error", () => this.#watcher?.close());
    } catch {
      // No watch, then: the poll remains.
    }
  }

  stop(): void {
    this.#watcher?.close();
    for (const cancel of this.#cancels) cancel?.();
  }

  current(): WorkloadIdentity {
    return this.#identity;
  }

  /** Why the present files cannot be taken over; undefined if they are in use. */
  get problem(): string | undefined {
    return this.#problem;
  }

  subscribe(listener: (identity: WorkloadIdentity) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  #look(): void {
    const stamp = this.#stamp();
    if (stamp === this.#seen) return;
    this.#problem = undefined;
    try {
      const identity = this.#read(this.#identity.generation + 1);
      this.#seen = stamp;
      this.#identity = identity;
      for (const listener of this.#listeners) listener(identity);
    } catch (error) {
      // Half-written: the stamp is not remembered, so it is tried again.
      this.#problem = error instanceof Error ? error.message : String(error);
      this.#options.log.warn({ error: this.#problem }, "the identity's files do not fit together; keeping the old one");
      this.#options.failed?.();
    }
  }

  #stamp(): string {
    return this.#paths
      .map((path) => {
        const stat = statSync(path, { throwIfNoEntry: false });
        return stat === undefined ? "none" : `${stat.ino} ${stat.mtimeMs} ${stat.size}`;
      })
      .join("|");
  }

  #read(generation: number): WorkloadIdentity {
    const [keyPath, certificatePath, anchorsPath] = this.#paths;
    const keyPem = readText(keyPath);
    const certificatePem = splitPem(readText(certificatePath)).join("");
    const trustAnchorsPem = splitPem(readText(anchorsPath));
    const key = importKey(keyPem);
    if (key === undefined) throw new BootstrapError("no-identity", `${keyPath} holds no ECDSA P-256 key`);
    if (certificatePem === "") throw new BootstrapError("no-identity", `${certificatePath} holds no certificate`);
    if (trustAnchorsPem.length === 0) throw new BootstrapError("no-identity", `${anchorsPath} holds no certificate`);
    const leaf = new X509Certificate(certificatePem);
    if (!leaf.publicKey.export({ type: "spki", format: "der" }).equals(publicKeyDer(key))) {
      throw new BootstrapError("no-identity", `${certificatePath} is for another key than ${keyPath}`);
    }
    const names = alternativeNames(leaf);
    // Peers name a client by its first name.
    const name = names.find((san) => san.kind !== "other")?.value;
    const uri = names.find((san) => san.kind === "uri")?.value;
    const serverName = this.#options.serverName ?? names.find((san) => san.kind === "dns")?.value;
    if (name === undefined)
      throw new BootstrapError("no-identity", `${certificatePath} has neither a DNS name nor a URI`);
    if (serverName === undefined) {
      throw new BootstrapError("no-identity", `${certificatePath} has no DNS name, and no server name is configured`);
    }
    return { generation, name, uri, serverName, keyPem, certificatePem, trustAnchorsPem, ...validity(leaf) };
  }
}

function readText(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    throw new BootstrapError("no-identity", `${path} cannot be read`, { cause: error });
  }
}
