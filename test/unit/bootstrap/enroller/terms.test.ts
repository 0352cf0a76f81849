import { describe, expect, it } from "vitest";
import { usableAddresses } from "../../../../src/bootstrap/enroller/address.ts";
import {
  checkTerms,
  opaquePortsOf,
  parseDuration,
  parseLabel,
  parseProbe,
  parseWorkloadPort,
} from "../../../../src/bootstrap/enroller/index.ts";
import { testTerms } from "../../../support/mesh-kube.ts";

const port = (name: string, number: number) => ({ name, port: number, protocol: "TCP" }) as const;

describe("terms", () => {
  it("are accepted when they make sense", () => expect(checkTerms(testTerms())).toBeUndefined());
  it.each([
    ["a name that is no label", { name: "Legacy_App" }],
    ["a name too long for a host name", { name: "a".repeat(55) }],
    ["a port twice", { ports: [port("a", 1), port("b", 1)] }],
    ["a port without a letter", { ports: [port("80", 80)] }],
    ["port zero", { ports: [port("a", 0)] }],
    ["our own labels", { labels: { "mesh-agent/managed": "false" } }],
    ["a label value with a space", { labels: { a: "b c" } }],
    ["no use", { uses: 0 }],
  ])("are refused with %s", (_what, overrides) => {
    expect(checkTerms(testTerms(overrides))).toMatch(/^.+$/);
  });
});

it("treats what the cluster treats as opaque as opaque, unless its name says HTTP", () => {
  expect(opaquePortsOf([port("mysql", 3306), port("http-odd", 4444), port("web", 80)], [9000])).toEqual([3306, 9000]);
});

it("reads options", () => {
  expect(parseWorkloadPort("http=8080")).toEqual(port("http", 8080));
  for (const bad of ["http", "http=", "=80", "http=70000", "http=8o"]) expect(parseWorkloadPort(bad)).toBeUndefined();
  expect(parseProbe("http:8080/healthz")?.check).toEqual({ kind: "http", port: 8080, path: "/healthz" });
  expect(parseProbe("tcp:5432")?.check).toEqual({ kind: "tcp", port: 5432 });
  expect(parseProbe("grpc:9000/a.B")?.check).toEqual({ kind: "grpc", port: 9000, service: "a.B" });
  expect(parseProbe("exec:/bin/check -q")?.check).toEqual({ kind: "exec", command: ["/bin/check", "-q"] });
  for (const bad of ["", "http:0/", "udp:53", "tcp:80/x", "http:80/a b", "exec:"])
    expect(parseProbe(bad)).toBeUndefined();
  expect(parseDuration("90s")).toBe(90_000);
  expect(parseDuration("7d")).toBe(604_800_000);
  for (const bad of ["", "0h", "1", "h", "1w", "-1h"]) expect(parseDuration(bad)).toBeUndefined();
  expect(parseLabel("a=b=c")).toEqual(["a", "b=c"]);
  expect(parseLabel("=b")).toBeUndefined();
});

describe("addresses of a host", () => {
  it("are those it names, one of each family, in canonical form", () => {
    expect(usableAddresses(["192.0.2.1", "192.0.2.2", "2001:DB8::0:1"], "198.51.100.1")).toEqual([
      "192.0.2.1",
      "2001:db8::1",
    ]);
  });
  it("are where it calls from, if it names none", () => {
    expect(usableAddresses([], "::ffff:198.51.100.1")).toEqual(["198.51.100.1"]);
  });
  it("are none that an EndpointSlice would refuse", () => {
    const bad = ["0.0.0.0", "127.0.0.1", "169.254.1.1", "224.0.0.1", "::", "::1", "fe80::1", "ff02::1", "no address"];
    expect(usableAddresses(bad, "192.0.2.1")).toEqual([]);
  });
});
