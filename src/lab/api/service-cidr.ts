/** The range that ClusterIPs come from: one IPv4 network in CIDR notation. */
export class ServiceCidr {
  readonly text: string;
  readonly #first: number;
  readonly #size: number;

  /** @throws Error if it is not an IPv4 network of at least four addresses. */
  constructor(text: string) {
    const [address = "", prefix = ""] = text.split("/");
    const base = parseIpv4(address);
    const bits = Number(prefix);
    if (base === undefined || !/^\d+$/.test(prefix) || bits < 8 || bits > 30)
      throw new Error(`not a service network: ${text}`);
    this.text = text;
    this.#size = 2 ** (32 - bits);
    this.#first = base - (base % this.#size);
  }

  includes(address: string): boolean {
    const value = parseIpv4(address);
    return value !== undefined && value >= this.#first && value < this.#first + this.#size;
  }

  /** The lowest free address; the network's own, its first (the API's) and its last are never handed out. */
  allocate(used: ReadonlySet<string>): string | undefined {
    for (let value = this.#first + 2; value < this.#first + this.#size - 1; value++) {
      const address = formatIpv4(value);
      if (!used.has(address)) return address;
    }
    return undefined;
  }
}

function parseIpv4(text: string): number | undefined {
  const parts = text.split(".");
  if (parts.length !== 4 || !parts.every((part) => /^\d{1,3}$/.test(part) && Number(part) < 256)) return undefined;
  return parts.reduce((value, part) => value * 256 + Number(part), 0);
}

function formatIpv4(value: number): string {
  return [24, 16, 8, 0].map((shift) => Math.floor(value / 2 ** shift) % 256).join(".");
}
