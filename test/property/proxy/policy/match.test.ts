import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ProxyError } from "../../../../src/proxy/core/errors.ts";
import { HeaderList } from "../../../../src/proxy/core/header.ts";
import { compilePattern } from "../../../../src/proxy/discovery/index.ts";
import type { HttpMatch, PathMatch } from "../../../../src/proxy/policy/index.ts";
import { matchPath, RequestView, RouteFinder } from "../../../../src/proxy/policy/match/index.ts";
import { headers, requestHead } from "../../../support/http1.ts";

const segment = fc.constantFrom("", "a", "b", "aa");
const path = fc.array(segment, { maxLength: 4 }).map((segments) => `/${segments.join("/")}`);
const trim = (text: string): string => text.replace(/\/+$/, "");
const pathMatch: fc.Arbitrary<PathMatch> = fc.oneof(
  path.map((text): PathMatch => ({ kind: "exact", path: text })),
  path.map((text): PathMatch => ({ kind: "prefix", prefix: trim(text) })),
);
const httpMatch: fc.Arbitrary<HttpMatch> = fc.record({
  kind: fc.constant("http" as const),
  method: fc.constantFrom(undefined, "GET", "PUT"),
  path: fc.option(pathMatch, { nil: undefined }),
  headers: fc.constantFrom([], [{ name: "x", value: { kind: "exact", value: "1" } as const }]),
  query: fc.constantFrom([], [{ name: "q", value: { kind: "exact", value: "1" } as const }]),
});

/** The rules of the spec, written as naively as possible. */
function rank(match: HttpMatch, method: string, target: string, x: boolean, q: boolean): number[] | undefined {
  const given = match.path ?? { kind: "prefix", prefix: "" };
  let length = 1;
  if (given.kind === "exact") {
    if (given.path !== target) return undefined;
    length = target.length;
  } else if (given.kind === "prefix" && given.prefix !== "") {
    if (`${target}/`.slice(0, given.prefix.length + 1) !== `${given.prefix}/`) return undefined;
    length = given.prefix.length;
  }
  if (match.method !== undefined && match.method !== method) return undefined;
  if ((match.headers.length > 0 && !x) || (match.query.length > 0 && !q)) return undefined;
  return [length, match.headers.length, match.query.length, match.method === undefined ? 0 : 1];
}

function compare(a: readonly number[], b: readonly number[]): number {
  const at = a.findIndex((value, i) => value !== b[i]);
  return at < 0 ? 0 : (a[at] as number) - (b[at] as number);
}

describe("route choice", () => {
  it("is the highest rank, the first of equals", () => {
    const routes = fc.array(fc.array(fc.array(httpMatch, { minLength: 1, maxLength: 3 }), { maxLength: 3 }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(
        routes,
        fc.constantFrom("GET", "PUT"),
        path,
        fc.boolean(),
        fc.boolean(),
        (given, method, target, x, q) => {
          let best: { rank: number[]; at: string } | undefined;
          given.forEach((rules, r) => {
            rules.forEach((matches, i) => {
              for (const match of matches) {
                const found = rank(match, method, target, x, q);
                if (found !== undefined && (best === undefined || compare(found, best.rank) > 0)) {
                  best = { rank: found, at: `${r}.${i}` };
                }
              }
            });
          });
          const finder = new RouteFinder();
          const head = requestHead({
            method,
            path: q ? `${target}?q=1` : target,
            headers: x ? headers(["X", "1"]) : headers(),
          });
          const list = given.map((rules) => ({ hosts: [], rules: rules.map((matches) => ({ matches })) }));
          const found = finder.find(list, new RequestView(new HeaderList()).load(head));
          expect(found ? `${finder.route}.${finder.rule}` : undefined).toBe(best?.at);
        },
      ),
    );
  });

  it("takes whatever stands in a query", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary-ascii" }), (query) => {
        const pairs = new RequestView(new HeaderList()).load(requestHead({ path: `/?${query}` })).query;
        expect(pairs).toEqual([...new URLSearchParams(query.replace(/^\?/, "%3F"))].flat());
      }),
    );
  });
});

describe("expressions", () => {
  it("match when the leftmost match spans all, as an unanchored search tells", () => {
    const source = fc.array(fc.constantFrom("a", "b", "|", "a*", "(?:a|ab)", "b+", ".", "^", "$"), {
      minLength: 1,
      maxLength: 5,
    });
    fc.assert(
      fc.property(source, fc.string({ unit: fc.constantFrom("a", "b"), maxLength: 6 }), (pieces, text) => {
        const found = new RegExp(pieces.join("")).exec(text);
        const spans = found !== null && found.index === 0 && found[0].length === text.length;
        expect(compilePattern(pieces.join(""))?.(text)).toBe(spans);
      }),
    );
  });

  it.each(["(?:a?){1000}a{1000}", "((.?){30}){30}", "(a|aa){500}b", "(?:a*a*){400}b", "(a{500}){2}"])(
    "take no longer than a request may, or refuse to be tested: %s",
    (source) => {
      const matches = compilePattern(source);
      for (const length of [100, 1_000, 8_000, 60_000]) {
        const cpu = process.cpuUsage();
        let refused: unknown;
        try {
          matches?.(`${"a".repeat(length)}!`);
        } catch (error) {
          refused = error;
        }
        const { user } = process.cpuUsage(cpu);
        // Ten times what it takes on a quiet machine would still be less than what 60,000 characters took untested.
        expect(user).toBeLessThan(4_000_000);
        if (length === 60_000) expect(refused).toBeInstanceOf(ProxyError);
      }
    },
  );

  it.each(["((a{100}){100}){10}", "(a{1000}){1000}", "a{1001}", `(${"a|".repeat(5_000)})`])(
    "are refused when they unfold into too much: %#",
    (source) => {
      expect(compilePattern(source)).toBeUndefined();
    },
  );

  it("take linear time where backtracking explodes", () => {
    const matches = compilePattern("(a*)*b");
    expect(matches?.("a".repeat(50_000))).toBe(false);
    expect(
      matchPath({ kind: "regex", pattern: { source: "", ...(matches && { matches }) } }, `${"a".repeat(50_000)}b`),
    ).toBe(50_001);
  });
});
