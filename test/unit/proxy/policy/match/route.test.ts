import { describe, expect, it } from "vitest";
import { HeaderList } from "../../../../../src/proxy/core/header.ts";
import type { RequestHead } from "../../../../../src/proxy/core/http.ts";
import { compilePattern } from "../../../../../src/proxy/discovery/index.ts";
import type {
  GrpcMatch,
  HostMatch,
  HttpMatch,
  NamedMatch,
  PathMatch,
  Pattern,
  RouteMatch,
} from "../../../../../src/proxy/policy/index.ts";
import { matchPath, RequestView, RouteFinder, rankHosts } from "../../../../../src/proxy/policy/match/index.ts";
import { headers, requestHead } from "../../../../support/http1.ts";

const pattern = (source: string): Pattern => {
  const matches = compilePattern(source);
  if (matches === undefined) throw new Error(`does not compile: ${source}`);
  return { source, matches };
};
const exact = (path: string): PathMatch => ({ kind: "exact", path });
const prefix = (text: string): PathMatch => ({ kind: "prefix", prefix: text.replace(/\/+$/, "") });
const regex = (source: string): PathMatch => ({ kind: "regex", pattern: pattern(source) });
const http = (more: Partial<HttpMatch> = {}): HttpMatch => ({
  kind: "http",
  method: undefined,
  path: undefined,
  headers: [],
  query: [],
  ...more,
});
const named = (name: string, value: string): NamedMatch => ({ name, value: { kind: "exact", value } });
const namedRegex = (name: string, source: string): NamedMatch => ({
  name,
  value: { kind: "regex", pattern: pattern(source) },
});

describe("path match", () => {
  it.each<[string, PathMatch, string, number]>([
    ["exact", exact("/a"), "/a", 2],
    ["exact, not a prefix", exact("/a"), "/a/b", -1],
    ["exact is not decoded", exact("/a b"), "/a%20b", -1],
    ["prefix / takes all", prefix("/"), "/x", 1],
    ["prefix", prefix("/foo"), "/foo/bar", 4],
    ["prefix with slash takes the bare one", prefix("/foo/"), "/foo", 4],
    ["prefix takes a trailing slash", prefix("/foo"), "/foo/", 4],
    ["prefix takes whole segments only", prefix("/foo"), "/foobar", -1],
    ["regex counts the whole path", regex("/a.*"), "/abcdef", 7],
    ["regex must span", regex("/a"), "/ab", -1],
    ["regex must start at the start", regex("b"), "/b", -1],
    ["leftmost-first alternation", regex("/a|/ab"), "/ab", -1],
    ["the other way round", regex("/ab|/a"), "/ab", 3],
  ])("%s", (_, match, path, length) => {
    expect(matchPath(match, path)).toBe(length);
  });

  it("never matches an expression that was not compiled", () => {
    expect(matchPath({ kind: "regex", pattern: { source: ".*" } }, "/")).toBe(-1);
  });
});

describe("host match", () => {
  const is = (host: string): HostMatch => ({ kind: "exact", host });
  const under = (suffix: string): HostMatch => ({ kind: "suffix", suffix });

  it.each<[string, HostMatch[], string | undefined, boolean]>([
    ["none given takes any", [], "a.b", true],
    ["none given takes none", [], undefined, true],
    ["exact", [is("a.b")], "a.b", true],
    ["one trailing dot is ignored", [is("a.b")], "a.b.", true],
    ["but not two", [is("a.b")], "a.b..", false],
    ["unless the pattern has one", [is("a.b.")], "a.b", false],
    ["then it must be there", [is("a.b.")], "a.b.", true],
    ["suffix", [under(".example.com")], "x.example.com", true],
    ["suffix of several labels", [under(".example.com")], "x.y.example.com", true],
    ["suffix needs a label", [under(".example.com")], "example.com", false],
    ["suffix begins at a label", [under(".example.com")], "xexample.com", false],
    ["suffix ignores the dot, too", [under(".example.com")], "x.example.com.", true],
    ["no host", [is("a.b")], undefined, false],
  ])("%s", (_, hosts, host, fits) => {
    expect(rankHosts(hosts, host) >= 0).toBe(fits);
  });

  it("ranks exact over suffix over none, then by length", () => {
    const ranks = [
      rankHosts([], "a.example.com"),
      rankHosts([under(".com")], "a.example.com"),
      rankHosts([under(".example.com"), under(".com")], "a.example.com"),
      rankHosts([is("a.example.com"), under(".example.com")], "a.example.com"),
    ];
    expect(ranks).toEqual(ranks.toSorted((a, b) => a - b));
    expect(new Set(ranks).size).toBe(4);
  });
});

function find(
  routes: readonly { hosts?: HostMatch[]; rules: readonly (readonly RouteMatch[])[] }[],
  head: Partial<RequestHead>,
): string | undefined {
  const finder = new RouteFinder();
  const view = new RequestView(new HeaderList());
  const found = finder.find(
    routes.map(({ hosts, rules }) => ({ hosts: hosts ?? [], rules: rules.map((matches) => ({ matches })) })),
    view.load(requestHead(head)),
  );
  return found ? `${finder.route}.${finder.rule}` : undefined;
}

