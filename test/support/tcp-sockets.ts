import { readdirSync } from "node:fs";

const SOL_SOCKET = 1;
const SO_KEEPALIVE = 9;
const IPPROTO_TCP = 6;
const TCP_NODELAY = 1;
const TCP_KEEPIDLE = 4;
const TCP_USER_TIMEOUT = 18;
const AF_INET = 2;

/** A connected IPv4 socket of this process, of whatever thread. */
export interface TcpSocket {
  readonly localPort: number;
  readonly remotePort: number;
  readonly noDelay: boolean;
  readonly keepAlive: boolean;
  readonly keepIdleSeconds: number;
  readonly userTimeoutMs: number;
}

const { functions: libc } = process.getBuiltinModule("node:ffi").dlopen(null, {
  getsockopt: { arguments: ["i32", "i32", "i32", "buffer", "buffer"], return: "i32" },
  getsockname: { arguments: ["i32", "buffer", "buffer"], return: "i32" },
  getpeername: { arguments: ["i32", "buffer", "buffer"], return: "i32" },
});

/** What the kernel says of all connected IPv4 sockets of this process. */
export function tcpSockets(): TcpSocket[] {
  return readdirSync("/proc/self/fd").flatMap((name) => {
    const fd = Number(name);
    const localPort = portOf(libc.getsockname, fd);
    const remotePort = portOf(libc.getpeername, fd);
    if (localPort === undefined || remotePort === undefined) return [];
    return [
      {
        localPort,
        remotePort,
        noDelay: option(fd, IPPROTO_TCP, TCP_NODELAY) !== 0,
        keepAlive: option(fd, SOL_SOCKET, SO_KEEPALIVE) !== 0,
        keepIdleSeconds: option(fd, IPPROTO_TCP, TCP_KEEPIDLE),
        userTimeoutMs: option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT),
      },
    ];
  });
}

function portOf(ask: (fd: number, name: Buffer, length: Buffer) => number, fd: number): number | undefined {
  const name = Buffer.alloc(128);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(name.length);
  return ask(fd, name, length) === 0 && name.readUInt16LE(0) === AF_INET ? name.readUInt16BE(2) : undefined;
}

function option(fd: number, level: number, name: number): number {
  const value = Buffer.alloc(4);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  return libc.getsockopt(fd, level, name, value, length) === 0 ? value.readInt32LE(0) : Number.NaN;
}
