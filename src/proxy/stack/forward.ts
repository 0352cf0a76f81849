import type { Dispatcher } from "./dispatcher.ts";
import type { Exchange } from "./exchange.ts";
import type { Service } from "./service.ts";

/** The innermost service: hands the exchange to the pool that `choose` names. */
export function forward(choose: (x: Exchange) => Dispatcher): Service & { readonly named: string } {
  return { named: "forward", call: (x) => choose(x).dispatch(x) };
}
