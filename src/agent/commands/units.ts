/** The service, and the units that would start it again or bring its rules back. */
export const SERVICE = "mesh-agent.service";

/** Those that hold its listeners. */
export const SOCKETS = ["inbound", "outbound", "dns", "admin", "control"].map((role) => `mesh-agent-${role}.socket`);

/** Those that watch what it writes. */
export const PATHS = ["mesh-agent-intercept.path", "mesh-agent-names.path"];
