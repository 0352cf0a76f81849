import type { Schema } from "./schema.ts";

const conditionType =
  "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";

/**
 * The schema of `workload.linkerd.io/v1beta1` ExternalWorkload: what it requires, and what it does not although one
 * might expect it (an `ip` need not be one, a protocol may be any word). It is the only admission there is: no
 * webhook of Linkerd looks at this kind.
 */
export const EXTERNAL_WORKLOAD: Schema = {
  type: "object",
  required: ["spec"],
  properties: {
    spec: {
      type: "object",
      required: ["meshTLS"],
      properties: {
        meshTLS: {
          type: "object",
          required: ["identity", "serverName"],
          properties: {
            identity: { type: "string", minLength: 1, maxLength: 253 },
            serverName: { type: "string", minLength: 1, maxLength: 253 },
          },
        },
        ports: {
          type: "array",
          items: {
            type: "object",
            required: ["port"],
            properties: {
              name: { type: "string" },
              port: { type: "integer", format: "int32", minimum: 1, maximum: 65535 },
              protocol: { type: "string", default: "TCP" },
            },
          },
        },
        workloadIPs: {
          type: "array",
          maxItems: 2,
          items: { type: "object", properties: { ip: { type: "string" } } },
        },
      },
    },
    status: {
      type: "object",
      properties: {
        conditions: {
          type: "array",
          items: {
            type: "object",
            required: ["type", "status"],
            properties: {
              lastProbeTime: { type: "string", format: "date-time" },
              lastTransitionTime: { type: "string", format: "date-time" },
              message: { type: "string", maxLength: 32768 },
              reason: {
                type: "string",
                minLength: 1,
                maxLength: 1024,
                pattern: "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
              },
              status: { type: "string", enum: ["True", "False", "Unknown"] },
              type: { type: "string", maxLength: 316, pattern: conditionType },
            },
          },
        },
      },
    },
  },
};
