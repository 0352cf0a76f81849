/**
 * A header name, interned: each spelling is looked up once and then compared by identity.
 *
 * `canonical` is the lower-case spelling's object; compare known names with `name.canonical === H.host`. Names beyond
 * the interning bound are their own canonical, so compare names that are not in {@link H} by `.lower`.
 */
export class HeaderName {
  /** As the sender spelled it. */
  readonly spelled: string;
  readonly lower: string;
  readonly canonical: HeaderName;
  /** Connection-specific (RFC 9110 §7.6.1): never forwarded to the next hop, an error in HTTP/2 (RFC 9113 §8.2.2). */
  readonly hopByHop: boolean;
  /**
   * A name that some applications cannot tell from one of ours: CGI and its heirs read `-` and `_` alike (WSGI, Rack,
   * PHP), so `Content_Length` would frame a message a second time there and `l5d_client_id` name a client. Dropped
   * wherever it comes in, as nginx does with every such name.
   */
  readonly isLookalike: boolean;
  /** Its values are secrets: kept nowhere beyond their message. */
  readonly isCredential: boolean;
  /** Position of the name in the HPACK static table (RFC 7541 appendix A), 0 if it is not there. Set by `hpack/`. */
  staticIndex = 0;
  /**
   * The sender asked that the value never enters a compression table (RFC 7541 §6.2.3), and intermediaries must ask the
   * same of the next hop. Such a name is a twin of its `canonical`. Set by `hpack/`.
   */
  neverIndexed = false;
  /**
   * A value that came with this name, most likely to come again: the same object every time is found and compared without
   * looking at its chars. Empty if there is none; see {@link remembered}.
   */
  recent = "";
  #misses = 0;

  constructor(spelled: string, lower: string, canonical: HeaderName | undefined, hopByHop: boolean) {
    this.spelled = spelled;
    this.lower = lower;
    this.canonical = canonical ?? this;
    this.hopByHop = canonical?.hopByHop ?? hopByHop;
    this.isCredential = canonical?.isCredential ?? CREDENTIALS.has(lower);
    this.isLookalike = canonical?.isLookalike ?? (lower.includes("_") && IMITATED.has(lower.replaceAll("_", "-")));
  }

  /**
   * Makes a value {@link recent}, unless many others came: what changes with every message is not worth a copy each time.
   * @returns The value to use: a copy, if it is remembered, since a slice keeps the whole text it was cut from.
   */
  remembered(value: string): string {
    const { length } = value;
    if (this.isCredential || length === 0 || length > MAX_RECENT_LENGTH) return value;
    if (this.recent !== "" && (++this.#misses & 7) !== 0) return value;
    this.recent = ownText(value);
    return this.recent;
  }
}

// Longer values rarely come twice; and of what a stranger sends little is kept.
const MAX_RECENT_LENGTH = 64;

// RFC 9110 §5.6.2: token.
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;
const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "transfer-encoding",
  "upgrade",
]);

const CREDENTIALS: ReadonlySet<string> = new Set(["authorization", "cookie", "proxy-authorization", "set-cookie"]);

/** Names that frame, route or identify. */
const IMITATED: ReadonlySet<string> = new Set([
  "content-length",
  "transfer-encoding",
  "l5d-client-id",
  "x-forwarded-client-cert",
]);

// A stranger chooses names freely: past this many spellings, names are still valid but no longer remembered.
const MAX_INTERNED = 4096;
// Longer names are not worth remembering; real ones are below 64 bytes.
const MAX_INTERNED_LENGTH = 64;

// V8 hashes numbers without its seed, so a stranger can make them collide (CVE-2026-21717).
const NUMBER = /^[0-9]+$/;

const interned = new Map<string, HeaderName>();

/**
 * Finds or makes the name for a spelling.
 * @returns undefined if `spelled` is not an RFC 9110 token.
 */
export function headerName(spelled: string): HeaderName | undefined {
  return interned.get(spelled) ?? internNew(spelled);
}

