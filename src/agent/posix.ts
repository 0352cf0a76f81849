/**
 * The one file that calls libc: what Node's own API cannot do with a descriptor.
 *
 * It goes through `node:ffi`, which is experimental; the runtime is pinned inside the binary and {@link selfTest} runs
 * at start, so a change in it is found before the first connection. Linux on x64 and arm64: both are little-endian and
 * share these constants. Every function works in worker threads too, and none belongs on the request path.
 */
import { isIPv4, isIPv6 } from "node:net";
import { getSystemErrorName } from "node:util";

const AF_UNIX = 1;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
const SOL_IP = 0;
const SOL_SOCKET = 1;
const SOL_TCP = 6;
const SOL_IPV6 = 41;
const SO_REUSEADDR = 2;
const SO_PEERCRED = 17;
const IP_TRANSPARENT = 19;
const IPV6_V6ONLY = 26;
const IPV6_TRANSPARENT = 75;
const TCP_USER_TIMEOUT = 18;
const MAX_INT = 0x7fff_ffff;
const F_DUPFD_CLOEXEC = 1030;
// Below 3 are the standard streams, which must not be handed out even if one of them was closed.
const LOWEST_DUPLICATE = 3;

/** Where a transparent listener binds. */
export interface TransparentListenerOptions {
  /** `::` listens on both families; any other IPv6 address and any IPv4 address on its own family alone. */
  readonly address: string;
  /** 0 … 65535; 0 lets the kernel choose. */
  readonly port: number;
  /** Connections the kernel holds until they are accepted; cut by `net.core.somaxconn`. Default 4096, as systemd's. */
  readonly backlog?: number;
}

/** Who is at the other end of a unix socket, as the kernel saw it at `connect`. */
export interface PeerCredentials {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
}

/** A libc call failed. `code` is the errno's name, such as `EPERM`: not permitted to make a socket transparent. */
export class PosixError extends Error {
  override readonly name = "PosixError";
  readonly syscall: string;
  readonly code: string;

  constructor(syscall: string, errno: number) {
    const code = getSystemErrorName(-errno);
    super(`${syscall}: ${code}`);
    this.syscall = syscall;
    this.code = code;
  }
}

const SIGNATURES = {
  __errno_location: { arguments: [], return: "pointer" },
  // Variadic in C. With integers both calling conventions (x86-64 SysV, AAPCS64 on Linux) pass them like fixed ones.
  fcntl: { arguments: ["i32", "i32", "i32"], return: "i32" },
  socket: { arguments: ["i32", "i32", "i32"], return: "i32" },
  socketpair: { arguments: ["i32", "i32", "i32", "buffer"], return: "i32" },
  setsockopt: { arguments: ["i32", "i32", "i32", "buffer", "u32"], return: "i32" },
  getsockopt: { arguments: ["i32", "i32", "i32", "buffer", "buffer"], return: "i32" },
  bind: { arguments: ["i32", "buffer", "u32"], return: "i32" },
  getsockname: { arguments: ["i32", "buffer", "buffer"], return: "i32" },
  connect: { arguments: ["i32", "buffer", "u32"], return: "i32" },
  listen: { arguments: ["i32", "i32"], return: "i32" },
  close: { arguments: ["i32"], return: "i32" },
  inet_pton: { arguments: ["i32", "string", "buffer"], return: "i32" },
} as const;

type Ffi = typeof import("node:ffi");
type Libc = ReturnType<typeof open>;

let opened: Libc | undefined;

function libc(): Libc {
  opened ??= open();
  return opened;
}

function open() {
  const ffi = loadQuietly();
  // `null` is the process itself, which has libc loaded: no library name that differs between distributions.
  return { ffi, ...ffi.dlopen(null, SIGNATURES).functions };
}

/** Loads `node:ffi` without the one warning that it is experimental; every other warning still comes through. */
function loadQuietly(): Ffi {
  const emitWarning = process.emitWarning;
  process.emitWarning = ((warning: string | Error, ...rest: unknown[]) => {
    if (rest[0] !== "ExperimentalWarning") Reflect.apply(emitWarning, process, [warning, ...rest]);
  }) as typeof process.emitWarning;
  try {
    return process.getBuiltinModule("node:ffi");
  } finally {
    process.emitWarning = emitWarning;
  }
}

function check(syscall: string, result: number): number {
  if (result >= 0) return result;
  const { ffi, __errno_location } = libc();
  throw new PosixError(syscall, ffi.getInt32(__errno_location()));
}

/**
 * Duplicates a descriptor; the duplicate closes on exec and has a life of its own.
 * @returns the lowest free number above the standard streams.
 * @throws PosixError `EBADF` if `fd` is not open, `EMFILE` if no number is free.
 */
export function dup(fd: number): number {
  return check("fcntl", libc().fcntl(fd, F_DUPFD_CLOEXEC, LOWEST_DUPLICATE));
}

/**
 * Closes a descriptor that came from this file and that no `net` object owns. `fs.closeSync` would do the same, but in a
 * worker it warns of every descriptor that `fs` did not open itself.
 * @throws PosixError `EBADF` if `fd` is not open.
 */
export function close(fd: number): void {
  check("close", libc().close(fd));
}

/**
 * Opens a listening socket that accepts connections to addresses this host does not have, as TPROXY delivers them.
 * @returns a non-blocking descriptor that closes on exec, for `net.Server.listen({ fd })`, which then owns it.
 * @throws PosixError `EPERM` without CAP_NET_ADMIN, `EADDRINUSE`, `EAFNOSUPPORT` where the kernel lacks the family.
 * @see Linux Documentation/networking/tproxy.rst
 */
