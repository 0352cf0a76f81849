/** One fuzz target per decoder: everything that reads bytes or text of somebody else's. */
import type { FuzzTarget } from "../harness.ts";
import { DISCOVERY_TARGETS } from "./discovery.ts";
import { FIRST_BYTES_TARGETS } from "./first-bytes.ts";
import { GRPC_TARGETS } from "./grpc.ts";
import { HTTP1_TARGETS } from "./http1.ts";
import { HTTP2_TARGETS } from "./http2.ts";
import { joinString } from "./join-string.ts";
import { TEXT_TARGETS } from "./texts.ts";

export const TARGETS: readonly FuzzTarget[] = [
  ...HTTP1_TARGETS,
  ...HTTP2_TARGETS,
  ...FIRST_BYTES_TARGETS,
  ...GRPC_TARGETS,
  ...DISCOVERY_TARGETS,
  joinString,
  ...TEXT_TARGETS,
];
