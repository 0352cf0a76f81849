/** A thousand random secrets, through everything that speaks of them: none is found in what it said. */
import { randomBytes } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect } from "node:util";
import { afterAll, beforeAll, expect, it } from "vitest";
import { decodeConfig } from "../../../src/agent/config.ts";
import { membership } from "../../../src/agent/membership.ts";
import { openStore } from "../../../src/agent/store.ts";
import { decodeJoinString, encodeJoinString, realScheduler, refusalOf } from "../../../src/bootstrap/control/index.ts";
import { listInvitations, newInvitation, redeem, SECRETS } from "../../../src/bootstrap/enroller/index.ts";
import { RefusalRecord } from "../../../src/bootstrap/enroller/refusal-record.ts";
import { acceptAnswer, exportKey, generateKey, loadMembership } from "../../../src/bootstrap/identity/index.ts";
import { MemoryKube } from "../../support/memory-kube.ts";
import { testTerms } from "../../support/mesh-kube.ts";

const SECRETS_TRIED = 1000;

let directory: string;
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "mesh-agent-"));
});
afterAll(() => rmSync(directory, { recursive: true }));

/** Everything that a value says of itself: to a person, to JSON, to a debugger, its stack and its causes. */
const saidBy = (value: unknown): string =>
  [
    String(value),
    value instanceof Error ? `${value.stack} ${inspect(value.cause)}` : "",
    JSON.stringify(value, (_key, part) => (typeof part === "bigint" ? String(part) : part)),
    inspect(value, { depth: 6, showHidden: true }),
  ].join("\n");

/** Pieces of a secret, in every spelling that it may have: long enough to be no accident. */
function pieces(secret: Buffer): readonly string[] {
  const spellings = [
    secret.toString("hex"),
    secret.toString("base64"),
    secret.toString("base64url"),
    // As a text that begins one or two bytes earlier has it.
    Buffer.concat([Buffer.of(0), secret])
      .toString("base64url")
      .slice(2),
    Buffer.concat([Buffer.of(0, 0), secret])
      .toString("base64url")
      .slice(3),
    [...secret].join(","),
    [...secret].map((byte) => byte.toString(16).padStart(2, "0")).join(" "),
  ];
  return spellings.flatMap((text) => [text.slice(4, 16), text.slice(-18, -4)]);
}

function expectSilence(said: string, secret: Buffer): void {
  for (const piece of pieces(secret)) if (said.includes(piece)) throw new Error(`a secret was said: ${said}`);
}

const failure = (run: () => unknown): unknown => {
  try {
    return run();
  } catch (error) {
    return error;
  }
};

const joinStringOf = (secret: Buffer) =>
  encodeJoinString({
    // Nobody listens there: what happens to the string must happen before.
    enrollers: ["127.0.0.1:1"],
    pins: [Buffer.alloc(32, 1)],
    controlPlaneNamespace: "linkerd",
    trustDomain: "cluster.local",
    invitationId: "0123456789",
    secret,
  });

it("a join string that is cut, changed, broken or of another version is not repeated", { timeout: 60_000 }, () => {
  for (let i = 0; i < SECRETS_TRIED; i++) {
    const secret = randomBytes(32);
    const text = joinStringOf(secret);
    const at = 5 + (i % (text.length - 10));
    const spoilings = [
      text.slice(0, -1 - (i % 20)),
      `${text.slice(0, at)}${text[at] === "A" ? "B" : "A"}${text.slice(at + 1)}`,
      `${text.slice(0, at)} ${text.slice(at)}`,
      `${text.slice(0, at)}\n${text.slice(at)}`,
      `${text.slice(0, at)}%${text.slice(at)}`,
      text.replace("mj1.", "mj2."),
      text.replace("mj1.", ""),
      text + text,
    ];
    // Each way with hundreds of them.
    for (const spoilt of [spoilings[i % 8] ?? "", spoilings[(i + 3) % 8] ?? ""]) {
      const error = failure(() => decodeJoinString(spoilt));
      expect(error).toBeInstanceOf(Error);
      expectSilence(saidBy(error), secret);
      expectSilence(saidBy(refusalOf(error)), secret);
    }
  }
});

