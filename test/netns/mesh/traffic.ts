import { writeFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { SAMPLE } from "../../../src/lab/sample.ts";
import { readSegment, readStreams } from "../../support/pcap.ts";
import { beginsWithTls, selectedVersion, TLS_1_3 } from "../../support/tls-records.ts";
import { type MeshSite, SSH_PORT } from "./site.ts";

const PROXY_PORT = 4143;
/** In every message of an application; nobody but the two applications and their own proxies may read it. */
const MARKER = "swordfish-7Q3vXw";
/** The same length, sent in clear: the proof that the capture would show what it is asked for. */
const PLAIN_MARKER = "plainfish-7Q3vXw";

const host = (service: string) => `${service}.${SAMPLE.namespace}.svc.cluster.local`;
const identity = (account: string) => `${account}.${SAMPLE.namespace}.serviceaccount.identity.linkerd.cluster.local`;

const WAYS = [
  { from: SAMPLE.pod, to: SAMPLE.group, answers: SAMPLE.vm, as: identity(SAMPLE.pod) },
  { from: SAMPLE.vm, to: SAMPLE.pod, answers: SAMPLE.pod, as: identity(SAMPLE.group) },
] as const;

/** Requests both ways with other people's clients, and what a wiretap saw of them. */
export function traffic(site: () => MeshSite): void {
  describe.each(WAYS)("from $from to $to", ({ from, to, answers, as }) => {
    it("carries curl's HTTP/1", async () => {
      const url = `http://${host(to)}/orders/${MARKER}`;
      const { stdout } = await site().lab.exec(from, "curl", ["-sS", "-d", MARKER.repeat(100), url]);
      expect(JSON.parse(stdout)).toMatchObject({ app: answers, client: as, bytes: MARKER.length * 100 });
    });

    it("carries curl's HTTP/2 with prior knowledge", async () => {
      const message = join(site(), "message");
      writeFileSync(message, grpcMessage(MARKER));
      const { stdout } = await site().lab.exec(from, "curl", [
        ...["-sS", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "-H", "te: trailers"],
        ...["--data-binary", `@${message}`, "--output", "-", "-w", " %{http_version} %{http_code}"],
        `http://${host(to)}:${SAMPLE.grpcPort}/lab.Echo/Say`,
      ]);
      expect(stdout).toContain(`${MARKER} 2 200`);
    });

    it("carries h2load's requests, all of them, in both versions of HTTP", async () => {
      const message = join(site(), "message");
      writeFileSync(message, grpcMessage(MARKER));
      const one = ["--h1", "-n", "400", "-c", "4", "-H", `x-marker: ${MARKER}`, `http://${host(to)}/${MARKER}`];
      const two = [
        ...["-n", "1000", "-c", "4", "-m", "10", "-d", message, "-H", `x-marker: ${MARKER}`],
        ...["-H", "content-type: application/grpc", "-H", "te: trailers"],
        `http://${host(to)}:${SAMPLE.grpcPort}/lab.Echo/Say`,
      ];
      for (const [args, count] of [
        [one, 400],
        [two, 1000],
      ] as const) {
        const { stdout } = await site().lab.exec(from, "h2load", args);
        expect(stdout).toContain(`${count} done, ${count} succeeded, 0 failed, 0 errored, 0 timeout`);
        expect(stdout).toContain(`status codes: ${count} 2xx`);
      }
    });

    it("carries gRPC, one message or a stream of them, and its errors", async () => {
      const target = `${host(to)}:${SAMPLE.grpcPort}`;
      expect(await site().ask(from, "grpc-calls.ts", [target, MARKER])).toEqual({
        said: { text: MARKER, client: as, code: 0 },
        chatted: { echoed: Array.from({ length: 20 }, (_, index) => `${MARKER} ${index}`), code: 0 },
        failed: { text: "", client: "", code: 14 },
      });
    });

    it("carries bytes of a server that speaks first, after the client has closed its side", async () => {
      expect(await site().ask(from, "tcp-client.ts", [host(to), String(SAMPLE.tcpPort), MARKER])).toEqual({
        greeting: `220 ${answers} ready`,
        whole: true,
        error: "",
      });
    });
  });

  describe("on the wire between them", () => {
    it("there is TLS 1.3 and no byte of the applications", async () => {
      const { lab, capture } = site();
      const [pod, vm] = [lab.host(SAMPLE.pod), lab.host(SAMPLE.vm)];
      // Outside the mesh, to prove the tap.
      const { stdout } = await lab.exec(SAMPLE.pod, "sh", [
        ...["-c", `(echo ${PLAIN_MARKER}; sleep 0.3) | curl -s -m 1 telnet://${vm.ip}:${SSH_PORT}`],
      ]);
      expect(stdout).toContain(PLAIN_MARKER);
      const frames = (await capture?.stop()) ?? [];
      expect(frames.some((frame) => frame.includes(PLAIN_MARKER))).toBe(true);

      const betweenThem = (ip: string) => [pod.ip, vm.ip, pod.ip6, vm.ip6].includes(ip);
      const segments = frames.map(readSegment).filter((segment) => segment !== undefined);
      const streams = readStreams(segments).filter(
        ({ client, server, serverPort }) =>
          betweenThem(client) && betweenThem(server) && serverPort !== SSH_PORT && client !== server,
      );
      // Both ways, and nothing on another port.
      expect(new Set(streams.map(({ client, serverPort }) => `${client} ${serverPort}`))).toEqual(
        new Set([`${pod.ip} ${PROXY_PORT}`, `${vm.ip} ${PROXY_PORT}`]),
      );
      for (const stream of streams) {
        expect(beginsWithTls(stream.fromClient)).toBe(true);
        expect(selectedVersion(stream.fromServer)).toBe(TLS_1_3);
      }
      expect(frames.filter((frame) => frame.includes(MARKER)).length).toBe(0);
      // Also where a segment's end cuts it in two.
      for (const { fromClient, fromServer } of streams)
        expect(fromClient.includes(MARKER) || fromServer.includes(MARKER)).toBe(false);
      const carried = streams.reduce(
        (sum, { fromClient, fromServer }) => sum + fromClient.length + fromServer.length,
        0,
      );
      // 256 KiB each way twice over, at least: it was there that the applications' bytes went.
      expect(carried).toBeGreaterThan(4 * 256 * 1024);
      console.log(
        `wiretap: ${frames.length} frames, ${streams.length} connections on ${PROXY_PORT}, ${carried} bytes, all TLS 1.3`,
      );
    });
  });
}

function join(site: MeshSite, name: string): string {
  return `${site.lab.directory}/${name}`;
}

/** One gRPC message: a byte of flags, four of length, the bytes. */
function grpcMessage(text: string): Buffer {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
}
