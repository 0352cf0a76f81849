import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";
import { Client, type ClientDuplexStream, type ServiceError } from "@grpc/grpc-js";
import {
  Enroller,
  type EnrollerMessage,
  type EnrollRequest,
  type EnrollResponse,
  type HostMessageSchema,
  type RenewRequest,
  type RenewResponse,
  type ResolveRequest,
  type ResolveResponse,
} from "../../proto/gen/meshagent/enroll/v1/enroll_pb.ts";
import { type GrpcMethod, grpcService } from "../../proto/grpc.ts";
import type { Millis } from "../../proxy/core/clock.ts";
import { CHANNEL_OPTIONS, grpcTarget, type MeshChannelOptions, meshCredentials } from "./channel.ts";
import { BootstrapError } from "./errors.ts";
import { failureOf } from "./failure.ts";

const METHODS = grpcService(Enroller);
const DEADLINE_MS = 15_000;

type Init<T> = Omit<T, "$typeName" | "$unknown">;
export type AttachStream = ClientDuplexStream<MessageInitShape<typeof HostMessageSchema>, EnrollerMessage>;

/** The calls of one enroller address. Every failure is a {@link BootstrapError}. */
export class EnrollerClient {
  readonly #client: Client;
  readonly address: string;

  /** Does not connect yet. @throws BootstrapError for an address that is none. */
  constructor(address: string, options: MeshChannelOptions) {
    const target = grpcTarget(address);
    if (target === undefined) throw new BootstrapError("request-refused", `"${address}" is not host:port`);
    this.address = address;
    this.#client = new Client(target, meshCredentials(options), {
      ...CHANNEL_OPTIONS,
      "grpc.default_authority": options.serverName,
      "grpc.max_receive_message_length": 1024 * 1024,
    });
  }

  enroll(request: Init<EnrollRequest>): Promise<EnrollResponse> {
    return this.#unary(METHODS.enroll, request);
  }

  renew(request: Init<RenewRequest>): Promise<RenewResponse> {
    return this.#unary(METHODS.renew, request);
  }

  resolve(request: Init<ResolveRequest>, deadlineMs: Millis = 3000): Promise<ResolveResponse> {
    return this.#unary(METHODS.resolve, request, deadlineMs);
  }

  /** Opens the stream; its `error` events are grpc-js's: see {@link failureOf}. */
  attach(): AttachStream {
    const method = METHODS.attach;
    return this.#client.makeBidiStreamRequest(method.path, method.requestSerialize, method.responseDeserialize);
  }

  close(): void {
    this.#client.close();
  }

  #unary<I extends DescMessage, O extends DescMessage>(
    method: GrpcMethod<I, O>,
    request: MessageInitShape<I>,
    deadlineMs: Millis = DEADLINE_MS,
  ): Promise<MessageShape<O>> {
    return new Promise((resolve, reject) => {
      this.#client.makeUnaryRequest(
        method.path,
        method.requestSerialize,
        method.responseDeserialize,
        request,
        { deadline: Date.now() + deadlineMs },
        (error: ServiceError | null, answer?: MessageShape<O>) => {
          if (error !== null) reject(failureOf(error, this.address));
          else if (answer === undefined) reject(new BootstrapError("try-again", `${this.address} answered nothing`));
          else resolve(answer);
        },
      );
    });
  }
}
