import { describe, expect, it } from "vitest";
import {
  BootstrapError,
  burn,
  decodeJoinString,
  encodeJoinString,
  type JoinString,
} from "../../../../src/bootstrap/control/index.ts";

const VALUE: JoinString = {
  enrollers: ["enroll.example.com:4145", "[2001:db8::1]:4145"],
  pins: [Buffer.alloc(32, 1), Buffer.alloc(32, 2)],
  controlPlaneNamespace: "linkerd",
  trustDomain: "cluster.local",
  invitationId: "0123456789",
  secret: Buffer.alloc(32, 0xab),
};

function failure(text: string): BootstrapError {
  try {
    decodeJoinString(text);
  } catch (error) {
    if (error instanceof BootstrapError) return error;
    throw error;
  }
  throw new Error("was accepted");
}

describe("the join string", () => {
  const line = encodeJoinString(VALUE);

  it("comes back as it went in, with white space around it", () => {
    expect(decodeJoinString(`  ${line}\n`)).toEqual(VALUE);
  });

  it("is one short line", () => {
    expect(line).toMatch(/^mj1\.[A-Za-z0-9_-]+$/);
    expect(line.length).toBeLessThan(300);
  });

  it.each([
    ["nothing", "", "join-string-malformed", "empty"],
    ["something else", "hello", "join-string-malformed", "does not begin with mj1."],
    ["a later version", line.replace("mj1.", "mj2."), "join-string-version", "version 2"],
    ["a line broken in two", `${line.slice(0, 40)}\n${line.slice(40)}`, "join-string-malformed", "line ends"],
    ["a quoted line", `${line}"`, "join-string-malformed", "character"],
    ["a line cut short", line.slice(0, -4), "join-string-altered", "cut short"],
    ["the prefix alone", "mj1.", "join-string-malformed", "cut short"],
    ["a file", "mj1.".padEnd(5000, "A"), "join-string-malformed", "too long"],
  ])("refuses %s with one line", (_what, text, code, words) => {
    const error = failure(text);
    expect(error.code).toBe(code);
    expect(error.exitCode).toBe(65);
    expect(error.message).toContain(words);
    expect(error.message).not.toContain("\n");
    expect(error.remedy).not.toBe("");
  });

  it("refuses every change of one character, and never repeats the text", () => {
    for (let i = 4; i < line.length; i++) {
      const changed = line.slice(0, i) + (line[i] === "A" ? "B" : "A") + line.slice(i + 1);
      const error = failure(changed);
      expect(error.code).toMatch(/^join-string-/);
      expect(error.message).not.toContain(changed.slice(10, 30));
    }
  });

  it("burns its secret", () => {
    const value = decodeJoinString(line);
    burn(value);
    expect(value.secret.every((byte) => byte === 0)).toBe(true);
  });

  it("does not encode what does not fit", () => {
    expect(() => encodeJoinString({ ...VALUE, secret: Buffer.alloc(16) })).toThrow(RangeError);
    expect(() => encodeJoinString({ ...VALUE, enrollers: [] })).toThrow(RangeError);
    expect(() => encodeJoinString({ ...VALUE, pins: [Buffer.alloc(20)] })).toThrow(RangeError);
    expect(() => encodeJoinString({ ...VALUE, trustDomain: "" })).toThrow(RangeError);
  });
});
