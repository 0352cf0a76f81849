/** How to reach an API server, as a kubeconfig file says it. */
export interface Reach {
  /** Such as `https://127.0.0.1:6443`. */
  readonly server: string;
  /** PEM of the certificate to trust; absent for plain HTTP. */
  readonly certificateAuthority?: string;
  readonly token?: string;
}

/** A kubeconfig with one context, `mesh-agent-lab`. It is JSON, which is YAML. */
export function kubeconfig(reach: Reach): string {
  const name = "mesh-agent-lab";
  const authority = reach.certificateAuthority;
  const config = {
    apiVersion: "v1",
    kind: "Config",
    "current-context": name,
    clusters: [
      {
        name,
        cluster: {
          server: reach.server,
          ...(authority ? { "certificate-authority-data": Buffer.from(authority).toString("base64") } : {}),
        },
      },
    ],
    contexts: [{ name, context: { cluster: name, user: name } }],
    users: [{ name, user: reach.token ? { token: reach.token } : {} }],
  };
  return `${JSON.stringify(config, null, 2)}\n`;
}
