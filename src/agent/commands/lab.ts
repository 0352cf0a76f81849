import { type Command, Option } from "commander";
import * as demo from "./demo.ts";
import type { LabUpOptions } from "./lab-actions.ts";
import { type Format, outputOption } from "./output.ts";

/** `mesh-agent lab …`: a mesh on this machine, to try and to test. Needs root. */
export function register(program: Command): void {
  // `exec` hands the options behind the host to the program it runs.
  program.enablePositionalOptions();
  const lab = program
    .command("lab")
    .enablePositionalOptions()
    .description("a whole mesh on this machine, in network namespaces (root)");
  demo.register(lab);
  const actions = () => import("./lab-actions.ts");

  lab
    .command("up")
    .description("bring up API, Linkerd's services, the enroller, a pod and a VM; returns when all is ready")
    .option("--foreground", "stay, and take it down on Ctrl-C")
    .option("--no-join", "leave the VM outside the mesh")
    .option("--id <id>", "name of the lab, at most 8 letters and digits", "lab")
    .addOption(new Option("--supervise").hideHelp())
    .action(async (options: LabUpOptions) => (await actions()).up(options));

  lab
    .command("status")
    .description("show the labs that run")
    .addOption(outputOption())
    .action(async (options: { output: Format }) => (await actions()).status(options.output));

  lab
    .command("exec <host> <command...>")
    .description("run a command on a host of the lab: lab exec vm-1 -- curl http://web.shop.svc.cluster.local")
    .option("--id <id>", "which lab, if several run")
    .passThroughOptions()
    .action(async (host: string, command: string[], options: { id?: string }) =>
      (await actions()).exec(host, command, options.id),
    );

  lab
    .command("kubeconfig")
    .description("print the path of the lab's kubeconfig")
    .option("--id <id>", "which lab, if several run")
    .action(async (options: { id?: string }) => (await actions()).showKubeconfig(options.id));

  lab
    .command("down")
    .description("take it down: every namespace, rule and file")
    .option("--id <id>", "which lab, if several run")
    .action(async (options: { id?: string }) => (await actions()).down(options.id));

  lab
    .command("app <kind=port...>")
    .description("run sample applications: http=8080 tcp=5432 grpc=9090")
    .option("--host <address>", "on which address", "::")
    .option("--name <name>", "what they call themselves", "app")
    .action(async (apps: string[], options: { host: string; name: string }) => (await actions()).app(apps, options));

  lab
    .command("control-plane <options>", { hidden: true })
    .action(async (options: string) => (await actions()).controlPlane(options));
}