describe("route choice", () => {
  it("finds nothing in nothing", () => {
    expect(find([], {})).toBeUndefined();
    expect(find([{ rules: [] }], {})).toBeUndefined();
  });

  it("takes a rule without matches as the prefix /", () => {
    expect(find([{ rules: [[]] }], { path: "/any" })).toBe("0.0");
    expect(find([{ rules: [[], [http({ path: prefix("/") })]] }], {})).toBe("0.0");
    expect(find([{ rules: [[], [http({ path: prefix("/any") })]] }], { path: "/any" })).toBe("0.1");
  });

  it("lets the first win a tie", () => {
    const twice = { rules: [[http({ path: exact("/a") })]] };
    expect(find([twice, twice], { path: "/a" })).toBe("0.0");
  });

  it("ranks by length and not by kind", () => {
    const routes = [{ rules: [[http({ path: prefix("/a") })], [http({ path: exact("/a") })]] }];
    expect(find(routes, { path: "/a" })).toBe("0.0");
    const pair = [{ rules: [[http({ path: exact("/abc") })], [http({ path: regex("/a.*") })]] }];
    expect(find(pair, { path: "/abc" })).toBe("0.0");
    const longer = [{ rules: [[http({ path: prefix("/a/b") })], [http({ path: regex("/a/.*") })]] }];
    expect(find(longer, { path: "/a/b/c" })).toBe("0.1");
  });

  it("ranks path, then headers, then query, then method", () => {
    const path = http({ path: prefix("/aa") });
    const header = http({ headers: [named("x", "1")] });
    const query = http({ query: [named("q", "1")] });
    const method = http({ method: "GET" });
    const head = { path: "/aa?q=1", headers: headers(["X", "1"]) };
    expect(find([{ rules: [[method], [query], [header], [path]] }], head)).toBe("0.3");
    expect(find([{ rules: [[method], [query], [header]] }], head)).toBe("0.2");
    expect(find([{ rules: [[method], [query]] }], head)).toBe("0.1");
    expect(find([{ rules: [[], [method]] }], head)).toBe("0.1");
  });

  it("ranks the host above everything, but only of routes that fit", () => {
    const any = { rules: [[http({ path: exact("/long/path") })]] };
    const exactHost = { hosts: [{ kind: "exact", host: "a.b" } as const], rules: [[]] };
    const other = { hosts: [{ kind: "exact", host: "a.b" } as const], rules: [[http({ method: "PUT" })]] };
    expect(find([any, exactHost], { path: "/long/path", authority: "A.b:80" })).toBe("1.0");
    expect(find([any, other], { path: "/long/path", authority: "a.b" })).toBe("0.0");
    expect(find([exactHost], { authority: undefined })).toBeUndefined();
  });

  it("wants every header, by any of its values", () => {
    const rules = [[http({ headers: [named("x", "2"), namedRegex("y", "[0-9]+")] })]];
    expect(find([{ rules }], { headers: headers(["X", "1"], ["x", "2"], ["y", "42"]) })).toBe("0.0");
    expect(find([{ rules }], { headers: headers(["x", "2"]) })).toBeUndefined();
    expect(find([{ rules }], { headers: headers(["x", "2"], ["y", "a42"]) })).toBeUndefined();
  });

  it("shows expressions only values that are text", () => {
    const rules = [[http({ headers: [namedRegex("x", "(?s).*")] })]];
    expect(find([{ rules }], { headers: headers(["x", "caf\xe9"]) })).toBeUndefined();
    expect(find([{ rules }], { headers: headers(["x", "cafe\t"]) })).toBe("0.0");
  });

  it.each([
    ["q=1", "q", "1", true],
    ["a=b&q=1", "q", "1", true],
    ["q=0&q=1", "q", "1", true],
    ["q", "q", "", true],
    ["q=a%20b", "q", "a b", true],
    ["q=a+b", "q", "a b", true],
    ["%71=1", "q", "1", true],
    ["q=%C3%A9", "q", "é", true],
    ["q=%zz", "q", "%zz", true],
    ["Q=1", "q", "1", false],
    ["", "q", "", false],
  ])("decodes the query %s", (query, name, value, fits) => {
    expect(find([{ rules: [[http({ query: [named(name, value)] })]] }], { path: `/?${query}` })).toBe(
      fits ? "0.0" : undefined,
    );
  });

  describe("gRPC", () => {
    const call = (service: string, method: string, more: Partial<GrpcMatch> = {}): GrpcMatch => ({
      kind: "grpc",
      service,
      method,
      headers: [],
      ...more,
    });
    const post = (path: string) => ({ method: "POST", path });

    it.each<[string, GrpcMatch, Partial<RequestHead>, boolean]>([
      ["service and method", call("s.S", "M"), post("/s.S/M"), true],
      ["any method", call("s.S", ""), post("/s.S/M"), true],
      ["any service", call("", "M"), post("/s.S/M"), true],
      ["any call", call("", ""), post("/s.S/M"), true],
      ["more segments", call("s.S", "M"), post("/s.S/M/x"), true],
      ["other service", call("s.S", ""), post("/s.SS/M"), false],
      ["other method", call("", "M"), post("/s.S/MM"), false],
      ["one segment", call("", ""), post("/s.S"), false],
      ["GET", call("", ""), { method: "GET", path: "/s.S/M" }, false],
      ["header missing", call("", "", { headers: [named("x", "1")] }), post("/s.S/M"), false],
    ])("%s", (_, match, head, fits) => {
      expect(find([{ rules: [[match]] }], head)).toBe(fits ? "0.0" : undefined);
    });

    it("ranks service, then method, then headers", () => {
      const byHeader = call("", "", { headers: [named("x", "1")] });
      const head = { ...post("/s.S/Method"), headers: headers(["x", "1"]) };
      expect(find([{ rules: [[byHeader], [call("", "Method")], [call("s.S", "")]] }], head)).toBe("0.2");
      expect(find([{ rules: [[call("", "")], [byHeader]] }], head)).toBe("0.1");
    });
  });
});
