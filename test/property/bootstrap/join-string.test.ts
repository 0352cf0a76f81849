import fc from "fast-check";
import { expect, it } from "vitest";
import { BootstrapError, decodeJoinString, encodeJoinString } from "../../../src/bootstrap/control/index.ts";

const bytes32 = fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes));
const name = fc.stringMatching(/^[a-z0-9.-]{1,60}$/);

const joinString = fc.record({
  enrollers: fc.array(
    name.map((host) => `${host}:4145`),
    { minLength: 1, maxLength: 8 },
  ),
  pins: fc.array(bytes32, { minLength: 1, maxLength: 16 }),
  controlPlaneNamespace: name,
  trustDomain: name,
  invitationId: name,
  secret: bytes32,
});

it("decode after encode is the identity", () => {
  fc.assert(
    fc.property(joinString, (value) => {
      expect(decodeJoinString(encodeJoinString(value))).toEqual(value);
    }),
  );
});

it("any text gives a value or a BootstrapError, and the error does not contain the text", () => {
  const text = fc.oneof(
    fc.string(),
    fc.base64String().map((rest) => `mj1.${rest}`),
    joinString.map(encodeJoinString),
  );
  fc.assert(
    fc.property(text, fc.nat(), fc.string({ minLength: 1, maxLength: 3 }), (line, at, patch) => {
      const spoilt =
        line.slice(0, at % (line.length + 1)) + patch + line.slice((at % (line.length + 1)) + patch.length);
      try {
        decodeJoinString(spoilt);
      } catch (error) {
        expect(error).toBeInstanceOf(BootstrapError);
        if (spoilt.trim().length > 60) expect((error as Error).message).not.toContain(spoilt.trim().slice(8, 40));
      }
    }),
  );
});
