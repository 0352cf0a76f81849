import type { Exchange } from "./exchange.ts";

/** The far end of a stack: carries an exchange to one endpoint. A pool of `transport` stands behind it. */
export interface Dispatcher {
  dispatch(x: Exchange): void;
}
