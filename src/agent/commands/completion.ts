import { Argument, type Command } from "commander";

export function register(program: Command): void {
  program
    .command("completion")
    .description("print the completion of this command line for a shell")
    .addArgument(new Argument("<shell>", "whose completion").choices(["bash", "zsh", "fish"]))
    .action(async (shell: "bash" | "zsh" | "fish") => {
      const { completion } = await import("../completion/index.ts");
      process.stdout.write(completion(shell, program));
    });
}
