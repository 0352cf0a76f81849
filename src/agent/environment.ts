import { CommandError, EXIT } from "./exit.ts";

// Each of these changes what code runs, what TLS believes, or what is written where, from outside and without a trace in
// the configuration. By prefix: the next release of the runtime may know one more.
const DANGEROUS = [/^NODE_(?!ENV$|NO_WARNINGS$)/, /^OPENSSL_/, /^SSL_CERT_/, /^LD_/];

const named = (prefix: string, names: string) => names.split(" ").map((name) => `${prefix}_${name}`);

/**
 * What the units take out of the environment. systemd knows no patterns, so these are all names that Node 26.10, its
 * OpenSSL 3.5 and glibc's loader read (ld.so(8)); whatever else of the kind there is makes the agent refuse to start.
 */
export const UNSET: readonly string[] = [
  ...named("NODE", "CHANNEL_FD CHANNEL_SERIALIZATION_MODE CLUSTER_SCHED_POLICY COMPILE_CACHE COMPILE_CACHE_PORTABLE"),
  ...named("NODE", "COMPILE_CACHE_READONLY DEBUG DEBUG_NATIVE DISABLE_COLORS DISABLE_COMPILE_CACHE EXTRA_CA_CERTS"),
  ...named("NODE", "ICU_DATA OPTIONS PATH PENDING_DEPRECATION PENDING_PIPE_INSTANCES PRESERVE_SYMLINKS"),
  ...named("NODE", "PRESERVE_SYMLINKS_MAIN REDIRECT_WARNINGS REPL_EXTERNAL_MODULE REPL_HISTORY SKIP_PLATFORM_CHECK"),
  ...named("NODE", "TEST_CONTEXT TLS_REJECT_UNAUTHORIZED UNIQUE_ID USE_ENV_PROXY USE_SYSTEM_CA V8_COVERAGE"),
  ...named("OPENSSL", "CONF CONF_INCLUDE ENGINES MODULES TRACE MALLOC_FAILURES MALLOC_FD ia32cap armcap"),
  ...named("SSL_CERT", "FILE DIR"),
  ...named("LD", "ASSUME_KERNEL AUDIT BIND_NOT BIND_NOW DEBUG DEBUG_OUTPUT DYNAMIC_WEAK HWCAP_MASK LIBRARY_PATH"),
  ...named("LD", "ORIGIN_PATH POINTER_GUARD PREFER_MAP_32BIT_EXEC PRELOAD PROFILE PROFILE_OUTPUT SHOW_AUXV"),
  ...named("LD", "TRACE_LOADED_OBJECTS TRACE_PRELINKING USE_LOAD_BIAS VERBOSE WARN"),
];

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
