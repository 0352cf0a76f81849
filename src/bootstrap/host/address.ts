import { createSocket } from "node:dgram";
import { lookup } from "node:dns/promises";
import { isIP } from "node:net";
import { unmapIp } from "../../proxy/core/address.ts";

/**
 * The source address of the route to an enroller: what a datagram would be sent from. None is sent.
 *
 * @param enroller - `host:port`.
 * @returns undefined if there is no route, or the name does not resolve.
 */
export async function routeSource(enroller: string): Promise<string | undefined> {
  const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(enroller);
  const host = match?.[1] ?? match?.[2];
  if (host === undefined) return undefined;
  try {
    const ip = isIP(host) === 0 ? (await lookup(host)).address : host;
    return await sourceOf(ip, Number(match?.[3]));
  } catch {
    return undefined;
  }
}

function sourceOf(ip: string, port: number): Promise<string> {
  const socket = createSocket(isIP(ip) === 6 ? "udp6" : "udp4");
  return new Promise((resolve, reject) => {
    socket.once("error", (error) => {
      socket.close();
      reject(error);
    });
    socket.connect(port, ip, () => {
      const { address } = socket.address();
      socket.close();
      resolve(unmapIp(address));
    });
  });
}
