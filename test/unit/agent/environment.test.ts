import { spawnSync } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { refuseDangerousEnvironment, UNSET } from "../../../src/agent/environment.ts";

const ROOT = join(import.meta.dirname, "../../..");
const UNITS = join(ROOT, "packaging/systemd");

it.each([...UNSET, "NODE_OF_THE_NEXT_RELEASE", "OPENSSL_s390xcap", "LD_LIBRARY_PATH_64"])("refuses %s", (name) => {
  for (const value of ["x", "", "0"])
    expect(() => refuseDangerousEnvironment({ PATH: "/usr/bin", [name]: value })).toThrow(`${name} is set`);
});

it.each(["PATH", "LANG", "HOME", "NODE_ENV", "NODE_NO_WARNINGS", "NOTIFY_SOCKET", "LISTEN_FDS", "OLD_LD_PRELOAD"])(
  "lets %s pass",
  (name) => {
    expect(() => refuseDangerousEnvironment({ [name]: "x" })).not.toThrow();
  },
);

it.each(readdirSync(UNITS).filter((name) => name.endsWith(".service")))("%s takes all of them away", (unit) => {
  const lines = readFileSync(join(UNITS, unit), "utf8").split("\n");
  const unset = lines
    .filter((line) => line.startsWith("UnsetEnvironment="))
    .flatMap((line) => line.slice(17).split(" "));
  expect(new Set(unset)).toEqual(new Set(UNSET));
});

it.each(["NODE_EXTRA_CA_CERTS", "NODE_TLS_REJECT_UNAUTHORIZED", "OPENSSL_CONF", "SSL_CERT_FILE", "LD_BIND_NOW"])(
  "with %s set, `run` ends with one line and status 64",
  (name) => {
    const { status, stderr } = spawnSync(process.execPath, [join(ROOT, "src/agent/main.ts"), "run"], {
      encoding: "utf8",
      env: { PATH: process.env["PATH"], [name]: "/dev/null" },
    });
    expect(stderr.split("\n").filter((line) => line.startsWith("mesh-agent:"))).toEqual([
      `mesh-agent: ${name} is set — unset it: it would change what the agent runs or trusts`,
    ]);
    expect(status).toBe(64);
  },
);
