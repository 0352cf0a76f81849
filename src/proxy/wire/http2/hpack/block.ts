import { HeaderList, type HeaderName } from "../../../core/header.ts";
import { FieldKind } from "./field.ts";

/**
 * What one header block decoded to: pseudo-headers apart, the rest in order. One object per connection, filled by the
 * decoder and read before the next block; only {@link headers} is new each time and may be kept.
 */
export class HeaderBlock {
  method: string | undefined;
  scheme: string | undefined;
  authority: string | undefined;
  path: string | undefined;
  protocol: string | undefined;
  status: string | undefined;
  /** Digits, judged. */
  contentLength: string | undefined;
  host: string | undefined;
  headers: HeaderList = new HeaderList();
  /** The first rule that any field broke; the message is malformed (RFC 9113 §8.1.1). */
  fault: string | undefined;
  /** Whether any pseudo-header was there: a trailer section must not have one. */
  hasPseudo = false;
  /** RFC 9113 §6.5.2: text plus 32 bytes per field. */
  size = 0;
  /** {@link size} went beyond the bound; fields from there on are not in {@link headers}. */
  oversized = false;

  readonly #maxSize: number;

  /** @param maxSize - Bound of {@link size}, in bytes. */
  constructor(maxSize: number) {
    this.#maxSize = maxSize;
  }

  reset(): void {
    this.method = undefined;
    this.scheme = undefined;
    this.authority = undefined;
    this.path = undefined;
    this.protocol = undefined;
    this.status = undefined;
    this.contentLength = undefined;
    this.host = undefined;
    this.headers = new HeaderList();
    this.fault = undefined;
    this.hasPseudo = false;
    this.size = 0;
    this.oversized = false;
  }

  /** Makes it what `other` was decoded to. */
  copy(other: HeaderBlock): void {
    this.method = other.method;
    this.scheme = other.scheme;
    this.authority = other.authority;
    this.path = other.path;
    this.protocol = other.protocol;
    this.status = other.status;
    this.contentLength = other.contentLength;
    this.host = other.host;
    this.headers = other.headers.clone();
    this.fault = other.fault;
    this.hasPseudo = other.hasPseudo;
    this.size = other.size;
    this.oversized = other.oversized;
  }

  /** @param fault - What is wrong with this field by itself. */
  add(name: HeaderName, value: string, kind: FieldKind, fault: string | undefined, size: number): void {
    this.size += size;
    // A block of one-byte references to a large entry would expand four-thousandfold: count it, but do not keep it.
    if (this.size > this.#maxSize) {
      this.oversized = true;
      return;
    }
    if (fault !== undefined) {
      this.fault ??= fault;
      return;
    }
    if (kind === FieldKind.regular) {
      this.headers.add(name, value);
      return;
    }
    this.#addSpecial(name, value, kind);
  }

  #addSpecial(name: HeaderName, value: string, kind: FieldKind): void {
    switch (kind) {
      case FieldKind.method:
        if (this.#pseudo(this.method)) this.method = value;
        return;
      case FieldKind.scheme:
        if (this.#pseudo(this.scheme)) this.scheme = value;
        return;
      case FieldKind.authority:
        if (this.#pseudo(this.authority)) this.authority = value;
        return;
      case FieldKind.path:
        if (this.#pseudo(this.path)) this.path = value;
        return;
      case FieldKind.protocol:
        if (this.#pseudo(this.protocol)) this.protocol = value;
        return;
      case FieldKind.status:
        if (this.#pseudo(this.status)) this.status = value;
        return;
      case FieldKind.lookalike:
        return;
      case FieldKind.contentLength:
        // RFC 9110 §8.6 lets a recipient take two equal ones for one; nobody honest sends them, so none is taken.
        if (this.contentLength !== undefined) this.fault ??= "more than one content-length";
        this.contentLength = value;
        break;
      case FieldKind.host:
        if (this.host !== undefined) this.fault ??= "more than one Host";
        this.host = value;
        break;
    }
    this.headers.add(name, value);
  }

  /** @returns whether a pseudo-header may be taken: it is the first of its name and before every regular field. */
  #pseudo(present: string | undefined): boolean {
    this.hasPseudo = true;
    if (present !== undefined) this.fault ??= "pseudo-header repeated";
    // RFC 9113 §8.3.
    if (this.headers.length > 0) this.fault ??= "pseudo-header after a regular field";
    return this.fault === undefined;
  }
}
