import { describe, expect, it } from "vitest";
import {
  type ConnectionRoute,
  defaultRef,
  findTlsRoute,
  type SniMatch,
} from "../../../../../src/proxy/policy/index.ts";

const route = (name: string, ...snis: SniMatch[]): ConnectionRoute => ({
  ref: defaultRef(name),
  snis,
  filters: [],
  distribution: { kind: "empty" },
});
const is = (value: string): SniMatch => ({ kind: "exact", value });
const under = (value: string): SniMatch => ({ kind: "suffix", value });

describe("TLS route", () => {
  const routes = [
    route("rest"),
    route("com", under(".com")),
    route("example", under(".example.com")),
    route("exact", is("a.example.com")),
    route("exact again", is("a.example.com")),
    route("capital", is("B.example.com")),
  ];

  it.each([
    ["a.example.com", "exact"],
    ["a.example.com.", "exact"],
    ["b.example.com", "example"],
    ["example.com", "com"],
    ["com", "rest"],
    ["example.org", "rest"],
  ])("for %s is %s", (sni, name) => {
    expect(findTlsRoute(routes, sni)?.ref.name).toBe(name);
  });

  it("is none where no name fits", () => {
    expect(findTlsRoute([route("x", is("x"))], "y")).toBeUndefined();
  });
});
