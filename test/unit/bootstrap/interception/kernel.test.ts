import { describe, expect, it } from "vitest";
import { missingKernelFeature, type Run } from "../../../../src/bootstrap/interception/index.ts";

/** A kernel that refuses whatever contains a word. */
const without =
  (word: string, stderr = "Error: Could not process rule: No such file or directory"): Run =>
  (_, args, input = "") => {
    expect(args).toEqual(["--check", "--file", "-"]);
    const refused = input.includes(word);
    return Promise.resolve({ code: refused ? 1 : 0, stdout: "", stderr: refused ? stderr : "" });
  };

describe("what the kernel lacks", () => {
  it.each([
    ["tproxy", "nft_tproxy"],
    ["socket transparent", "nft_socket"],
    ["ct mark", "nf_conntrack"],
    ["timeout", "nf_tables"],
    ["inet", "nf_tables"],
  ])("is named: %s", async (word, module) => {
    expect(await missingKernelFeature(without(word))).toMatchObject({ module });
  });

  it("is nothing on a kernel that takes all", async () => {
    expect(await missingKernelFeature(without("\0"))).toBeUndefined();
  });

  it("is not asked for without permission, or without nft", async () => {
    await expect(missingKernelFeature(without("inet", "Operation not permitted (you must be root)"))).rejects.toThrow(
      "may not change",
    );
    await expect(
      missingKernelFeature(() => Promise.resolve({ code: 127, stdout: "", stderr: "spawn nft ENOENT" })),
    ).rejects.toThrow("not installed");
  });
});
