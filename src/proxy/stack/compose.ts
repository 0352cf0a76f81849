import type { Layer, Service } from "./service.ts";

/** A composed service that can say how it is built: `rescue > decide > forward`. */
export interface Stack extends Service {
  readonly named: string;
}

/**
 * Builds a stack once per target. Layers are listed outermost first, so that reading order is request order; `last`
 * answers.
 */
export function compose(layers: readonly Layer[], last: Service & { readonly named: string }): Stack {
  let service: Service = last;
  for (const layer of layers.toReversed()) service = layer.wrap(service);
  const named = [...layers.map((layer) => layer.named), last.named].join(" > ");
  const outermost = service;
  return { named, call: (x) => outermost.call(x) };
}
