import { readFileSync, readlinkSync } from "node:fs";

const TABLES = [
  ["udp", "udp4"],
  ["udp6", "udp6"],
  ["tcp", "tcp"],
  ["tcp6", "tcp"],
] as const;

/**
 * What a socket that systemd passed in is: one unit may hold a datagram and a stream socket under one name, and Node
 * wants to know before it touches either.
 *
 * @returns undefined if it is neither UDP nor TCP, or the kernel does not say.
 */
export function socketKind(fd: number): "udp4" | "udp6" | "tcp" | undefined {
  try {
    const inode = /^socket:\[(\d+)\]$/.exec(readlinkSync(`/proc/self/fd/${fd}`))?.[1];
    if (inode === undefined) return undefined;
    // proc(5): the inode is the tenth column.
    const listed = (table: string) =>
      readFileSync(`/proc/self/net/${table}`, "latin1")
        .split("\n")
        .some((line) => line.trim().split(/\s+/)[9] === inode);
    return TABLES.find(([table]) => listed(table))?.[1];
  } catch {
    return undefined;
  }
}
