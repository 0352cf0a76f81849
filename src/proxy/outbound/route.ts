import { formatSocketAddress, type SocketAddress } from "../core/address.ts";
import { ProxyError } from "../core/errors.ts";
import { H } from "../core/header.ts";
import type { ResponseHead } from "../core/http.ts";
import {
  decideOutbound,
  filterRequest,
  filterResponse,
  type OutboundChoice,
  type OutboundPolicy,
  outboundHttp,
  requestLimits,
} from "../policy/index.ts";
import {
  type AttemptRecorder,
  asProxyError,
  type Exchange,
  type Layer,
  type ResponseLayer,
  stopped,
} from "../stack/index.ts";
import type { OutboundDeps } from "./deps.ts";

/** HTTP/1 that names no authority gets the one it dialled; `:80` is not spelled out (outbound.md §7.5). */
export function authority(originalDst: SocketAddress): Layer {
  const text = formatSocketAddress(originalDst);
  const fallback = originalDst.port === 80 ? text.slice(0, -3) : text;
  return {
    named: "authority",
    wrap: (inner) => ({
      call(x) {
        if (x.request.authority === undefined && x.request.version !== "2") x.request.authority = fallback;
        inner.call(x);
      },
    }),
  };
}

/** Chooses the route, once; later layers only read the choice. */
export function routed(policy: () => OutboundPolicy | undefined, version: "1" | "2", recorder: AttemptRecorder): Layer {
  const spoken = version === "2" ? "2" : "1.1";
  return {
    named: "routed",
    wrap: (inner) => ({
      call(x) {
        const present = policy();
        const http = present && outboundHttp(present, spoken);
        x.judge = present?.ref;
        let choice: OutboundChoice | undefined;
        try {
          choice = http === undefined ? undefined : decideOutbound(http, x.request);
        } catch (error) {
          // A text that no expression can be tested on in time: nobody knows whose route it is.
          return x.fail(asProxyError(error));
        }
        if (choice === undefined) return x.fail(new ProxyError("route-not-found", "no route"));
        x.choice = choice;
        x.route = choice.route.ref;
        if (choice.rule.allowRequestHeaders) choice.limits = requestLimits(choice.rule, x.request.headers);
        const { canonical } = choice.http;
        if (canonical !== undefined) x.request.headers.set(H.l5dDstCanonical, canonical);
        recorder.routed(x);
        inner.call(x);
      },
    }),
  };
}

/** Runs the filters of the route, on every attempt. */
export function filtered(deps: OutboundDeps): Layer {
  const responses: ResponseLayer = {
    onResponse(x: Exchange, head: ResponseHead) {
      if (x.choice !== undefined && x.outcome !== "refused") filterResponse(x.choice.rule.filters, head.headers);
    },
  };
  return {
    named: "filtered",
    wrap: (inner) => ({
      call(x) {
        const { choice } = x;
        if (choice !== undefined && choice.rule.filters.length > 0) {
          const stop = filterRequest(choice.rule.filters, x.request, choice.match, deps.rng);
          if (stop !== undefined) return x.fail(stopped(stop));
          x.observe(responses);
        }
        inner.call(x);
      },
    }),
  };
}
