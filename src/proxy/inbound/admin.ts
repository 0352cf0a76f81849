import { formatSocketAddress, type SocketAddress } from "../core/address.ts";
import { ProxyError } from "../core/errors.ts";
import { H } from "../core/header.ts";
import type { Exchange, Layer } from "../stack/index.ts";

// What a scraper or a probe of another host has to know. The rest of the admin server is for this host's users.
const PATHS: ReadonlySet<string> = new Set(["/metrics", "/live", "/ready"]);

/** Carries a permitted request of the mesh to our own admin server, which listens on loopback and knows no other name. */
export function adminOnly(admin: SocketAddress): Layer {
  const host = formatSocketAddress({ ip: "127.0.0.1", port: admin.port });
  return {
    named: "admin",
    wrap: (inner) => ({
      call(x: Exchange) {
        const { request } = x;
        const path = request.path.split("?", 1)[0] as string;
        if ((request.method !== "GET" && request.method !== "HEAD") || !PATHS.has(path))
          return x.fail(new ProxyError("route-not-found"));
        // It speaks HTTP/1 only.
        request.version = "1.1";
        request.form = "origin";
        request.authority = host;
        request.headers.set(H.host, host);
        inner.call(x);
      },
    }),
  };
}
