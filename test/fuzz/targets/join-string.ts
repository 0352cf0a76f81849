import { createHash } from "node:crypto";
import { BootstrapError, decodeJoinString, encodeJoinString } from "../../../src/bootstrap/control/index.ts";
import type { FuzzTarget } from "../harness.ts";

const line = encodeJoinString({
  enrollers: ["enroll.example.com:4145"],
  pins: [Buffer.alloc(32, 1)],
  controlPlaneNamespace: "linkerd",
  trustDomain: "cluster.local",
  invitationId: "0123456789",
  secret: Buffer.alloc(32, 2),
});
const payload = Buffer.from(line.slice(4), "base64url").subarray(0, -4);

function decode(text: string): void {
  try {
    decodeJoinString(text);
  } catch (error) {
    if (!(error instanceof BootstrapError)) throw error;
    if (/[\u0080-\uffff\n]/.test(error.message)) throw new Error("the message repeats what was given");
  }
}

export const joinString: FuzzTarget = {
  name: "join-string",
  seeds: [Buffer.from(line), payload],
  dictionary: [Buffer.from("mj1."), Buffer.from("mj2."), Buffer.of(1, 1), Buffer.of(0xff), Buffer.of(0)],
  covers: "src/bootstrap/control/join-string.ts",
  run(pieces) {
    const bytes = Buffer.concat(pieces);
    decode(bytes.toString("latin1"));
    // And as a payload whose checksum is right, or the reader behind it would never be reached.
    const sum = createHash("sha256").update(bytes).digest().subarray(0, 4);
    decode(`mj1.${Buffer.concat([bytes, sum]).toString("base64url")}`);
    return undefined;
  },
};
