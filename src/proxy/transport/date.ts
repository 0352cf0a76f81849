import { H, type HeaderList } from "../core/header.ts";
import type { Runtime } from "./runtime.ts";

let second = Number.NaN;
let text = "";

/**
 * Gives a final response the date it lacks: whoever has a clock and passes on a response without one adds it, as
 * Linkerd's HTTP library does.
 * @see RFC 9110 §6.6.1
 */
export function addDate(headers: HeaderList, runtime: Runtime): void {
  if (headers.has(H.date)) return;
  const now = Math.floor(runtime.clock.wallMs() / 1_000);
  if (now !== second) {
    second = now;
    // ECMAScript's form is RFC 9110 §5.6.7's IMF-fixdate.
    text = new Date(now * 1_000).toUTCString();
  }
  headers.add(H.date, text);
}
