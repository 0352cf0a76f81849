import type { Command, Option } from "commander";

/** One option as a shell sees it. */
export interface OptionNode {
  /** `--output`. */
  readonly long: string;
  /** `-o`. */
  readonly short: string | undefined;
  readonly description: string;
  readonly takesValue: boolean;
  /** The only values that it takes; empty: anything. */
  readonly choices: readonly string[];
}

/** One command with what may follow it. */
export interface CommandNode {
  /** Words after the program's name, each with a slash before it: `/cluster/install`; empty for the program. */
  readonly path: string;
  readonly name: string;
  readonly description: string;
  readonly commands: readonly CommandNode[];
  readonly options: readonly OptionNode[];
  /** Values of its first argument, where they are known. */
  readonly choices: readonly string[];
}

/** Everything that `--help` shows, as data; hidden commands and options are left out. */
export function commandTree(command: Command, path = ""): CommandNode {
  const help = command.createHelp();
  return {
    path,
    name: command.name(),
    description: command.description(),
    commands: help
      .visibleCommands(command)
      .filter((sub) => sub.name() !== "help")
      .map((sub) => commandTree(sub, `${path}/${sub.name()}`)),
    options: help.visibleOptions(command).flatMap(optionNode),
    choices: command.registeredArguments[0]?.argChoices ?? [],
  };
}

function optionNode(option: Option): OptionNode[] {
  const { long, short, description, required, optional, argChoices } = option;
  if (typeof long !== "string") return [];
  return [{ long, short, description, takesValue: required || optional, choices: argChoices ?? [] }];
}

/** The command and all below it, parents first. */
export function allCommands(root: CommandNode): readonly CommandNode[] {
  return [root, ...root.commands.flatMap(allCommands)];
}
