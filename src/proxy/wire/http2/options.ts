import { INITIAL_WINDOW_BYTES } from "./flow.ts";
import { DEFAULT_TABLE_BYTES } from "./hpack/index.ts";
import { MIN_MAX_FRAME_BYTES } from "./settings.ts";

/** PINGs that find out whether the peer is still there. */
export interface KeepAlive {
  /** Silence after which a PING is sent, ms. */
  readonly intervalMs: number;
  /** Time the peer has to answer or to send anything else, ms. */
  readonly timeoutMs: number;
  /** Also while no stream is open. */
  readonly whileIdle: boolean;
}

/**
 * What a peer may do before it is taken for hostile. Every limit is per connection; reaching it is allowed, going beyond
 * costs the connection with ENHANCE_YOUR_CALM, unless said otherwise.
 */
export interface Http2Limits {
  /** The period over which events are counted, ms. */
  readonly periodMs: number;
  /** Streams reset, by the peer or for its errors, before our response began, per period (CVE-2023-44487, CVE-2025-8671). */
  readonly earlyResets: number;
  /** Streams reset at all, per period. */
  readonly resets: number;
  /** Streams of a mesh peer reset per period, before new ones are refused while nine in ten are reset. */
  readonly meshResets: number;
  /** Streams of a mesh peer reset before their response within one read; new ones in the same read are refused. */
  readonly meshResetsAtOnce: number;
  /** Frames one header block may be spread over (CVE-2024-27316 and its family). */
  readonly headerFrames: number;
  /** Bytes of one header block as sent. */
  readonly headerBlockBytes: number;
  /** SETTINGS frames per second (CVE-2019-9515). */
  readonly settingsPerSecond: number;
  /** Entries of one SETTINGS frame. */
  readonly settingsEntries: number;
  /** DATA frames without data and without END_STREAM, in a row (CVE-2019-9518). */
  readonly emptyData: number;
  /** PINGs per period without any DATA or HEADERS between them (CVE-2019-9512). */
  readonly pings: number;
  /** Other frames that move nothing (PRIORITY, WINDOW_UPDATE, unknown types, frames on closed streams), per period and likewise. */
  readonly idleFrames: number;
  /** Frames of ours that wait in the socket, beyond its usual content, for a peer that takes nothing. */
  readonly unreadAnswers: number;
  /** Content received and not passed on yet for which the connection's window is given back all the same, bytes. */
  readonly heldBytes: number;
  /** Interim responses to one request; more cost the stream. */
  readonly interims: number;
  /** Time for the preface, the acknowledgement of SETTINGS, and the rest of a header block that has begun, ms. */
  readonly handshakeMs: number;
  /**
   * Time for which data of ours may wait for a window that does not open; then the stream is reset, ms. For a server
   * whose peer is not trusted; otherwise there is no limit unless it is given here.
   */
  readonly stallMs: number;
}

export interface Http2Options {
  /** Receive window of each stream, bytes. */
  readonly streamWindowBytes?: number;
  /**
   * The same until something of the stream was passed on, bytes; not given: no other. A small one suits a peer for which a round trip costs
   * nothing: it bounds what a reader holds who never takes anything.
   */
  readonly firstWindowBytes?: number;
  /** Receive window of the connection, bytes. */
  readonly connectionWindowBytes?: number;
  /**
   * How far the window of a stream may grow on a path that carries more, bytes; the connection's grows to four times as
   * much. Not given: it stays as it is, which is right for strangers, whose every stream could hold so much.
   */
  readonly maxStreamWindowBytes?: number;
  /** Largest frame we take, bytes; 16,384 to 16,777,215. */
  readonly maxFrameBytes?: number;
  /** Largest header list we take, bytes by RFC 9113 §6.5.2. */
  readonly maxHeaderListBytes?: number;
  /** Streams a client may have open here. 1,000 suits a mesh peer, which carries everybody's requests. */
  readonly maxConcurrentStreams?: number;
  /** HPACK tables, either direction, bytes; at most 65,536. */
  readonly headerTableBytes?: number;
  /** RFC 8441 extended CONNECT: announced by a server, allowed by a client once the server announced it. */
  readonly extendedConnect?: boolean;
  readonly keepAlive?: KeepAlive | undefined;
  /**
   * A mesh peer: its resets come from many clients, so past its own limits of resets new streams are refused one by one
   * with ENHANCE_YOUR_CALM, and the connection stays.
   */
  readonly trusted?: boolean;
  readonly limits?: Partial<Http2Limits>;
}

