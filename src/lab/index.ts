/**
 * The lab: a whole mesh on one Linux machine, for trying, testing and showing. Not a control plane for production.
 *
 * `up.ts` composes it: hosts from `netns.ts` (network namespaces on a bridge), the control plane of
 * `control-plane.ts` (the API of `api/`, the controllers of `controllers/`, Linkerd's services of `linkerd/`, DNS) in
 * a process of its own, the real enroller, the real agent on every host (`agent-on-host.ts`), the sample programs of
 * `apps/`. `demo/` shows it. Uses everything; nothing uses it but the commands. Start reading in `up.ts`.
 */
export { AgentOnHost } from "./agent-on-host.ts";
export { CLUSTER_DOMAIN, podIdentity, SERVICE_CIDR, startControlPlane } from "./control-plane.ts";
export { serveControlPlane } from "./control-plane-process.ts";
export { type Host, Network } from "./netns.ts";
export { type HostState, type LabState, runningLabs } from "./state.ts";
export { type AppKind, Lab, type LabOptions } from "./up.ts";
