import { describe, expect, it } from "vitest";
import type { RequestHead } from "../../../../src/proxy/core/http.ts";
import {
  type Filter,
  type FilterStop,
  filterRequest,
  filterResponse,
  type HttpMatch,
  type RedirectFilter,
} from "../../../../src/proxy/policy/index.ts";
import { headers, requestHead } from "../../../support/http1.ts";

const half = () => 0.5;
const prefixMatch = (prefix: string): HttpMatch => ({
  kind: "http",
  method: undefined,
  path: { kind: "prefix", prefix },
  headers: [],
  query: [],
});

function run(filter: Filter, head: Partial<RequestHead> = {}, match = prefixMatch("")): FilterStop | undefined {
  return filterRequest([filter], requestHead(head), match, half);
}

describe("header filters", () => {
  const changes = {
    add: [{ name: "x", value: "3" }],
    set: [
      { name: "y", value: "2" },
      { name: "Z", value: "new" },
    ],
    remove: ["gone"],
  };

  it("add, then set, then remove", () => {
    const list = headers(["X", "1"], ["Y", "1"], ["y", "1b"], ["Gone", "1"]);
    const head = requestHead({ headers: list });
    expect(filterRequest([{ kind: "request-headers", changes }], head, undefined, half)).toBeUndefined();
    expect(list.names.map((name, i) => `${name.lower}=${list.values[i]}`)).toEqual(["x=1", "y=2", "x=3", "z=new"]);
  });

  it("remove has the last word", () => {
    const list = headers();
    const both = { add: [{ name: "a", value: "1" }], set: [{ name: "a", value: "2" }], remove: ["a"] };
    filterRequest([{ kind: "request-headers", changes: both }], requestHead({ headers: list }), undefined, half);
    expect(list.length).toBe(0);
  });

  it("leave the other direction alone", () => {
    const list = headers(["gone", "1"]);
    filterRequest([{ kind: "response-headers", changes }], requestHead({ headers: list }), undefined, half);
    expect(list.length).toBe(1);
    filterResponse([{ kind: "request-headers", changes }], list);
    expect(list.length).toBe(1);
    filterResponse([{ kind: "response-headers", changes }], list);
    expect(list.getByLower("gone")).toBeUndefined();
    expect(list.getByLower("x")).toBe("3");
  });
});

describe("failures", () => {
  const failure = (numerator: number, denominator: number): Filter => ({
    kind: "http-failure",
    status: 418,
    message: "no",
    ratio: { numerator, denominator },
  });

  it("strike by chance", () => {
    expect(run(failure(1, 1))).toEqual({ kind: "http-failure", status: 418, message: "no" });
    expect(run(failure(51, 100))?.kind).toBe("http-failure");
    expect(run(failure(50, 100))).toBeUndefined();
    expect(run(failure(0, 100))).toBeUndefined();
  });

  it("come as gRPC, too", () => {
    const filter: Filter = { kind: "grpc-failure", code: 7, message: "no", ratio: { numerator: 1, denominator: 1 } };
    expect(run(filter)).toEqual({ kind: "grpc-failure", code: 7, message: "no" });
  });

  it("end the list", () => {
    const list = headers();
    const later: Filter = {
      kind: "request-headers",
      changes: { add: [{ name: "x", value: "1" }], set: [], remove: [] },
    };
    const broken: Filter = { kind: "internal-error", message: "unknown" };
    expect(filterRequest([broken, later], requestHead({ headers: list }), undefined, half)).toEqual({
      kind: "internal-error",
      message: "unknown",
    });
    expect(list.length).toBe(0);
  });
});

describe("redirect", () => {
  const redirect = (more: Partial<RedirectFilter>): RedirectFilter => ({
    kind: "redirect",
    scheme: undefined,
    host: undefined,
    port: undefined,
    path: undefined,
    status: 301,
    ...more,
  });
  const to = (path: string, kind: "full" | "prefix") =>
    kind === "full" ? { kind, path } : ({ kind, prefix: path } as const);

  it.each<[string, Partial<RedirectFilter>, Partial<RequestHead>, string]>([
    ["scheme", { scheme: "https" }, { authority: "a.b" }, "https://a.b/x?q"],
    ["scheme keeps the port", { scheme: "https" }, { authority: "a.b:80" }, "https://a.b:80/x?q"],
    ["host", { host: "c.d" }, { authority: "a.b" }, "http://c.d/x?q"],
    ["host keeps the port", { host: "c.d" }, { authority: "a.b:8080" }, "http://c.d:8080/x?q"],
    ["host drops the default port", { host: "c.d" }, { authority: "a.b:80" }, "http://c.d/x?q"],
    ["host and port, even the default", { host: "c.d", port: 80 }, { authority: "a.b" }, "http://c.d:80/x?q"],
    ["port", { port: 8080 }, { authority: "a.b:1" }, "http://a.b:8080/x?q"],
    ["port drops the default", { scheme: "https", port: 443 }, { authority: "a.b:1" }, "https://a.b/x?q"],
    ["port of IPv6", { port: 8080 }, { authority: "[fd00::1]" }, "http://[fd00::1]:8080/x?q"],
    ["full path drops the query", { path: to("/new", "full") }, { authority: "a.b" }, "http://a.b/new"],
  ])("%s", (_, filter, head, location) => {
    expect(run(redirect(filter), { path: "/x?q", ...head })).toEqual({ kind: "redirect", status: 301, location });
  });

  it.each([
    ["/foo", "/xyz", "/foo/bar?q", "/xyz/bar?q"],
    ["/foo", "/xyz/", "/foo/bar", "/xyz/bar"],
    ["/foo", "/xyz", "/foo", "/xyz"],
    ["/foo", "/xyz", "/foo/", "/xyz/"],
    ["/foo", "/", "/foo/bar", "/bar"],
    ["/foo", "/", "/foo", "/"],
    ["", "/xyz", "/foo", "/xyz/foo"],
  ])("replaces prefix %j by %s: %s becomes %s", (matched, replacement, path, result) => {
    const stop = run(redirect({ path: to(replacement, "prefix") }), { path, authority: "a" }, prefixMatch(matched));
    expect(stop).toEqual({ kind: "redirect", status: 301, location: `http://a${result}` });
  });

  it("cannot replace a prefix that was not matched by", () => {
    const match: HttpMatch = { ...prefixMatch(""), path: { kind: "exact", path: "/x" } };
    expect(run(redirect({ path: to("/y", "prefix") }), { path: "/x" }, match)?.kind).toBe("internal-error");
  });

  it("does not lead to where the request is", () => {
    expect(run(redirect({ scheme: "http", host: "a" }), { authority: "a", path: "/x" })).toBeUndefined();
  });

  it("needs a host from somewhere", () => {
    expect(run(redirect({ scheme: "https" }), { authority: undefined })?.kind).toBe("internal-error");
    expect(run(redirect({ port: 1 }), { authority: undefined })?.kind).toBe("internal-error");
  });
});
