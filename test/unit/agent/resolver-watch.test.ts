import { expect, it } from "vitest";
import { ResolverWatch } from "../../../src/agent/resolver-watch.ts";

it("says once that the resolver's file is another one", () => {
  let file = "a";
  let said = 0;
  const watch = new ResolverWatch(
    () => said++,
    () => file,
  );
  watch.look();
  expect(said).toBe(0);
  file = "b";
  watch.look();
  watch.look();
  expect(said).toBe(1);
  // Gone is a change, too.
  file = "";
  watch.look();
  expect(said).toBe(2);
  watch.stop();
});