it("nor in the log of an agent that tries to join with it, nor in what the command says then", {
  timeout: 60_000,
}, async () => {
  const joinFile = join(directory, "join");
  const machineIdFile = join(directory, "machine-id");
  writeFileSync(machineIdFile, randomBytes(16).toString("hex"));
  const state = join(directory, "state");
  const config = decodeConfig(
    JSON.stringify({ identity: { joinFile, machineIdFile }, state: { directory: state } }),
    "t",
  );
  const store = openStore(state);
  for (let i = 0; i < SECRETS_TRIED; i++) {
    const secret = randomBytes(32);
    const text = joinStringOf(secret);
    // Nine of ten never reach the network: they fail at once, each in its own way.
    const given = i % 10 === 0 ? text : i % 3 === 0 ? text.slice(0, -4) : i % 3 === 1 ? ` ${text}x y` : `${text}\u0000`;
    writeFileSync(joinFile, given);
    const lines: string[] = [];
    const line = (fields: object, message: string) => void lines.push(`${message} ${saidBy(fields)}`);
    const outcome = await membership(config, store, { debug: line, info: line, warn: line, error: line }).catch(
      (error: unknown) => error,
    );
    expect(outcome).toBeInstanceOf(Error);
    expectSilence(`${lines.join("\n")}\n${saidBy(outcome)}`, secret);
  }
});

it("nor at the enroller: in the audit log, in its answers, in lists as text or JSON", { timeout: 60_000 }, async () => {
  const kube = new MemoryKube();
  const lines: string[] = [];
  const line = (fields: object, message: string) => void lines.push(`${message} ${saidBy(fields)}`);
  const log = { debug: line, info: line, warn: line, error: line };
  const refusals = new RefusalRecord({ log, scheduler: realScheduler, shun: () => {} });
  for (let i = 0; i < SECRETS_TRIED; i++) {
    lines.length = 0;
    const invitation = newInvitation(
      testTerms({ uses: 1, expiresAtMs: Date.now() + (i % 2 === 0 ? 60_000 : -1) }),
      "linkerd",
    );
    const { id, object } = invitation;
    await kube.create(SECRETS, "linkerd", object);
    const wrong = randomBytes(32);
    const attempt = { id, key: "k", machine: "m", address: `192.0.2.${i % 250}`, wallMs: Date.now() };
    for (const secret of [wrong, invitation.secret, invitation.secret]) {
      const outcome = await redeem(kube, "linkerd", { ...attempt, key: `k${lines.length}`, secret }).catch(
        (error: unknown) => error,
      );
      if (outcome instanceof Error) {
        refusals.refused("/Enroll", { address: attempt.address, identity: undefined }, outcome as never, {
          invitation: id,
        });
        lines.push(saidBy(refusalOf(outcome)));
      }
      lines.push(saidBy(outcome));
    }
    lines.push(JSON.stringify(object), JSON.stringify(await kube.get(SECRETS, "linkerd", object.metadata.name)));
    if (i % 100 === 0) lines.push(JSON.stringify(await listInvitations(kube, "linkerd", Date.now())));
    const said = lines.join("\n");
    expectSilence(said, invitation.secret);
    expectSilence(said, wrong);
  }
});

it("nor a private key: in refused answers, and in a stored membership that cannot be used", () => {
  const mesh = { controlPlaneNamespace: "linkerd", trustDomain: "cluster.local" };
  const workload = { namespace: "shop", name: "app-1", serviceAccount: "app" };
  for (let i = 0; i < SECRETS_TRIED; i++) {
    const key = generateKey();
    const scalar = Buffer.from(key.export({ format: "jwk" }).d ?? "", "base64url");
    const expected = { key, workload, mesh, wallMs: Date.now(), generation: 1 };
    const error = failure(() =>
      acceptAnswer({ chain: [randomBytes(300)] } as never, { roots: [randomBytes(300)] } as never, expected),
    );
    expect(error).toBeInstanceOf(Error);
    expectSilence(saidBy(error), scalar);
    const text = JSON.stringify({
      format: 1,
      identity: { keyPem: exportKey(key), certificatePem: "x", trustAnchorsPem: ["y"] },
    });
    const store = { read: () => Buffer.from(text), write: () => {} };
    const loaded = failure(() => loadMembership(store as never));
    expect(loaded).toBeUndefined();
  }
});
