import { statSync } from "node:fs";

const RESOLV_CONF = "/etc/resolv.conf";
const EVERY_MS = 10_000;

/**
 * Looks now and then whether somebody wrote the host's resolver configuration. systemd sees it at once, but not what is
 * written while root is still at work on what was written before.
 */
export class ResolverWatch {
  readonly #identify: () => string;
  readonly #changed: () => void;
  readonly #timer: NodeJS.Timeout;
  #seen: string;

  /** @param identify - A text that differs once the file is another one. */
  constructor(changed: () => void, identify: () => string = identifyResolvConf) {
    this.#identify = identify;
    this.#changed = changed;
    this.#seen = identify();
    this.#timer = setInterval(() => this.look(), EVERY_MS);
    this.#timer.unref();
  }

  look(): void {
    const now = this.#identify();
    if (now === this.#seen) return;
    this.#seen = now;
    this.#changed();
  }

  stop(): void {
    clearInterval(this.#timer);
  }
}

function identifyResolvConf(): string {
  try {
    const { dev, ino, mtimeNs, size } = statSync(RESOLV_CONF, { bigint: true });
    return `${dev} ${ino} ${mtimeNs} ${size}`;
  } catch {
    return "";
  }
}
