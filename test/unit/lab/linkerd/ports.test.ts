import { expect, test } from "vitest";
import { includesPort, parsePorts, parseStrictPorts } from "../../../../src/lab/linkerd/ports.ts";

const DECLARED = [{ name: "db", port: 5000 }, { port: 6000 }];

test("numbers, ranges and names, in any spacing", () => {
  const ports = parsePorts(" 25, 100-102 ,db", DECLARED);
  expect([25, 99, 100, 102, 103, 5000, 6000].map((port) => includesPort(ports, port))).toEqual([
    true,
    false,
    true,
    true,
    false,
    true,
    false,
  ]);
});

test.each(["0", "65536", "9-8", "x", "-1", "1-", ""])(
  "%j is skipped by one reader and empties the list of the other",
  (bad) => {
    expect(parsePorts(`25,${bad}`)).toEqual([{ from: 25, to: 25 }]);
    expect(parseStrictPorts(`25,${bad}`)).toEqual(bad === "" ? [{ from: 25, to: 25 }] : []);
  },
);
