import { generateKeyPairSync } from "node:crypto";
import {
  derToPem,
  enrollerName,
  type Log,
  type Scheduler,
  type ServerIdentity,
  spkiFingerprint,
} from "../control/index.ts";
import type { Mesh } from "./mesh.ts";

const LIFETIME_MS = 86_400_000;
const RETRY_MS = 10_000;

/**
 * The enroller's own certificate, from the issuer it serves, renewed at 70 % of its life and whenever issuer or roots
 * change. The chain that is shown includes the root: a new host looks for the one its join string pins.
 */
export class OwnIdentity {
  readonly #mesh: Mesh;
  readonly #scheduler: Scheduler;
  readonly #log: Log;
  readonly #changed: (identity: ServerIdentity) => void;
  #cancel: () => void = () => {};
  #unsubscribe: () => void = () => {};
  #issuer: Mesh["issuer"] | undefined;

  constructor(mesh: Mesh, scheduler: Scheduler, log: Log, changed: (identity: ServerIdentity) => void) {
    this.#mesh = mesh;
    this.#scheduler = scheduler;
    this.#log = log;
    this.#changed = changed;
  }

  /** Issues the first one and keeps it fresh. @returns the first; later ones go to the callback. */
  async start(): Promise<ServerIdentity> {
    const first = await this.#issue();
    this.#unsubscribe = this.#mesh.subscribe(() => {
      if (this.#mesh.issuer !== this.#issuer) void this.#renew();
    });
    return first;
  }

  stop(): void {
    this.#cancel();
    this.#unsubscribe();
  }

  async #renew(): Promise<void> {
    try {
      this.#changed(await this.#issue());
    } catch (error) {
      this.#log.error({ error: String(error) }, "could not renew the enroller's own certificate");
      this.#cancel();
      this.#cancel = this.#scheduler.after(RETRY_MS, () => void this.#renew());
    }
  }

  async #issue(): Promise<ServerIdentity> {
    const { issuer, names } = this.#mesh;
    this.#issuer = issuer;
    const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "prime256v1" });
    const spki = publicKey.export({ type: "spki", format: "der" });
    const wallMs = this.#scheduler.wallMs();
    const key = { spki, fingerprint: spkiFingerprint(spki) };
    const issued = await issuer.issue(key, { dns: enrollerName(names), uri: undefined }, LIFETIME_MS, wallMs);
    this.#cancel();
    this.#cancel = this.#scheduler.after(0.7 * (issued.notAfterMs - wallMs), () => void this.#renew());
    const root = issuer.rootPem;
    const chain = issued.chain.map(derToPem);
    return {
      keyPem: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      certificatePem: [...chain, ...(chain.includes(root) ? [] : [root])].join(""),
      trustAnchorsPem: issuer.trustAnchorsPem,
    };
  }
}
