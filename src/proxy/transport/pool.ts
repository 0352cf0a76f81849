import type { Socket } from "node:net";
import type { SecureContext } from "node:tls";
import type { Millis } from "../core/clock.ts";
import { ProxyError } from "../core/errors.ts";
import type { SocketMeter } from "../core/metrics.ts";
import type { Dispatcher } from "../stack/dispatcher.ts";
import type { Exchange } from "../stack/exchange.ts";
import type { Http2Options } from "../wire/http2/index.ts";
import { type ConnectTarget, connect, type TuneSocket } from "./connect.ts";
import { Http1ClientConnection, type Http1Owner, isReplayable } from "./http1-client.ts";
import { Http2ClientConnection, type Http2Owner } from "./http2-client.ts";
import type { Runtime } from "./runtime.ts";
import type { Timed } from "./timer-wheel.ts";

export interface PoolOptions {
  /** Linkerd: 1 s outbound, 300 ms inbound. */
  readonly connectTimeoutMs: number;
  /** Our present certificate and anchors; asked at every connect, so that a renewal takes effect at once. */
  readonly context: () => SecureContext | undefined;
  /** Asked once per connection. */
  readonly meter: () => SocketMeter;
  readonly tune?: TuneSocket | undefined;
}

// Linkerd: LINKERD2_PROXY_{IN,OUT}BOUND_HTTP1_CONNECTION_POOL_IDLE_TIMEOUT 3 s.
const IDLE_MS = 3_000;
// What cannot be sent again does not go out on a connection that the server may be closing at this moment: gunicorn does
// so after 2 s, Node after 5 s.
const FRESH_MS = 1_000;
// Linkerd allows 10,000; a host has 20,000 descriptors in all.
const MAX_IDLE = 1_000;

/** HTTP/1 connections to one endpoint. Opened per request, kept idle for a moment, never shared between authorities. */
export class Http1Pool implements Dispatcher, Http1Owner, Timed {
  /** Nothing waits here: each exchange has a connection, or opens one. */
  readonly ready = true;
  wheelTick: number | undefined;
  readonly #runtime: Runtime;
  readonly #target: ConnectTarget;
  readonly #options: PoolOptions;
  readonly #idle = new Map<string, Http1ClientConnection[]>();
  readonly #all = new Set<Http1ClientConnection>();
  #idleCount = 0;
  #sweepAt: Millis = 0;
  #closed = false;

  constructor(runtime: Runtime, target: ConnectTarget, options: PoolOptions) {
    this.#runtime = runtime;
    this.#target = target;
    this.#options = options;
  }