/** {@link Http2Options} with every gap filled. */
export interface Http2Config {
  readonly streamWindowBytes: number;
  readonly firstWindowBytes: number;
  readonly connectionWindowBytes: number;
  readonly maxStreamWindowBytes: number;
  readonly maxFrameBytes: number;
  readonly maxHeaderListBytes: number;
  readonly maxConcurrentStreams: number;
  readonly headerTableBytes: number;
  readonly extendedConnect: boolean;
  readonly keepAlive: KeepAlive | undefined;
  readonly trusted: boolean;
  readonly limits: Http2Limits;
}

/** Precedents, where there is one, beside each figure. */
export const DEFAULT_LIMITS: Http2Limits = {
  periodMs: 10_000,
  // Go and hyper count streams reset before they were accepted: 4 × 250 and 20; nginx 1.25.3 and its kin allow hundreds.
  earlyResets: 200,
  // nghttp2: a burst of 1,000, then 33 per second.
  resets: 1_000,
  // A busy gateway whose every client gives up: 1,000 requests per second, all cancelled, and a fifth more.
  meshResets: 12_000,
  // nginx and Go: what may be open at once; so much work may be alive in the application after its reset.
  meshResetsAtOnce: 100,
  // Nothing honest needs more than one frame for a list of 16 KiB; HAProxy and Envoy went to similar counts in 2024.
  headerFrames: 16,
  headerBlockBytes: 65_536,
  // An honest peer sends one or two in a connection's life; Node's queue of acknowledgements ends at 10.
  settingsPerSecond: 50,
  // nghttp2 takes 32 entries; six are defined.
  settingsEntries: 64,
  // Go and Node: 1,000 and so; Envoy 1.
  emptyData: 1_000,
  // Envoy: 1,000 control frames that await an answer. gRPC measures bandwidth with a PING per round trip, beside DATA.
  pings: 1_000,
  // Envoy: 100 PRIORITY per stream and 10 WINDOW_UPDATE per DATA; here both together and more.
  idleFrames: 10_000,
  // Go's maxQueuedControlFrames; Envoy and nghttp2: 1,000.
  unreadAnswers: 10_000,
  // 512 streams that stand still at the usual window. Tied to the streams', as in most proxies, 16 would stop all others.
  heldBytes: 33_554_432,
  // Go's client: 5 by default, by bytes; a hundred hints are still not an attack.
  interims: 100,
  // Go and nginx give a head 10 s and more.
  handshakeMs: 10_000,
  // nginx and Apache: a client that takes nothing for 60 s is gone.
  stallMs: 60_000,
};

/** For mesh peers: 1 MiB in a round trip of 50 ms are 20 MB/s of one stream. gRPC and hyper go to 16 MiB. */
export const MESH_WINDOW_BYTES = 1_048_576;

/** The windows are linkerd2-proxy's, the rest what h2, nghttp2 and Go announce. */
const DEFAULTS: Http2Config = {
  streamWindowBytes: INITIAL_WINDOW_BYTES,
  firstWindowBytes: INITIAL_WINDOW_BYTES,
  connectionWindowBytes: 1_048_576,
  maxStreamWindowBytes: 0,
  maxFrameBytes: MIN_MAX_FRAME_BYTES,
  maxHeaderListBytes: 16_384,
  maxConcurrentStreams: 100,
  headerTableBytes: DEFAULT_TABLE_BYTES,
  extendedConnect: false,
  keepAlive: undefined,
  trusted: false,
  limits: DEFAULT_LIMITS,
};

export function completeOptions(options: Http2Options = {}, isServer: boolean): Http2Config {
  // A consumer in the mesh, and a server that we call, may pause for as long as the application likes.
  const stallMs = isServer && options.trusted !== true ? DEFAULT_LIMITS.stallMs : Number.POSITIVE_INFINITY;
  const firstWindowBytes = options.firstWindowBytes ?? options.streamWindowBytes ?? DEFAULTS.streamWindowBytes;
  return { ...DEFAULTS, ...options, firstWindowBytes, limits: { ...DEFAULT_LIMITS, stallMs, ...options.limits } };
}
