import type { Server, ServerWritableStream } from "@grpc/grpc-js";
import { destination, grpcService } from "../../proto/index.ts";
import type { Cluster } from "./cluster.ts";
import { EndpointSet, resolveGet } from "./endpoint-set.ts";
import { follow, ifChanged } from "./follow.ts";
import type { Init } from "./message.ts";
import { profileSource } from "./profile.ts";
import { parseContextToken } from "./workload-token.ts";

type Call<M> = ServerWritableStream<destination.GetDestination, M>;
type UpdateMessage = Init<typeof destination.UpdateSchema>;
type ProfileMessage = Init<typeof destination.DestinationProfileSchema>;

/** The destination controller: where names lead (`Get`), and what is known of addresses (`GetProfile`). */
export function addDestination(server: Server, cluster: Cluster): void {
  server.addService(grpcService(destination.Destination), {
    get(call: Call<UpdateMessage>): void {
      const context = parseContextToken(call.request.contextToken);
      let endpoints: EndpointSet | undefined;
      follow(call, cluster.store, () => {
        endpoints ??= new EndpointSet(cluster, resolveGet(cluster, call.request.path), context);
        return endpoints.refresh();
      });
    },
    getProfile(call: Call<ProfileMessage>): void {
      const context = parseContextToken(call.request.contextToken);
      const { path } = call.request;
      let source: (() => ProfileMessage | undefined) | undefined;
      const read = () => {
        source ??= profileSource(cluster, path, context);
        return source();
      };
      follow(call, cluster.store, ifChanged(destination.DestinationProfileSchema, read));
    },
  });
}
