/**
 * What a workload proves itself with: a private key, its certificate chain and the roots it believes. One object per
 * generation; a renewal makes a new one.
 */
export interface WorkloadIdentity {
  /** Rises with every renewal or change of trust anchors. */
  readonly generation: number;
  /** The first SAN: `SA.NS.serviceaccount.identity.L5D.TD`; what peers call us as a client. */
  readonly name: string;
  /** The URI SAN, `spiffe://TD/ns/NS/sa/SA`; undefined where the certificate has none (a pod's). */
  readonly uri: string | undefined;
  /** The name that peers put in SNI to reach our mesh TLS: the DNS name. */
  readonly serverName: string;
  /** PKCS#8 PEM. Never logged, never in an error. */
  readonly keyPem: string;
  /** Leaf first, then intermediates, PEM. */
  readonly certificatePem: string;
  /** Every root of the bundle, PEM. */
  readonly trustAnchorsPem: readonly string[];
  /** Validity of the leaf, Unix milliseconds. */
  readonly notBeforeMs: number;
  readonly notAfterMs: number;
}

/** Where identities come from: the enroller, files, or a SPIFFE Workload API. */
export interface IdentitySource {
  current(): WorkloadIdentity | undefined;
  /** Calls back on every new generation, not for the present one. Returns the way to stop. */
  subscribe(listener: (identity: WorkloadIdentity) => void): () => void;
}
