import type { SecureContext } from "node:tls";
import type { WorkloadIdentity } from "../core/identity.ts";
import type { Logger } from "../core/log.ts";
import { clientContext } from "./tls-identity.ts";
import { TlsTerminator } from "./tls-server.ts";

/** Both roles of mesh TLS for one worker, following the identity from generation to generation. */
export class MeshTls {
  readonly #log: Logger;
  readonly #groups: string | undefined;
  #identity: WorkloadIdentity | undefined;
  #context: SecureContext | undefined;
  #terminator: TlsTerminator | undefined;

  /** @param groups - Key exchange groups instead of ours, for comparisons with peers that have fewer. */
  constructor(log: Logger, groups?: string) {
    this.#log = log;
    this.#groups = groups;
  }

  update(identity: WorkloadIdentity): void {
    this.#identity = identity;
    this.#context = clientContext(identity, this.#groups);
    if (this.#terminator === undefined) this.#terminator = new TlsTerminator(identity, this.#log, this.#groups);
    else this.#terminator.update(identity, this.#groups);
  }

  get identity(): WorkloadIdentity | undefined {
    return this.#identity;
  }

  /** For connections that we open; undefined until there is an identity. */
  get context(): SecureContext | undefined {
    return this.#context;
  }

  /** For connections that reach us; undefined until there is an identity. */
  get terminator(): TlsTerminator | undefined {
    return this.#terminator;
  }
}
