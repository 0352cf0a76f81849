import type { Command } from "commander";

export function register(program: Command): void {
  const config = program.command("config").description("look at the configuration");
  config
    .command("check [file]")
    .description("read a configuration file and say what is wrong with it")
    .action(async (file: string | undefined) => {
      const { DEFAULT_CONFIG_FILE, loadConfig } = await import("../config.ts");
      loadConfig(file ?? DEFAULT_CONFIG_FILE);
      process.stdout.write(`${file ?? DEFAULT_CONFIG_FILE}: no errors\n`);
    });
  config
    .command("keys")
    .description("list every key with its default")
    .action(async () => {
      const { KEYS } = await import("../config.ts");
      for (const [key, field] of Object.entries(KEYS))
        process.stdout.write(`${key}: ${field.initial}  # ${field.doc}\n`);
    });
}
