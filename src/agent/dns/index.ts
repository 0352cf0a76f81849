/**
 * The DNS stub: answers for the cluster domain on loopback sockets, from what the enroller resolves, and for nothing
 * else. May import core and proto; who resolves, time and storage are handed in. Start at `stub.ts` (sockets), then
 * `names.ts` (what is known and for how long); `message.ts` is the wire format, pure.
 */

export { decodeQuery, encodeReply, NAME_ERROR, type Query, REFUSED, type Reply, SERVER_FAILURE } from "./message.ts";
export { type NameAnswer, Names, type NamesOptions, type Resolution, type ServiceRecord } from "./names.ts";
export { DnsStub } from "./stub.ts";
