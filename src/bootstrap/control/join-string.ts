import { createHash } from "node:crypto";
import { BootstrapError } from "./errors.ts";

/** What an invitation hands to a host, in one line of text. */
export interface JoinString {
  /** Where the enroller listens, `host:port` or `[ip6]:port`, in the order to try. 1–8. */
  readonly enrollers: readonly string[];
  /** SHA-256 of the DER of every root that the mesh trusted when the invitation was made. 1–16 of 32 bytes. */
  readonly pins: readonly Buffer[];
  /** Namespace of the control plane and trust domain: they make the name that the enroller must prove. */
  readonly controlPlaneNamespace: string;
  readonly trustDomain: string;
  readonly invitationId: string;
  /** 32 bytes. Never logged; {@link burn} it after use. */
  readonly secret: Buffer;
}

const PREFIX = "mj1.";
const PAYLOAD_VERSION = 1;
export const SECRET_BYTES = 32;
const PIN_BYTES = 32;
const CHECKSUM_BYTES = 4;
// Far above any real one (about 200 characters); a pasted file is not worth decoding.
const MAX_TEXT = 4096;

/**
 * Encodes a join string: `mj1.` and, in base64url without padding, one version byte, the counted lists and
 * length-prefixed texts in the order of {@link JoinString}, and the first 4 bytes of the SHA-256 of all that.
 * @throws RangeError for a value that does not fit.
 */
export function encodeJoinString(value: JoinString): string {
  if (value.secret.length !== SECRET_BYTES) throw new RangeError("the secret must have 32 bytes");
  if (value.enrollers.length < 1 || value.enrollers.length > 8) throw new RangeError("1 to 8 enroller addresses");
  if (value.pins.length < 1 || value.pins.length > 16) throw new RangeError("1 to 16 pinned roots");
  const parts: Buffer[] = [Buffer.of(PAYLOAD_VERSION, value.enrollers.length)];
  for (const address of value.enrollers) parts.push(...text(address));
  parts.push(Buffer.of(value.pins.length));
  for (const pin of value.pins) {
    if (pin.length !== PIN_BYTES) throw new RangeError("a pin must have 32 bytes");
    parts.push(pin);
  }
  parts.push(
    ...text(value.controlPlaneNamespace),
    ...text(value.trustDomain),
    ...text(value.invitationId),
    value.secret,
  );
  const payload = Buffer.concat(parts);
  return PREFIX + Buffer.concat([payload, checksum(payload)]).toString("base64url");
}

/**
 * Decodes a join string. White space around it is ignored.
 * @throws BootstrapError `join-string-…`, one line that says what is wrong with the text; never quotes the text.
 */
export function decodeJoinString(line: string): JoinString {
  const given = line.trim();
  if (given === "") throw new BootstrapError("join-string-malformed", "the join string is empty");
  if (given.length > MAX_TEXT) throw new BootstrapError("join-string-malformed", "this is too long for a join string");
  if (/\s/.test(given)) {
    throw new BootstrapError("join-string-malformed", "the join string is broken by spaces or line ends");
  }
  if (!given.startsWith(PREFIX)) {
    if (/^mj\d+\./.test(given)) {
      throw new BootstrapError(
        "join-string-version",
        `this agent cannot read join strings of version ${/\d+/.exec(given)}`,
      );
    }
    throw new BootstrapError("join-string-malformed", "this is not a join string: it does not begin with mj1.");
  }
  const encoded = given.slice(PREFIX.length);
  const odd = /[^A-Za-z0-9_-]/.exec(encoded);
  if (odd !== null) {
    throw new BootstrapError(
      "join-string-malformed",
      `character ${PREFIX.length + odd.index + 1} does not belong in a join string`,
    );
  }
  const bytes = Buffer.from(encoded, "base64url");
  // Bits past the last whole byte are ignored by the decoder: a changed last character must not pass.
  if (bytes.toString("base64url") !== encoded) {
    throw new BootstrapError("join-string-altered", "the join string was cut short or changed");
  }
  if (bytes.length <= CHECKSUM_BYTES) throw new BootstrapError("join-string-malformed", "the join string is cut short");
  const payload = bytes.subarray(0, bytes.length - CHECKSUM_BYTES);
  if (!checksum(payload).equals(bytes.subarray(payload.length))) {
    throw new BootstrapError("join-string-altered", "the join string was cut short or changed: its checksum is wrong");
  }
  const reader = new Reader(payload);
  if (reader.byte() !== PAYLOAD_VERSION) {
    throw new BootstrapError("join-string-version", `this agent cannot read join strings of layout ${payload[0]}`);
  }
  const enrollers = reader.list(() => reader.text());
  const pins = reader.list(() => reader.bytes(PIN_BYTES));
  const controlPlaneNamespace = reader.text();
  const trustDomain = reader.text();
  const invitationId = reader.text();
  const secret = reader.bytes(SECRET_BYTES);
  reader.end();
  bytes.fill(0);
  return { enrollers, pins, controlPlaneNamespace, trustDomain, invitationId, secret };
}

/** Overwrites the secret, once it has been spent or refused. */
export function burn(value: JoinString): void {
  value.secret.fill(0);
}

function text(value: string): [Buffer, Buffer] {
  const bytes = Buffer.from(value);
  if (bytes.length < 1 || bytes.length > 255) throw new RangeError("a text must have 1 to 255 bytes");
  return [Buffer.of(bytes.length), bytes];
}

function checksum(payload: Buffer): Buffer {
  return createHash("sha256").update(payload).digest().subarray(0, CHECKSUM_BYTES);
}

/** Reads a payload whose checksum was right: what fails here was written wrong, or forged. */
class Reader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  byte(): number {
    return this.bytes(1)[0] as number;
  }

  bytes(length: number): Buffer {
    if (this.#at + length > this.#bytes.length) throw inconsistent();
    // A copy: the whole payload is overwritten at the end.
    const slice = Buffer.from(this.#bytes.subarray(this.#at, this.#at + length));
    this.#at += length;
    return slice;
  }

  text(): string {
    const length = this.byte();
    const value = this.bytes(length).toString();
    // Addresses and names only: no control character may reach a terminal or a log.
    if (length === 0 || !/^[\x21-\x7e]+$/.test(value)) throw inconsistent();
    return value;
  }

  list<T>(item: () => T): T[] {
    const count = this.byte();
    if (count === 0 || count > 16) throw inconsistent();
    return Array.from({ length: count }, item);
  }

  end(): void {
    if (this.#at !== this.#bytes.length) throw inconsistent();
  }
}

function inconsistent(): BootstrapError {
  return new BootstrapError("join-string-malformed", "the join string contradicts itself");
}
