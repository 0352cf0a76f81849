import {
  chmodSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readlinkSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import {
  detect,
  type Host,
  inPlace,
  parseResolverFile,
  type ResolverFile,
  readFacts,
  unwire,
  WiringError,
  wire,
} from "../../../../src/bootstrap/resolver/index.ts";

const FILE: ResolverFile = { format: 1, zone: "cluster.local", wiring: "auto" };
const PLAIN = "# by hand\nsearch example.org\nnameserver 192.0.2.53\noptions edns0";

/** A machine made of files and of programs that only remember what they were asked. */
class FakeHost implements Host {
  readonly root: string;
  readonly active = new Set<string>();
  readonly links = new Set<string>();
  readonly asked: string[] = [];
  /** Commands that fail, by their beginning. */
  readonly failing: string[] = [];

  constructor(root: string) {
    this.root = root;
  }

  readonly run: Host["run"] = (program, args) => {
    const line = [program, ...args].join(" ");
    const answer = (code: number) => Promise.resolve({ code, stdout: "", stderr: code === 0 ? "" : "refused" });
    if (program === "systemctl") return answer(this.active.has(args.at(-1) ?? "") ? 0 : 3);
    const [, action, link = "", , type] = args;
    if (program === "ip" && action === "show") return answer(this.links.has(link) ? 0 : 1);
    this.asked.push(line);
    if (this.failing.some((beginning) => line.startsWith(beginning))) return answer(1);
    if (program === "ip" && action === "add") {
      this.links.add(link);
      if (type === "veth") this.links.add(String(args.at(-1)));
    }
    if (program === "ip" && action === "delete") this.links.clear();
    return answer(0);
  };

  put(path: string, text: string | Buffer): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    writeFileSync(join(this.root, path), text);
  }

  get(path: string): string {
    return readFileSync(join(this.root, path), "utf8");
  }

  link(target: string, path: string): void {
    mkdirSync(dirname(join(this.root, path)), { recursive: true });
    symlinkSync(target, join(this.root, path));
  }

  async detect() {
    return detect(await readFacts(this));
  }
}

let host: FakeHost;
beforeEach(() => {
  host = new FakeHost(mkdtempSync(join(tmpdir(), "mesh-agent-resolver-")));
});
afterEach(() => rmSync(host.root, { recursive: true, force: true }));

describe("which resolver a host has", () => {
  it("systemd-resolved, by its own file, or while it runs by its address or nsswitch.conf", async () => {
    host.put("run/systemd/resolve/stub-resolv.conf", "nameserver 127.0.0.53\n");
    host.link("../run/systemd/resolve/stub-resolv.conf", "etc/resolv.conf");
    expect(await host.detect()).toMatchObject({ wiring: "resolved" });

    rmSync(join(host.root, "etc/resolv.conf"));
    host.put("etc/resolv.conf", "nameserver 127.0.0.53\n");
    expect(await host.detect()).toMatchObject({ wiring: "resolv.conf" });
    host.active.add("systemd-resolved.service");
    expect(await host.detect()).toMatchObject({ wiring: "resolved" });

    host.put("etc/resolv.conf", PLAIN);
    expect(await host.detect()).toMatchObject({ wiring: "resolv.conf" });
    host.put("etc/nsswitch.conf", "passwd: files\nhosts: files resolve [!UNAVAIL=return] dns\n");
    expect(await host.detect()).toMatchObject({ wiring: "resolved" });
  });

  it("is not systemd-resolved where programs ask its servers themselves", async () => {
    host.active.add("systemd-resolved.service");
    host.put("run/systemd/resolve/resolv.conf", PLAIN);
    host.link("../run/systemd/resolve/resolv.conf", "etc/resolv.conf");
    expect(await host.detect()).toMatchObject({ wiring: "resolv.conf" });
  });

  it("NetworkManager's dnsmasq, by the last word of its configuration", async () => {
    host.put("etc/resolv.conf", "nameserver 127.0.0.1\n");
    host.active.add("NetworkManager.service");
    host.put("etc/NetworkManager/NetworkManager.conf", "[main]\nplugins=keyfile\n[keyfile]\ndns=dnsmasq\n");
    expect(await host.detect()).toMatchObject({ wiring: "resolv.conf" });
    host.put("etc/NetworkManager/conf.d/dns.conf", "[main]\n#dns=none\ndns = dnsmasq\n");
    expect(await host.detect()).toMatchObject({ wiring: "dnsmasq" });
    host.put("etc/NetworkManager/conf.d/zz.conf", "[main]\ndns=default\n");
    expect(await host.detect()).toMatchObject({ wiring: "resolv.conf" });
  });

  it("none, where there is no resolv.conf or its link leads nowhere", async () => {
    expect(await host.detect()).toMatchObject({ wiring: "none" });
    host.link("../run/nowhere", "etc/resolv.conf");
    expect(await host.detect()).toMatchObject({ wiring: "none" });
    expect(await wire(FILE, host)).toMatchObject({ wiring: "none" });
  });
});

