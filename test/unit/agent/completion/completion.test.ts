import { execFileSync } from "node:child_process";
import { describe, expect, it } from "vitest";
import { type CommandNode, commandTree, completion, SHELLS } from "../../../../src/agent/completion/index.ts";
import { allCommands } from "../../../../src/agent/completion/tree.ts";
import { createProgram } from "../../../../src/agent/program.ts";

const program = createProgram();
const tree = commandTree(program);

/** What bash offers for the last word. */
function offered(...line: readonly string[]): string[] {
  const script = `${completion("bash", program)}
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _mesh_agent; printf '%s\\n' "\${COMPREPLY[@]}"`;
  const out = execFileSync("bash", ["-c", script, "bash", ...line], { encoding: "utf8" });
  return out.split("\n").filter((word) => word !== "");
}

describe("completion in bash", () => {
  it.each([
    [["mesh-agent", "sta"], ["status"]],
    [["mesh-agent", "cluster", "in"], ["install"]],
    [
      ["mesh-agent", "status", "-o", ""],
      ["text", "json"],
    ],
    [["mesh-agent", "status", "--output", "j"], ["json"]],
    [["mesh-agent", "cluster", "install", "--im"], ["--image"]],
    [
      ["mesh-agent", "completion", ""],
      ["bash", "zsh", "fish", "-h", "--help"],
    ],
    // A value of any shape: left to the shell, which then completes files.
    [["mesh-agent", "run", "--config", "/et"], []],
    [["mesh-agent", "config", "check", "/et"], []],
  ])("%j → %j", (line, words) => {
    expect(offered(...line)).toEqual(words);
  });

  it("offers no hidden command", () => {
    expect(offered("mesh-agent", "lab", "control")).toEqual([]);
  });
});

describe.each(SHELLS)("the script for %s", (shell) => {
  it("knows every command and every option", () => {
    const script = completion(shell, program);
    const missing = (node: CommandNode): string[] => [
      ...node.commands.filter(({ path }) => !script.includes(path)).map(({ path }) => path),
      ...node.options
        .filter(({ long }) => !script.includes(shell === "fish" ? `-l ${long.slice(2)}` : long))
        .map(({ long }) => `${node.path} ${long}`),
    ];
    expect(allCommands(tree).flatMap(missing)).toEqual([]);
  });
});
