import type { DescMessage, MessageInitShape, MessageShape } from "@bufbuild/protobuf";

/** A message as a literal: what a serializer takes, with every field optional. Unlike a finished message it spreads. */
export type Init<D extends DescMessage> = Exclude<MessageInitShape<D>, MessageShape<D>>;
