import { connectionError, ErrorCode } from "./errors.ts";
import { MAX_WINDOW_BYTES } from "./flow.ts";
import { DEFAULT_TABLE_BYTES } from "./hpack/index.ts";

/** RFC 9113 §6.5.2, RFC 8441 §3. */
export const SettingId = {
  headerTableSize: 0x1,
  enablePush: 0x2,
  maxConcurrentStreams: 0x3,
  initialWindowSize: 0x4,
  maxFrameSize: 0x5,
  maxHeaderListSize: 0x6,
  enableConnectProtocol: 0x8,
} as const;

/** RFC 9113 §6.5.2: what every peer must take, and the most that may be announced. */
export const MIN_MAX_FRAME_BYTES = 16_384;
export const MAX_MAX_FRAME_BYTES = 16_777_215;

/** What the peer announced; at first, what RFC 9113 §6.5.2 says of a peer that has not spoken. */
export class PeerSettings {
  headerTableBytes = DEFAULT_TABLE_BYTES;
  maxConcurrentStreams = Number.POSITIVE_INFINITY;
  streamWindowBytes = 65_535;
  maxFrameBytes = MIN_MAX_FRAME_BYTES;
  /** RFC 8441 §3: whether a client may send extended CONNECT. */
  enableConnectProtocol = false;

  /**
   * Takes one setting.
   * @param fromServer - Whether the peer is a server, which must not mention push.
   * @throws ProtocolError for a value that RFC 9113 §6.5.2 forbids.
   */
  apply(id: number, value: number, fromServer: boolean): void {
    switch (id) {
      case SettingId.headerTableSize:
        this.headerTableBytes = value;
        return;
      case SettingId.enablePush:
        if (value > 1 || (fromServer && value === 1)) throw forbidden("ENABLE_PUSH");
        return;
      case SettingId.maxConcurrentStreams:
        this.maxConcurrentStreams = value;
        return;
      case SettingId.initialWindowSize:
        if (value > MAX_WINDOW_BYTES) {
          throw connectionError(ErrorCode.flowControlError, "RFC 9113 §6.5.2", "INITIAL_WINDOW_SIZE beyond 2^31-1");
        }
        this.streamWindowBytes = value;
        return;
      case SettingId.maxFrameSize:
        if (value < MIN_MAX_FRAME_BYTES || value > MAX_MAX_FRAME_BYTES) throw forbidden("MAX_FRAME_SIZE");
        this.maxFrameBytes = value;
        return;
      case SettingId.enableConnectProtocol:
        // RFC 8441 §3: 0 or 1, and never back to 0.
        if (value > 1 || (value === 0 && this.enableConnectProtocol)) throw forbidden("ENABLE_CONNECT_PROTOCOL");
        this.enableConnectProtocol = value === 1;
        return;
      default:
        // RFC 9113 §6.5.2: unknown settings are ignored; MAX_HEADER_LIST_SIZE is advice we do not need.
        return;
    }
  }
}

function forbidden(name: string): Error {
  return connectionError(ErrorCode.protocolError, "RFC 9113 §6.5.2", `forbidden value of ${name}`);
}
