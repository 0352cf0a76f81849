import type { Command } from "commander";
import { CommandError } from "../exit.ts";
import { type Format, outputOption, print } from "./output.ts";

export function register(program: Command): void {
  const config = program.command("config").description("look at the configuration");
  config
    .command("check [file]")
    .description("read a configuration file and say what is wrong with it")
    .addOption(outputOption())
    .action(async (file: string | undefined, options: { output: Format }) => {
      const { DEFAULT_CONFIG_FILE, loadConfig } = await import("../config.ts");
      const path = file ?? DEFAULT_CONFIG_FILE;
      try {
        loadConfig(path);
      } catch (error) {
        if (options.output === "json" && error instanceof CommandError)
          print(options.output, { file: path, ok: false, error: error.message }, () => "");
        throw error;
      }
      print(options.output, { file: path, ok: true }, () => `${path}: no errors\n`);
    });
  config
    .command("keys")
    .description("list every key with its default")
    .addOption(outputOption())
    .action(async (options: { output: Format }) => {
      const { KEYS } = await import("../config.ts");
      const keys = Object.entries(KEYS).map(([key, { initial, expects, doc }]) => ({
        key,
        default: initial,
        expects,
        doc,
      }));
      print(options.output, keys, () =>
        keys.map((each) => `${each.key}: ${each.default}  # ${each.doc} (${each.expects})\n`).join(""),
      );
    });
}
