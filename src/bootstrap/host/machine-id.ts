import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { BootstrapError } from "../control/index.ts";

const REMEDY = "create one with `systemd-machine-id-setup`, or set identity.machineIdFile";

/**
 * The machine's id as it leaves the host: a hash of our own, since machine-id(5) asks not to show the id itself.
 *
 * @param file - `/etc/machine-id`, or another file of the same form.
 * @returns SHA-256, hexadecimal.
 * @throws BootstrapError `request-refused` if there is no valid id.
 */
export function readMachineId(file: string): string {
  let text: string;
  try {
    text = readFileSync(file, "utf8").trim().toLowerCase();
  } catch (error) {
    throw new BootstrapError("request-refused", `${file} cannot be read`, { cause: error, remedy: REMEDY });
  }
  // An image being prepared says `uninitialized`, or nothing; all zeros would make every clone the same machine.
  if (!/^[0-9a-f-]{32,36}$/.test(text) || /^[0-]*$/.test(text)) {
    throw new BootstrapError("request-refused", `${file} holds no machine id`, { remedy: REMEDY });
  }
  return createHash("sha256").update("mesh-agent machine\0").update(text.replaceAll("-", "")).digest("hex");
}
