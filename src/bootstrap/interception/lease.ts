/**
 * How the agent keeps new connections coming its way: every {@link LEASE.renewEveryMs} and only after its own
 * connection to {@link PROBE} arrived at a worker's outbound listener, it sends an empty datagram to {@link LEASE}'s
 * address of the same family. A rule of our table sees that datagram leave and renews the family's element of the lease.
 * No privilege is needed and nobody receives the datagram: send it from a socket that is not connected, so that the
 * kernel's "port unreachable" is nobody's error.
 */
export const LEASE = {
  /** UDP. */
  port: 4189,
  v4: "127.0.0.1",
  v6: "::1",
  renewEveryMs: 2000,
  /** Then the kernel lets new connections go direct, or refuses them. */
  lastsMs: 10_000,
} as const;

/**
 * Where the agent's self-probe connects, from any socket of its uid. It is captured with or without a lease; the
 * outbound listener sees this address as the original destination and the probe's own port as the client's, and ends
 * the connection at once. From documentation ranges (RFC 5737, RFC 3849), so nothing real is hidden by it; our routing
 * rules lead there even on a host without a default route, and nobody else.
 */
export const PROBE = {
  /** TCP. */
  port: 4189,
  v4: "192.0.2.1",
  v6: "2001:db8::1",
} as const;