describe("resolv.conf", () => {
  it("names the stub first, and comes back to the byte, with its mode", async () => {
    const bytes = Buffer.concat([Buffer.from(PLAIN), Buffer.of(0x0a, 0xff, 0xfe, 0x0d, 0x0a)]);
    host.put("etc/resolv.conf", bytes);
    chmodSync(join(host.root, "etc/resolv.conf"), 0o640);
    await wire(FILE, host);
    await wire(FILE, host);
    expect(host.get("etc/resolv.conf").match(/nameserver \S+/g)).toEqual([
      "nameserver 127.0.0.140",
      "nameserver 192.0.2.53",
    ]);
    expect(await inPlace(host)).toEqual(["resolv.conf"]);
    await unwire(host);
    await unwire(host);
    expect(readFileSync(join(host.root, "etc/resolv.conf"))).toEqual(bytes);
    expect(statSync(join(host.root, "etc/resolv.conf")).mode & 0o777).toBe(0o640);
    expect(await inPlace(host)).toEqual([]);
  });

  it("stays a link where it was one: whoever owns the file goes on writing it", async () => {
    host.put("run/resolvconf/resolv.conf", PLAIN);
    host.link("../run/resolvconf/resolv.conf", "etc/resolv.conf");
    await wire(FILE, host);
    expect(lstatSync(join(host.root, "etc/resolv.conf")).isSymbolicLink()).toBe(true);
    expect(host.get("run/resolvconf/resolv.conf")).toContain("127.0.0.140");
    await unwire(host);
    expect(readlinkSync(join(host.root, "etc/resolv.conf"))).toBe("../run/resolvconf/resolv.conf");
    expect(host.get("run/resolvconf/resolv.conf")).toBe(PLAIN);
  });

  it("keeps what others write meanwhile, below our lines or over them", async () => {
    host.put("etc/resolv.conf", PLAIN);
    await wire(FILE, host);
    host.put("etc/resolv.conf", `${host.get("etc/resolv.conf")}\nnameserver 198.51.100.1\n`);
    await unwire(host);
    expect(host.get("etc/resolv.conf")).toBe(`${PLAIN}\nnameserver 198.51.100.1\n`);

    await wire(FILE, host);
    host.put("etc/resolv.conf", "nameserver 203.0.113.1\n");
    expect(await inPlace(host)).toEqual([]);
    await wire(FILE, host);
    expect(host.get("etc/resolv.conf")).toMatch(/^# mesh-agent.*\nnameserver 127\.0\.0\.140\nnameserver 203/);
    await unwire(host);
    expect(host.get("etc/resolv.conf")).toBe("nameserver 203.0.113.1\n");
  });

  it("an empty one comes back empty", async () => {
    host.put("etc/resolv.conf", "");
    await wire(FILE, host);
    expect(host.get("etc/resolv.conf")).toContain("127.0.0.140");
    await unwire(host);
    expect(host.get("etc/resolv.conf")).toBe("");
  });
});

describe("systemd-resolved", () => {
  beforeEach(() => {
    host.active.add("systemd-resolved.service");
    host.put("etc/resolv.conf", "nameserver 127.0.0.53\n");
  });

  it("gets a link with a routing domain, and loses it again", async () => {
    await wire(FILE, host);
    expect(host.asked).toContain("resolvectl dns mesh-dns 127.0.0.140");
    expect(host.asked).toContain("resolvectl domain mesh-dns ~cluster.local");
    expect(host.asked).toContain("resolvectl default-route mesh-dns no");
    expect(host.get("etc/resolv.conf")).toBe("nameserver 127.0.0.53\n");
    await unwire(host);
    expect(host.asked.at(-1)).toBe("ip link delete mesh-dns");
    expect(await inPlace(host)).toEqual([]);
  });

  it("does without a dummy device", async () => {
    host.failing.push("ip link add mesh-dns type dummy");
    await wire(FILE, host);
    expect(host.asked).toContain("ip link add mesh-dns type veth peer name mesh-dns-peer");
    expect(host.asked).toContain("ip link set mesh-dns-peer up");
  });

  it("that refuses leaves no link behind", async () => {
    host.failing.push("resolvectl domain");
    await expect(wire(FILE, host)).rejects.toThrow(WiringError);
    expect(await inPlace(host)).toEqual([]);
  });
});

describe("NetworkManager's dnsmasq", () => {
  it("gets a drop-in and is told of it, once", async () => {
    host.put("etc/resolv.conf", "nameserver 127.0.0.1\n");
    const chosen = { ...FILE, wiring: "dnsmasq" } as const;
    await wire(chosen, host);
    await wire(chosen, host);
    expect(host.get("etc/NetworkManager/dnsmasq.d/mesh-agent.conf")).toMatch(
      /^server=\/cluster\.local\/127\.0\.0\.140$/m,
    );
    expect(host.asked).toEqual(["nmcli general reload dns-full"]);
    await unwire(host);
    expect(await inPlace(host)).toEqual([]);
    expect(host.asked).toEqual(["nmcli general reload dns-full", "nmcli general reload dns-full"]);
  });
});

describe("a host that changes its resolver", () => {
  it("is wired in the new way and in no other", async () => {
    host.put("etc/resolv.conf", PLAIN);
    await wire(FILE, host);
    host.active.add("systemd-resolved.service");
    host.put("etc/nsswitch.conf", "hosts: resolve\n");
    await wire(FILE, host);
    expect(await inPlace(host)).toEqual(["resolved"]);
    expect(host.get("etc/resolv.conf")).toBe(PLAIN);
    await wire({ ...FILE, wiring: "none" }, host);
    expect(await inPlace(host)).toEqual([]);
  });
});

describe("what root reads of the agent", () => {
  it.each([
    [{ ...FILE, zone: "." }, "zone"],
    [{ ...FILE, zone: "" }, "zone"],
    [{ ...FILE, zone: "a/b" }, "zone"],
    [{ ...FILE, zone: "cluster.local\nserver=/com/192.0.2.1" }, "zone"],
    [{ ...FILE, zone: "-x.local" }, "zone"],
    [{ ...FILE, wiring: "all" }, "wiring"],
    [{ ...FILE, format: 2 }, "format"],
    ["text", "object"],
    [null, "object"],
  ])("refuses %j", (value, why) => {
    expect(() => parseResolverFile(value)).toThrow(why);
  });

  it("takes a domain", () => {
    expect(parseResolverFile({ ...FILE, zone: "k8s.example.org" }).zone).toBe("k8s.example.org");
  });
});

describe("a power cut", () => {
  const UNDO = "mesh-agent-names-undo.service";
  const WANTED = `etc/systemd/system/sysinit.target.wants/${UNDO}`;
  const isWanted = () => lstatSync(join(host.root, WANTED), { throwIfNoEntry: false }) !== undefined;

  it.each(["usr/lib/systemd/system", "lib/systemd/system"])(
    "is undone by the next boot's unit of %s, wanted for as long as a file has something of ours",
    async (folder) => {
      host.put("etc/resolv.conf", PLAIN);
      host.put(`${folder}/${UNDO}`, "");
      await wire(FILE, host);
      expect(readlinkSync(join(host.root, WANTED))).toBe(`/${folder}/${UNDO}`);
      await wire(FILE, host);
      expect(isWanted()).toBe(true);
      await unwire(host);
      expect(isWanted()).toBe(false);
      expect(lstatSync(join(host.root, dirname(WANTED)), { throwIfNoEntry: false })).toBeUndefined();
      expect(host.get("etc/resolv.conf")).toBe(PLAIN);
    },
  );

  it("leaves what others want at boot, and wants nothing for what does not outlive it", async () => {
    host.put("etc/resolv.conf", PLAIN);
    host.put(`usr/lib/systemd/system/${UNDO}`, "");
    host.put("etc/systemd/system/sysinit.target.wants/other.service", "");
    await wire(FILE, host);
    expect(isWanted()).toBe(true);
    await wire({ ...FILE, wiring: "resolved" }, host);
    expect(isWanted()).toBe(false);
    expect(host.get("etc/systemd/system/sysinit.target.wants/other.service")).toBe("");
  });
});