function internNew(text: string): HeaderName | undefined {
  if (!TOKEN.test(text)) return undefined;
  const isKept = interned.size < MAX_INTERNED && text.length <= MAX_INTERNED_LENGTH && !NUMBER.test(text);
  // A slice keeps the whole head it was cut from alive: 4096 names would be 256 MiB of heads.
  const spelled = isKept ? ownText(text) : text;
  const lower = spelled.toLowerCase();
  const canonical = lower === spelled ? undefined : (interned.get(lower) ?? internNew(lower));
  const name = new HeaderName(spelled, lower, canonical, HOP_BY_HOP.has(lower));
  if (isKept) interned.set(spelled, name);
  return name;
}

function ownText(text: string): string {
  return Buffer.from(text, "latin1").toString("latin1");
}

function known(lower: string): HeaderName {
  const name = headerName(lower);
  if (name === undefined) throw new Error(`not a header name: ${lower}`);
  return name;
}

/** The names this proxy acts on. Interned first, so that `canonical` of any spelling is one of these objects. */
export const H = {
  accept: known("accept"),
  authority: known("authority"),
  connection: known("connection"),
  contentLength: known("content-length"),
  contentType: known("content-type"),
  date: known("date"),
  expect: known("expect"),
  forwarded: known("forwarded"),
  grpcMessage: known("grpc-message"),
  grpcStatus: known("grpc-status"),
  host: known("host"),
  http2Settings: known("http2-settings"),
  keepAlive: known("keep-alive"),
  l5dClientId: known("l5d-client-id"),
  l5dDstCanonical: known("l5d-dst-canonical"),
  l5dOrigProto: known("l5d-orig-proto"),
  l5dProxyConnection: known("l5d-proxy-connection"),
  l5dProxyError: known("l5d-proxy-error"),
  l5dRequireId: known("l5d-require-id"),
  location: known("location"),
  proxyConnection: known("proxy-connection"),
  retryAfter: known("retry-after"),
  server: known("server"),
  te: known("te"),
  trailer: known("trailer"),
  transferEncoding: known("transfer-encoding"),
  upgrade: known("upgrade"),
  xForwardedClientCert: known("x-forwarded-client-cert"),
} as const;

/** An ordered list of fields. Duplicates and spelling survive; values are latin1 text, one char per byte. */
export class HeaderList {
  readonly names: HeaderName[];
  readonly values: string[];

  constructor(names: HeaderName[] = [], values: string[] = []) {
    this.names = names;
    this.values = values;
  }

  get length(): number {
    return this.names.length;
  }

  add(name: HeaderName, value: string): void {
    this.names.push(name);
    this.values.push(value);
  }

  /** The first value of a name in {@link H}. */
  get(canonical: HeaderName): string | undefined {
    const { names } = this;
    for (let i = 0; i < names.length; i++) if (names[i]?.canonical === canonical) return this.values[i];
    return undefined;
  }

  /** The first value of any name, given in lower case. */
  getByLower(lower: string): string | undefined {
    const { names } = this;
    for (let i = 0; i < names.length; i++) if (names[i]?.lower === lower) return this.values[i];
    return undefined;
  }

  has(canonical: HeaderName): boolean {
    return this.get(canonical) !== undefined;
  }

  /** Replaces the first value and drops the others; appends if there was none. */
  set(name: HeaderName, value: string): void {
    const lower = name.lower;
    for (let i = 0; i < this.names.length; i++) {
      if (this.names[i]?.lower !== lower) continue;
      this.values[i] = value;
      this.#removeFrom(i + 1, lower);
      return;
    }
    this.add(name, value);
  }

  /** Drops every field of a name, given in lower case. */
  remove(lower: string): void {
    this.#removeFrom(0, lower);
  }

  clone(): HeaderList {
    return new HeaderList(this.names.slice(), this.values.slice());
  }

  #removeFrom(start: number, lower: string): void {
    const { names, values } = this;
    let to = start;
    for (let from = start; from < names.length; from++) {
      const name = names[from] as HeaderName;
      if (name.lower === lower) continue;
      if (to !== from) {
        names[to] = name;
        values[to] = values[from] as string;
      }
      to++;
    }
    // Not by setting the length: that leaves compiled code for the runtime, and most removals are of one field.
    while (names.length > to) {
      names.pop();
      values.pop();
    }
  }
}
