import { connect, type Socket } from "node:net";
import { PREFACE } from "../../src/proxy/wire/http2/index.ts";
import { type Fields, frame, POST } from "./http2.ts";

/** A request by hand; `path` tells an application's log which one it was. */
export const post = (path: string): Fields => POST.map(([name, value]) => [name, name === ":path" ? path : value]);

/** A client that speaks HTTP/2 by hand over a real socket, and may refuse to read. */
export class RawHttp2 {
  readonly socket: Socket;
  closed = false;
  #unread: Buffer = Buffer.alloc(0);
  /** What the peer said: one line per frame. */
  readonly frames: string[] = [];
  /** The error code of the peer's last GOAWAY. */
  goaway: number | undefined;
  /** Reasons of the peer's RST_STREAMs. */
  readonly resets = new Map<number, number>();
  /** `:status` and the like are not decoded: only that a head came. */
  readonly heads = new Map<number, number>();
  readonly ended = new Set<number>();

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("error", () => {});
    socket.on("close", () => {
      this.closed = true;
    });
    socket.on("end", () => socket.end());
    socket.on("data", (chunk: Buffer) => this.#read(chunk));
  }

  /** Connects and exchanges SETTINGS. */
  static async open(port: number, ...settings: [number, number][]): Promise<RawHttp2> {
    const socket = connect(port, "127.0.0.1");
    await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
    return RawHttp2.over(socket, ...settings);
  }

  /** The same over a connection that is there. */
  static over(socket: Socket, ...settings: [number, number][]): RawHttp2 {
    const peer = new RawHttp2(socket);
    peer.write(PREFACE, frame.settings(...settings), frame.settingsAck());
    return peer;
  }

  write(...parts: Buffer[]): void {
    if (!this.socket.destroyed) this.socket.write(Buffer.concat(parts));
  }

  /** Writes when the socket has room, so that a flood does not pile up here; false once the connection is gone. */
  async pour(bytes: Buffer): Promise<boolean> {
    if (this.socket.destroyed) return false;
    if (this.socket.write(bytes)) return true;
    await new Promise<void>((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.socket.off("drain", done);
        this.socket.off("close", done);
        resolve();
      };
      const timer = setTimeout(done, 500);
      this.socket.on("drain", done);
      this.socket.on("close", done);
    });
    return !this.socket.destroyed;
  }

  close(): void {
    this.socket.destroy();
  }

  #read(chunk: Buffer): void {
    let bytes = this.#unread.length === 0 ? chunk : Buffer.concat([this.#unread, chunk]);
    while (bytes.length >= 9) {
      const length = bytes.readUIntBE(0, 3);
      if (bytes.length < 9 + length) break;
      const [type, flags] = [bytes[3] as number, bytes[4] as number];
      const id = bytes.readUInt32BE(5);
      if (type === 7) this.goaway = bytes.readUInt32BE(9 + 4);
      if (type === 3) this.resets.set(id, bytes.readUInt32BE(9));
      if (type === 1) this.heads.set(id, (this.heads.get(id) ?? 0) + 1);
      if (type <= 1 && (flags & 1) !== 0) this.ended.add(id);
      this.frames.push(`${type} ${id} ${flags}`);
      bytes = bytes.subarray(9 + length);
    }
    this.#unread = bytes;
  }
}
