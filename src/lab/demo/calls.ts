import { SAMPLE } from "../sample.ts";

/** Something a visitor could type on a host. */
export interface CallPlan {
  readonly host: string;
  /** For `sh -c`. */
  readonly command: string;
  /** What of the output is shown. */
  readonly answer: (output: string) => string;
  /** Whether a proxy sees a request in it, or only bytes. */
  readonly http: boolean;
}

const line = (pattern: RegExp) => (output: string) =>
  output
    .split("\n")
    .map((text) => text.trim())
    .filter((text) => pattern.test(text))
    .join("  ") ||
  output.trim().split("\n")[0] ||
  "(nothing)";

// What the application saw: itself, its peer, and the client that the proxy vouched for.
const echo = (output: string) => line(/^"(app|client)":/)(output).replace(/,$/, "");

const host = (service: string) => `${service}.${SAMPLE.namespace}.svc.cluster.local`;

// A gRPC message is one byte of flags, four of length, then the bytes: curl can send that too.
const GRPC = [
  "printf '\\0\\0\\0\\0\\05hello' | curl -s --http2-prior-knowledge -H 'content-type: application/grpc'",
  `-H 'te: trailers' --data-binary @- --output - http://${host(SAMPLE.group)}:${SAMPLE.grpcPort}/lab.Echo/Say`,
].join(" ");

/** Both ways, and each protocol once. */
export const CALLS: readonly CallPlan[] = [
  { host: SAMPLE.pod, command: `curl -s http://${host(SAMPLE.group)}/orders`, answer: echo, http: true },
  { host: SAMPLE.vm, command: `curl -s http://${host(SAMPLE.pod)}/menu`, answer: echo, http: true },
  {
    host: SAMPLE.vm,
    command: `curl -s -o /dev/null -w '%{http_code}' http://${host(SAMPLE.pod)}/status/503`,
    answer: (output) => output.trim(),
    http: true,
  },
  { host: SAMPLE.pod, command: GRPC, answer: (output) => printable(output), http: true },
  {
    host: SAMPLE.pod,
    command: `sleep 1 | curl -s -m 2 telnet://${host(SAMPLE.group)}:${SAMPLE.tcpPort}`,
    answer: (output) => `${output.trim()}  (opaque: the server speaks first)`,
    http: false,
  },
];

function printable(output: string): string {
  return [...output].filter((character) => character >= " " && character <= "~").join("");
}

const RATE = 20;

/** Steady traffic for so many seconds: one curl that makes many requests, every tenth of them to fail. */
export function load(from: string, to: string, seconds: number): { readonly host: string; readonly command: string } {
  const url = `http://${host(to)}`;
  const ways = [
    `${url}/ok?[1-${Math.max(1, Math.ceil(seconds * RATE * 0.9))}]`,
    `${url}/status/500?[1-${Math.max(1, Math.ceil(seconds * RATE * 0.1))}]`,
  ];
  const [ok, failing] = ways.map(
    (way, index) => `curl -s -o /dev/null --rate ${index === 0 ? RATE * 54 : RATE * 6}/m '${way}'`,
  );
  return {
    host: from,
    command: `timeout ${Math.ceil(seconds) + 2} ${ok} & timeout ${Math.ceil(seconds) + 2} ${failing}; wait`,
  };
}
