import {
  create,
  type DescMessage,
  type DescMethod,
  type DescService,
  fromBinary,
  type MessageInitShape,
  type MessageShape,
  toBinary,
} from "@bufbuild/protobuf";

/**
 * One method in the shape grpc-js wants of a method definition, for either side. Serializers also take an unfinished
 * literal (`{ port: 80 }`), so that callers need not name the schema.
 */
export interface GrpcMethod<I extends DescMessage, O extends DescMessage> {
  /** Method path of the HTTP/2 request, such as `/io.linkerd.proxy.destination.Destination/Get`. */
  readonly path: string;
  readonly requestStream: boolean;
  readonly responseStream: boolean;
  readonly requestSerialize: (message: MessageInitShape<I>) => Buffer;
  /** @throws Error on bytes that are no such message. */
  readonly requestDeserialize: (bytes: Buffer) => MessageShape<I>;
  readonly responseSerialize: (message: MessageInitShape<O>) => Buffer;
  /** @throws Error on bytes that are no such message. */
  readonly responseDeserialize: (bytes: Buffer) => MessageShape<O>;
}

/** A service as grpc-js wants it: `server.addService(grpcService(destination.Destination), { get, getProfile })`. */
export type GrpcService<S extends DescService> = {
  readonly [K in keyof S["method"]]: S["method"][K] extends {
    readonly input: infer I extends DescMessage;
    readonly output: infer O extends DescMessage;
  }
    ? GrpcMethod<I, O>
    : never;
};

/**
 * Turns a generated service into grpc-js definitions, keyed by the method's name with a small first letter. A client
 * calls `client.makeUnaryRequest(m.path, m.requestSerialize, m.responseDeserialize, …)` with one of them.
 *
 * @see gRPC over HTTP/2: `Path → "/" Service-Name "/" {method name}`
 */
export function grpcService<S extends DescService>(service: S): GrpcService<S> {
  const methods: Record<string, GrpcMethod<DescMessage, DescMessage>> = {};
  for (const method of service.methods) methods[method.localName] = definition(method);
  // The mapped type follows from `service.method` having exactly the members of `service.methods`.
  return methods as GrpcService<S>;
}

function definition(method: DescMethod): GrpcMethod<DescMessage, DescMessage> {
  return {
    path: `/${method.parent.typeName}/${method.name}`,
    requestStream: method.methodKind === "client_streaming" || method.methodKind === "bidi_streaming",
    responseStream: method.methodKind === "server_streaming" || method.methodKind === "bidi_streaming",
    requestSerialize: (message) => encode(method.input, message),
    requestDeserialize: (bytes) => decode(method.input, bytes),
    responseSerialize: (message) => encode(method.output, message),
    responseDeserialize: (bytes) => decode(method.output, bytes),
  };
}

function encode(schema: DescMessage, message: MessageInitShape<DescMessage>): Buffer {
  const bytes = toBinary(schema, create(schema, message));
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

// Fields of a newer schema are skipped, not kept: answers live long in caches, and nobody forwards them.
function decode(schema: DescMessage, bytes: Buffer): MessageShape<DescMessage> {
  return fromBinary(schema, bytes, { readUnknownFields: false });
}