export function transparentListener(options: TransparentListenerOptions): number {
  const { address, port, backlog = 4096 } = options;
  const v6 = isIPv6(address);
  if (!v6 && !isIPv4(address)) throw new TypeError(`not an IP address: ${address}`);
  const c = libc();
  const fd = check("socket", c.socket(v6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  try {
    setOption(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (v6) {
      setOption(fd, SOL_IPV6, IPV6_V6ONLY, address === "::" ? 0 : 1);
      setOption(fd, SOL_IPV6, IPV6_TRANSPARENT, 1);
    } else {
      setOption(fd, SOL_IP, IP_TRANSPARENT, 1);
    }
    const name = v6 ? socketAddress6(address, port) : socketAddress4(address, port);
    check("bind", c.bind(fd, name, name.length));
    check("listen", c.listen(fd, backlog));
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/**
 * Bounds how long sent bytes may stay unacknowledged before the kernel ends the connection (TCP_USER_TIMEOUT).
 * A peer that acknowledges and takes nothing for so long is ended, too, as if it were gone (tried, Linux 6.18).
 *
 * @param ms - Milliseconds; 0 restores the system's default. A listening socket's is that of what it accepts.
 * @see RFC 5482
 */
export function setUserTimeout(fd: number, ms: number): void {
  setOption(fd, SOL_TCP, TCP_USER_TIMEOUT, Math.min(ms, MAX_INT));
}

/**
 * The port that an internet socket is bound to.
 * @returns undefined for a socket of another kind.
 * @throws PosixError `ENOTSOCK`, `EBADF`.
 */
export function localPort(fd: number): number | undefined {
  const name = Buffer.alloc(128);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(name.length);
  check("getsockname", libc().getsockname(fd, name, length));
  const family = name.readUInt16LE(0);
  // Family, then port in network order, in both kinds.
  return family === AF_INET || family === AF_INET6 ? name.readUInt16BE(2) : undefined;
}

/**
 * Connects a datagram socket to one that a program listens on at a path: each `write` is a datagram then.
 * @returns a descriptor that closes on exec and never blocks: `EAGAIN` while the receiver is behind.
 * @throws PosixError `ENOENT`, `ECONNREFUSED`, `EACCES`.
 */
export function connectDatagram(path: string): number {
  const c = libc();
  const fd = check("socket", c.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  try {
    const name = socketAddressUnix(path);
    check("connect", c.connect(fd, name, name.length));
    return fd;
  } catch (error) {
    close(fd);
    throw error;
  }
}

/** @throws PosixError `ENOTSOCK`; for a socket that is not a unix socket the kernel answers pid 0 and uid, gid −1. */
export function peerCredentials(fd: number): PeerCredentials {
  const value = Buffer.alloc(12);
  const length = Buffer.alloc(4);
  length.writeUInt32LE(value.length);
  check("getsockopt", libc().getsockopt(fd, SOL_SOCKET, SO_PEERCRED, value, length));
  return { pid: value.readInt32LE(0), uid: value.readInt32LE(4), gid: value.readInt32LE(8) };
}

/**
 * Proves, without privileges, that calls reach libc and come back whole.
 * @throws Error saying what came back wrong: the runtime is not the one this file was written for.
 */
export function selfTest(): void {
  const pair = Buffer.alloc(8);
  check("socketpair", libc().socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
  const ends = [pair.readInt32LE(0), pair.readInt32LE(4)];
  try {
    const copy = dup(ends[0] ?? -1);
    ends.push(copy);
    const peer = peerCredentials(copy);
    if (peer.pid !== process.pid) throw new Error(`SO_PEERCRED names process ${peer.pid}, not ${process.pid}`);
    expectBadDescriptor();
  } finally {
    for (const fd of ends) close(fd);
  }
}

function expectBadDescriptor(): void {
  try {
    dup(-1);
  } catch (error) {
    if (error instanceof PosixError && error.code === "EBADF") return;
    throw error;
  }
  throw new Error("libc duplicated a descriptor that does not exist");
}

function setOption(fd: number, level: number, name: number, value: number): void {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  check("setsockopt", libc().setsockopt(fd, level, name, bytes, bytes.length));
}

// struct sockaddr_un: family, path ended by a zero.
function socketAddressUnix(path: string): Buffer {
  const bytes = Buffer.alloc(2 + 108);
  if (Buffer.byteLength(path) > 107) throw new TypeError(`too long for a socket: ${path}`);
  bytes.writeUInt16LE(AF_UNIX, 0);
  bytes.write(path, 2);
  return bytes;
}

// struct sockaddr_in: family, port in network order, address, 8 bytes of padding.
function socketAddress4(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(16);
  bytes.writeUInt16LE(AF_INET, 0);
  bytes.writeUInt16BE(port, 2);
  toNetwork(AF_INET, address, bytes.subarray(4, 8));
  return bytes;
}

// struct sockaddr_in6: family, port in network order, flow label, address, scope.
function socketAddress6(address: string, port: number): Buffer {
  const bytes = Buffer.alloc(28);
  bytes.writeUInt16LE(AF_INET6, 0);
  bytes.writeUInt16BE(port, 2);
  toNetwork(AF_INET6, address, bytes.subarray(8, 24));
  return bytes;
}

function toNetwork(family: number, address: string, into: Buffer): void {
  if (libc().inet_pton(family, address, into) !== 1) throw new TypeError(`not a plain IP address: ${address}`);
}
