import { expect, it } from "vitest";
import { RateLimit } from "../../../../src/bootstrap/enroller/rate-limit.ts";

it("lets a burst through, then one at a time", () => {
  const limit = new RateLimit({ burst: 3, refillMs: 1000, maxSources: 10 });
  const tries = [1, 2, 3, 4].map(() => limit.admit("192.0.2.1", 0));
  expect(tries).toEqual([true, true, true, false]);
  expect(limit.admit("192.0.2.1", 999)).toBe(false);
  expect(limit.admit("192.0.2.1", 1999)).toBe(true);
  expect(limit.admit("192.0.2.2", 0)).toBe(true);
});

it("counts a whole IPv6 /64 as one source", () => {
  const limit = new RateLimit({ burst: 1, refillMs: 1000, maxSources: 10 });
  expect(limit.admit("2001:db8:1:2:3:4:5:6", 0)).toBe(true);
  expect(limit.admit("2001:db8:1:2:ffff:4:5:6", 0)).toBe(false);
  // However it is spelled: zeros are left out where they are, and those are the addresses that one host has most of.
  expect(limit.admit("2001:db8::1", 0)).toBe(true);
  for (const same of ["2001:db8::2", "2001:DB8:0:0:ffff::9", "2001:db8:0:0::%eth0"])
    expect(limit.admit(same, 0)).toBe(false);
  expect(limit.admit("2001:db8:0:1::1", 0)).toBe(true);
});

it("forgets the source unused for longest, so that memory is bounded", () => {
  const limit = new RateLimit({ burst: 1, refillMs: 1e9, maxSources: 2 });
  for (const source of ["a", "b", "c"]) limit.admit(source, 0);
  expect(limit.admit("c", 0)).toBe(false);
  expect(limit.admit("a", 0)).toBe(true);
});
