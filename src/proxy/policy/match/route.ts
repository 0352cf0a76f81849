import type { HostMatch, RouteMatch } from "../model.ts";
import { matchGrpc } from "./grpc.ts";
import { NO_HOST, rankHosts } from "./host.ts";
import { matchHttp } from "./http.ts";
import { Rank } from "./rank.ts";
import type { RequestView } from "./request.ts";

export interface Matchable {
  readonly hosts: readonly HostMatch[];
  readonly rules: readonly { readonly matches: readonly RouteMatch[] }[];
}

/** What a rule without matches stands for. */
const EVERYTHING: RouteMatch = { kind: "http", method: undefined, path: undefined, headers: [], query: [] };
const EVERYTHING_LIST: readonly RouteMatch[] = [EVERYTHING];

/**
 * Finds the best route, its best rule and that rule's best match. Ranks by host, then by match; the first in the list
 * wins ties. One finder serves all requests in turn: the result is valid until the next call.
 */
export class RouteFinder {
  /** Positions in the lists that were searched. */
  route = -1;
  rule = -1;
  match: RouteMatch = EVERYTHING;
  readonly #best = new Rank();
  readonly #candidate = new Rank();

  /** @returns Whether any route fits. */
  find(routes: readonly Matchable[], request: RequestView): boolean {
    let bestHost = NO_HOST;
    this.route = -1;
    for (let r = 0; r < routes.length; r++) {
      const { hosts, rules } = routes[r] as Matchable;
      const host = hosts.length === 0 ? 0 : rankHosts(hosts, request.host);
      if (host === NO_HOST || host < bestHost) continue;
      // A better host alone does not win: one of the route's rules must fit, too.
      let hostWins = host > bestHost;
      for (let i = 0; i < rules.length; i++) {
        const matches = rules[i]?.matches as readonly RouteMatch[];
        for (const match of matches.length === 0 ? EVERYTHING_LIST : matches) {
          if (!this.#fits(match, request)) continue;
          if (!hostWins && !this.#candidate.beats(this.#best)) continue;
          hostWins = false;
          bestHost = host;
          this.#best.copy(this.#candidate);
          this.route = r;
          this.rule = i;
          this.match = match;
        }
      }
    }
    return this.route >= 0;
  }

  #fits(match: RouteMatch, request: RequestView): boolean {
    return match.kind === "http"
      ? matchHttp(match, request, this.#candidate)
      : matchGrpc(match, request, this.#candidate);
  }
}
