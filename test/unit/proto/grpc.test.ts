import { expect, test } from "vitest";
import { destination, grpcService, identity, inbound, outbound, spiffe, tap } from "../../../src/proto/index.ts";

test("paths are those of the schemas, the SPIFFE one without a package", () => {
  expect(grpcService(identity.Identity).certify.path).toBe("/io.linkerd.proxy.identity.Identity/Certify");
  expect(grpcService(destination.Destination).get.path).toBe("/io.linkerd.proxy.destination.Destination/Get");
  expect(grpcService(destination.Destination).getProfile.path).toBe(
    "/io.linkerd.proxy.destination.Destination/GetProfile",
  );
  expect(grpcService(inbound.InboundServerPolicies).watchPort.path).toBe(
    "/io.linkerd.proxy.inbound.InboundServerPolicies/WatchPort",
  );
  expect(grpcService(outbound.OutboundPolicies).watch.path).toBe("/io.linkerd.proxy.outbound.OutboundPolicies/Watch");
  expect(grpcService(tap.Tap).observe.path).toBe("/io.linkerd.proxy.tap.Tap/Observe");
  expect(grpcService(spiffe.SpiffeWorkloadAPI).fetchX509SVID.path).toBe("/SpiffeWorkloadAPI/FetchX509SVID");
});

test("streaming is told apart per direction", () => {
  const policies = grpcService(inbound.InboundServerPolicies);
  expect([policies.getPort.requestStream, policies.getPort.responseStream]).toEqual([false, false]);
  expect([policies.watchPort.requestStream, policies.watchPort.responseStream]).toEqual([false, true]);
});

test("a literal is serialized and read back; a field of a newer schema is skipped", () => {
  const { getPort } = grpcService(inbound.InboundServerPolicies);
  const bytes = getPort.requestSerialize({ workload: "ns:pod", port: 80 });
  expect(bytes.toString("hex")).toBe("0a066e733a706f641050");
  const read = getPort.requestDeserialize(Buffer.concat([bytes, Buffer.from("fa0101ff", "hex")]));
  expect(read).toMatchObject({ workload: "ns:pod", port: 80 });
  expect(read.$unknown).toBeUndefined();
});

test("bytes that are no message are an error", () => {
  const { getPort } = grpcService(inbound.InboundServerPolicies);
  expect(() => getPort.requestDeserialize(Buffer.from("0aff", "hex"))).toThrow();
});
