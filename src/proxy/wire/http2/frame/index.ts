/**
 * The frames of RFC 9113 §6, one file per type: how each is written into a sink and how its payload is read in place.
 * No objects are made per frame; what a payload means for a stream or the connection is `connection.ts`. Imports core
 * only. Start with `header.ts`.
 */
export * from "./continuation.ts";
export * from "./data.ts";
export * from "./goaway.ts";
export * from "./header.ts";
export * from "./headers.ts";
export * from "./ping.ts";
export * from "./priority.ts";
export * from "./rst-stream.ts";
export * from "./settings.ts";
export * from "./window-update.ts";
