import type { ByteQueue } from "../../core/byte-queue.ts";
import type { Millis } from "../../core/clock.ts";
import type { HeaderList } from "../../core/header.ts";
import { ReceiveWindow } from "./flow.ts";

/**
 * One stream of one connection (RFC 9113 §5.1). The driver reads {@link id}, {@link closed} and {@link fault} and keeps
 * its own state in {@link context}; all else is the machine's.
 *
 * ```text
 *               head received / sent
 *    idle ──────────────► open ──── END_STREAM received ──► half-closed (remote) ─┐
 *                          │ └───── END_STREAM sent ──────► half-closed (local) ──┤ the other END_STREAM
 *                          └──────────── RST_STREAM, either way, from all ────────┴──► closed
 * ```
 *
 * There is no reserved state, since nobody pushes, and no object for an idle or closed stream.
 */
export class Http2Stream {
  readonly id: number;
  /** The driver's own. */
  context: unknown = undefined;

  /** Why the machine reset it, when {@link Http2Handler.onReset} says that it did: the rule that the peer broke. */
  fault: string | undefined = undefined;

  /** Both sides ended, or either reset. Everything said to a closed stream is dropped. */
  closed = false;
  /** END_STREAM of ours is in the sink. */
  localEnded = false;
  /** END_STREAM of ours is behind the queue. */
  localEnding = false;
  /** The peer sent END_STREAM. */
  remoteEnded = false;
  /** Our head (as a server, the final one) is sent. */
  headSent = false;
  /** The peer's head (as a client, the final one) was received. */
  headReceived = false;
  /** The request was HEAD, whose response has no content whatever its content-length says (RFC 9110 §9.3.2). */
  isHead = false;
  /** The request was CONNECT: its response is the head of a tunnel, without content-length (RFC 9110 §9.3.6). */
  isConnect = false;
  /** Interim responses received. */
  interims = 0;

  /** Content still to come by content-length; -1 if the message did not say. */
  expectedBytes = -1;
  readonly receiveWindow: ReceiveWindow;
  /** Content given to the driver and not yet credited. */
  uncreditedBytes = 0;
  /** Content given to the driver for which only the connection's window was given back. */
  heldBytes = 0;
  /** Small pieces of content to be given to the driver together, and the read that brought the first of them. */
  gathered: Buffer | undefined = undefined;
  gatheredBytes = 0;
  contentRead = 0;

  /** What the peer lets us send; below zero after it shrank its windows (RFC 9113 §6.9.2). */
  sendWindow: number;
  /** Content that waits for windows, oldest first; the first {@link queueOffset} bytes of the first view are sent. */
  queue: ByteQueue | undefined = undefined;
  queueOffset = 0;
  /** Bytes in {@link queue} still to be sent. */
  queuedBytes = 0;
  /** To be sent when the queue is empty. */
  queuedTrailers: HeaderList | undefined = undefined;
  /** Since when the queue has not moved; -1 until the next known time. */
  stalledSince: Millis = -1;

  constructor(id: number, sendWindow: number, receiveWindow: number) {
    this.id = id;
    this.sendWindow = sendWindow;
    this.receiveWindow = new ReceiveWindow(receiveWindow);
  }
}
