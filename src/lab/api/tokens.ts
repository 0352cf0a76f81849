import { createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import { TYPES } from "./catalog.ts";
import { isMap, type JsonMap, mapAt, textAt } from "./json.ts";
import { invalid, LabError } from "./status.ts";
import type { LabStore } from "./store.ts";

/** What a token without a wish for another audience is good for. */
export const API_AUDIENCE = "https://kubernetes.default.svc";

const DEFAULT_SECONDS = 3600;
const SHORTEST_SECONDS = 600;
const LONGEST_SECONDS = 2 ** 32;

/** The answer to "whose token is this". */
export type Review =
  | {
      readonly authenticated: true;
      readonly username: string;
      readonly uid: string;
      readonly audiences: readonly string[];
    }
  | { readonly authenticated: false; readonly error: string };

/**
 * Issues and checks ServiceAccount tokens. They are JSON Web Tokens signed with a key that lives as long as this
 * object; nobody but a review can check them, as is proper.
 */
export class LabTokens {
  readonly #store: LabStore;
  readonly #now: () => number;
  readonly #key = randomBytes(32);

  constructor(store: LabStore, now: () => number = Date.now) {
    this.#store = store;
    this.#now = now;
  }

  /**
   * The `token` subresource.
   *
   * @param request - A TokenRequest; audiences and lifetime may be missing.
   * @returns The TokenRequest with its status.
   * @throws LabError 404 without such an account, 422 for a lifetime out of range.
   */
  request(namespace: string, account: string, request: JsonMap): JsonMap {
    const spec = mapAt(request, "spec");
    const asked = Array.isArray(spec["audiences"]) ? spec["audiences"].filter((item) => typeof item === "string") : [];
    const audiences = asked.length > 0 ? asked : [API_AUDIENCE];
    const seconds = typeof spec["expirationSeconds"] === "number" ? spec["expirationSeconds"] : DEFAULT_SECONDS;
    if (seconds < SHORTEST_SECONDS || seconds > LONGEST_SECONDS) {
      const bound = seconds < SHORTEST_SECONDS ? "may not specify a duration less than 10 minutes" : "too long";
      const message = `Invalid value: ${seconds}: ${bound}`;
      const problem = { field: "spec.expirationSeconds", reason: "FieldValueInvalid", message };
      throw invalid("TokenRequest", "authentication.k8s.io", "", [problem]);
    }
    const { token, expires } = this.issue(namespace, account, audiences, seconds);
    return {
      kind: "TokenRequest",
      apiVersion: "authentication.k8s.io/v1",
      metadata: { name: account, namespace },
      spec: { ...spec, audiences, expirationSeconds: seconds },
      status: { token, expirationTimestamp: `${new Date(expires).toISOString().slice(0, 19)}Z` },
    };
  }

  /** Makes a token for an account. @returns The token and when it ends, in milliseconds. */
  issue(
    namespace: string,
    account: string,
    audiences: readonly string[] = [API_AUDIENCE],
    seconds = DEFAULT_SECONDS,
  ): { token: string; expires: number } {
    const object = this.#store.get(TYPES.serviceAccounts, namespace, account);
    if (object === undefined) {
      throw new LabError(404, "NotFound", `serviceaccounts "${account}" not found`, {
        name: account,
        kind: "serviceaccounts",
      });
    }
    const expires = this.#now() + seconds * 1000;
    const claims = {
      aud: audiences,
      exp: Math.floor(expires / 1000),
      iat: Math.floor(this.#now() / 1000),
      iss: API_AUDIENCE,
      jti: randomUUID(),
      "kubernetes.io": { namespace, serviceaccount: { name: account, uid: object.metadata.uid ?? "" } },
      sub: `system:serviceaccount:${namespace}:${account}`,
    };
    const body = `${encode({ alg: "HS256", typ: "JWT" })}.${encode(claims)}`;
    return { token: `${body}.${this.#sign(body)}`, expires };
  }

  /** Whose token this is, if it is good for one of the audiences; none asked means the API's own. */
  review(token: string, asked: readonly string[] = []): Review {
    const audiences = asked.length > 0 ? asked : [API_AUDIENCE];
    const claims = this.#verified(token);
    if (claims === undefined) return { authenticated: false, error: "invalid bearer token" };
    const has = Array.isArray(claims["aud"]) ? claims["aud"].filter((item) => typeof item === "string") : [];
    const shared = audiences.filter((item) => has.includes(item));
    if (shared.length === 0) {
      // The words matter: Linkerd's identity service looks for "token audiences" before it asks a second time.
      const why = `token audiences ${JSON.stringify(has)} is invalid for the target audiences ${JSON.stringify(audiences)}`;
      return { authenticated: false, error: `[invalid bearer token, ${why}]` };
    }
    if (Number(claims["exp"]) * 1000 <= this.#now()) {
      return { authenticated: false, error: "[invalid bearer token, service account token has expired]" };
    }
    const place = mapAt(claims, "kubernetes.io");
    const account = mapAt(place, "serviceaccount");
    const [namespace, name] = [textAt(place, "namespace") ?? "", textAt(account, "name") ?? ""];
    const uid = textAt(account, "uid") ?? "";
    // A deleted account takes its tokens along; one made anew under the same name does not revive them.
    if (this.#store.get(TYPES.serviceAccounts, namespace, name)?.metadata.uid !== uid) {
      return { authenticated: false, error: "[invalid bearer token, service account token has been invalidated]" };
    }
    return { authenticated: true, username: `system:serviceaccount:${namespace}:${name}`, uid, audiences: shared };
  }

  /** The TokenReview resource: the same with its status. */
  reviewObject(review: JsonMap): JsonMap {
    const spec = mapAt(review, "spec");
    const asked = Array.isArray(spec["audiences"]) ? spec["audiences"].filter((item) => typeof item === "string") : [];
    const answer = this.review(textAt(spec, "token") ?? "", asked);
    const base = { kind: "TokenReview", apiVersion: "authentication.k8s.io/v1", metadata: {}, spec };
    if (!answer.authenticated) return { ...base, status: { user: {}, error: answer.error } };
    const [, , namespace = ""] = answer.username.split(":");
    const groups = ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"];
    const user = { username: answer.username, uid: answer.uid, groups };
    return { ...base, status: { authenticated: true, user, audiences: [...answer.audiences] } };
  }

  #verified(token: string): JsonMap | undefined {
    const [head = "", claims = "", signature = "", ...more] = token.split(".");
    const wanted = Buffer.from(this.#sign(`${head}.${claims}`));
    const given = Buffer.from(signature);
    if (more.length > 0 || given.length !== wanted.length || !timingSafeEqual(given, wanted)) return undefined;
    // Signed by us, so it is JSON that we wrote.
    const parsed: unknown = JSON.parse(Buffer.from(claims, "base64url").toString());
    return isMap(parsed) ? parsed : undefined;
  }

  #sign(text: string): string {
    return createHmac("sha256", this.#key).update(text).digest("base64url");
  }
}

function encode(value: object): string {
  return Buffer.from(JSON.stringify(value)).toString("base64url");
}
