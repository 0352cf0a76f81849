import { CommandError, EXIT } from "./exit.ts";

// Each of these changes what code runs or what TLS believes, from outside and without a trace in the configuration.
const DANGEROUS = [/^NODE_(?!ENV$|NO_WARNINGS$)/, /^OPENSSL_/, /^SSL_CERT_/, /^LD_(?:PRELOAD|LIBRARY_PATH|AUDIT)$/];

/** @throws CommandError (64) naming the first variable that must not be set for a process that holds a key. */
export function refuseDangerousEnvironment(environment: NodeJS.ProcessEnv): void {
  for (const name of Object.keys(environment))
    if (DANGEROUS.some((pattern) => pattern.test(name)))
      throw new CommandError(
        EXIT.configuration,
        `${name} is set`,
        "unset it: it would change what the agent runs or trusts",
      );
}