  dispatch(x: Exchange): void {
    const key = x.request.authority ?? "";
    // HTTP/1.0 and a request without Host travel alone (inbound.md §7), and so does what may become a tunnel.
    if (key !== "" && x.request.version !== "1.0" && !x.upgrade) {
      const idle = this.#idle.get(key);
      const connection = idle?.at(-1);
      if (idle !== undefined && connection !== undefined && (this.#isFresh(connection) || isReplayable(x))) {
        idle.pop();
        this.#idleCount--;
        connection.dispatch(x);
        return;
      }
    }
    this.again(x);
  }

  again(x: Exchange): void {
    const { connectTimeoutMs, context, tune } = this.#options;
    connect(this.#target, { timeoutMs: connectTimeoutMs, context: context(), tune }, new Http1Attempt(x, this));
  }

  #isFresh(connection: Http1ClientConnection): boolean {
    return this.#runtime.clock.now() < connection.idleUntil - IDLE_MS + FRESH_MS;
  }

  /** A connection for an exchange is there. */
  opened(x: Exchange, socket: Socket): void {
    if (x.ended) {
      socket.destroy();
      return;
    }
    const key = x.request.authority ?? "";
    const connection = new Http1ClientConnection(socket, this.#runtime, this.#options.meter(), key, this);
    this.#all.add(connection);
    connection.dispatch(x);
  }

  idle(connection: Http1ClientConnection): void {
    if (this.#closed || connection.key === "" || this.#idleCount >= MAX_IDLE) return connection.destroy();
    connection.idleUntil = this.#runtime.clock.now() + IDLE_MS;
    let list = this.#idle.get(connection.key);
    if (list === undefined) {
      list = [];
      this.#idle.set(connection.key, list);
    }
    list.push(connection);
    if (this.#idleCount++ > 0) return;
    this.#sweepAt = connection.idleUntil;
    this.#runtime.wheel.arm(this);
  }

  gone(connection: Http1ClientConnection): void {
    this.#all.delete(connection);
    const list = this.#idle.get(connection.key);
    if (list === undefined) return;
    const at = list.indexOf(connection);
    if (at >= 0) {
      list.splice(at, 1);
      this.#idleCount--;
    }
    // Also where it was in use: clients choose authorities, and an empty list for each of them would stay for ever.
    if (list.length === 0) this.#idle.delete(connection.key);
  }

  /** Closes what is idle now and what becomes idle later. */
  close(): void {
    this.#closed = true;
    for (const list of [...this.#idle.values()]) for (const connection of [...list]) connection.destroy();
    this.#runtime.wheel.disarm(this);
  }

  timeoutAt(): Millis | undefined {
    return this.#idleCount > 0 ? this.#sweepAt : undefined;
  }

  expire(now: Millis): void {
    for (const list of [...this.#idle.values()])
      for (const connection of [...list]) if (connection.idleUntil <= now) connection.destroy();
    this.#sweepAt = now + IDLE_MS / 2;
  }
}

// A named object instead of two closures; one per connection, not per request.
class Http1Attempt {
  readonly #x: Exchange;
  readonly #pool: Http1Pool;

  constructor(x: Exchange, pool: Http1Pool) {
    this.#x = x;
    this.#pool = pool;
  }

  connected(socket: Socket): void {
    this.#pool.opened(this.#x, socket);
  }

  failed(error: ProxyError): void {
    this.#x.fail(error);
  }
}

export interface Http2PoolOptions extends PoolOptions {
  readonly http2: Partial<Http2Options>;
  readonly backoffMinMs: number;
  readonly backoffMaxMs: number;
  /** How long an exchange may wait for a connection. Past it the pool is in fail-fast: refusing at once until it connects. */
  readonly failfastMs: number;
  readonly rng: () => number;
}

// A connection that lasted less than this counts as another failure.
const SHORT_LIVED_MS = 1_000;
// Linkerd: LINKERD2_PROXY_*_HTTP_QUEUE_CAPACITY.
const MAX_WAITING = 10_000;

/** The one HTTP/2 connection to an endpoint: opened when told to or for a request, not before the backoff has passed. */
export class Http2Pool implements Dispatcher, Http2Owner, Timed {
  wheelTick: number | undefined;
  readonly #runtime: Runtime;
  readonly #target: ConnectTarget;
  readonly #options: Http2PoolOptions;
  readonly #onReadiness: () => void;
  #connection: Http2ClientConnection | undefined;
  #cancelConnect: (() => void) | undefined;
  #waiting: Exchange[] = [];
  #waitingSince: Millis = 0;
  #failfast = false;
  #failures = 0;
  #connectedAt: Millis = 0;
  #retryAt: Millis | undefined;
  #closed = false;
  #lastError: ProxyError | undefined;

  /** @param onReadiness - The connection came up or went away, or it may be tried again. */
  constructor(runtime: Runtime, target: ConnectTarget, options: Http2PoolOptions, onReadiness: () => void) {
    this.#runtime = runtime;
    this.#target = target;
    this.#options = options;
    this.#onReadiness = onReadiness;
  }

  get ready(): boolean {
    return this.#connection !== undefined;
  }

  /** Why the last attempt failed; undefined while connected or before the first one. */
  get lastError(): ProxyError | undefined {
    return this.#lastError;
  }

  dispatch(x: Exchange): void {
    if (this.#connection !== undefined) return this.#connection.dispatch(x);
    if (this.#closed || this.#failfast || this.#waiting.length >= MAX_WAITING)
      return x.fail(new ProxyError("load-shed"));
    if (this.#waiting.length === 0) this.#waitingSince = this.#runtime.clock.now();
    this.#waiting.push(x);
    this.connect();
    this.#runtime.wheel.arm(this);
  }

  /** Opens the connection, unless there is one, one is being opened, or the backoff of a failed one runs. */
  connect(): void {
    if (
      this.#closed ||
      this.#connection !== undefined ||
      this.#cancelConnect !== undefined ||
      this.#retryAt !== undefined
    )
      return;
    const { connectTimeoutMs, context, tune } = this.#options;
    this.#cancelConnect = connect(this.#target, { timeoutMs: connectTimeoutMs, context: context(), tune }, this);
  }

  connected(socket: Socket): void {
    this.#cancelConnect = undefined;
    if (this.#closed) {
      socket.destroy();
      return;
    }
    this.#connectedAt = this.#runtime.clock.now();
    this.#failfast = false;
    this.#lastError = undefined;
    this.#connection = new Http2ClientConnection(
      socket,
      this.#runtime,
      this.#options.meter(),
      this.#options.http2,
      this,
    );
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const x of waiting) if (!x.ended) this.dispatch(x);
    this.#onReadiness();
  }

  failed(error: ProxyError): void {
    this.#cancelConnect = undefined;
    this.#lastError = error;
    this.#backOff();
    this.#onReadiness();
  }

  again(x: Exchange): void {
    this.dispatch(x);
  }

  retired(connection: Http2ClientConnection): void {
    if (this.#connection !== connection) return;
    this.#connection = undefined;
    // A peer that takes connections only to drop them is not dialled in a loop; one that answered has a reason to age
    // its connections.
    if (!this.#closed && !connection.answered && this.#runtime.clock.now() - this.#connectedAt < SHORT_LIVED_MS)
      this.#backOff();
    else this.#failures = 0;
    this.#onReadiness();
    if (this.#waiting.length > 0) this.connect();
  }

  /** Finishes what is in progress and opens nothing again. */
  close(): void {
    this.#closed = true;
    this.#cancelConnect?.();
    this.#cancelConnect = undefined;
    this.#retryAt = undefined;
    this.#runtime.wheel.disarm(this);
    if (this.#waiting.length > 0) this.#failWaiting(new ProxyError("load-shed"));
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.drain();
  }

  timeoutAt(): Millis | undefined {
    const failfastAt = this.#waiting.length > 0 ? this.#waitingSince + this.#options.failfastMs : undefined;
    if (this.#retryAt === undefined) return failfastAt;
    return failfastAt === undefined ? this.#retryAt : Math.min(failfastAt, this.#retryAt);
  }

  expire(now: Millis): void {
    if (this.#retryAt !== undefined && this.#retryAt <= now) {
      this.#retryAt = undefined;
      if (this.#waiting.length > 0) this.connect();
      // Whoever wants a connection without a request says so now; an application that left is not dialled for ever.
      else this.#onReadiness();
    }
    if (this.#waiting.length > 0 && this.#waitingSince + this.#options.failfastMs <= now) {
      this.#failfast = true;
      this.#failWaiting(new ProxyError("failfast", undefined, { cause: this.#lastError }));
    }
  }

  #backOff(): void {
    const { backoffMinMs, backoffMaxMs, rng } = this.#options;
    const base = Math.min(backoffMinMs * 2 ** Math.min(this.#failures, 20), backoffMaxMs);
    this.#failures++;
    // Linkerd: jitter 0.1.
    this.#retryAt = this.#runtime.clock.now() + base * (1 + 0.1 * rng());
    this.#runtime.wheel.arm(this);
  }

  #failWaiting(error: ProxyError): void {
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const x of waiting) x.fail(error);
  }
}
