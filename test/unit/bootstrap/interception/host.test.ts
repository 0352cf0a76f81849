import { describe, expect, it } from "vitest";
import { parseRow, parseSshListener } from "../../../../src/bootstrap/interception/host.ts";

describe("the kernel's connection table", () => {
  it("is read for IPv4, IPv6 and mapped addresses", () => {
    const rows = [
      "   0: 0100007F:0CEA 0200A8C0:01BB 01 00000000:00000000 00:00000000 00000000  1000        0 12345 1 0",
      "   1: 0000000000000000FFFF00000A4D000A:1F90 0000000000000000FFFF00000201010A:0050 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0",
      "   2: 00616DFD000000000000000001000000:0016 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1 0",
    ].flatMap(parseRow);
    expect(rows).toEqual([
      { local: { ip: "127.0.0.1", port: 3306 }, remote: { ip: "192.168.0.2", port: 443 }, state: "01", uid: 1000 },
      { local: { ip: "10.0.77.10", port: 8080 }, remote: { ip: "10.1.1.2", port: 80 }, state: "01", uid: 0 },
      { local: { ip: "fd6d:6100::1", port: 22 }, remote: { ip: "::", port: 0 }, state: "0A", uid: 0 },
    ]);
  });

  it("has lines that are no connection", () => {
    expect(parseRow("")).toEqual([]);
  });
});

describe("an SSH daemon", () => {
  it.each([
    ['LISTEN 0 128 0.0.0.0:22 0.0.0.0:* users:(("sshd",pid=7,fd=3)) cgroup:/system.slice/ssh.service', 22],
    ["LISTEN 0 128 [::]:2222 [::]:* cgroup:/system.slice/sshd.service", 2222],
    ["LISTEN 0 128 *:2200 *:* cgroup:/system.slice/system-ssh.slice/ssh@1.service", 2200],
    ['LISTEN 0 128 10.0.0.5:922 0.0.0.0:* users:(("dropbear",pid=7,fd=3))', 922],
    ['LISTEN 0 128 [fe80::1%eth0]:22 [::]:* users:(("sshd",pid=7,fd=3),("systemd",pid=1,fd=40))', 22],
    ['LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* users:(("java",pid=7,fd=3)) cgroup:/system.slice/app.service', undefined],
    ["LISTEN 0 128 0.0.0.0:8080 0.0.0.0:* cgroup:/system.slice/not-ssh.service", undefined],
    ["ESTAB 0 0 10.0.0.5:22 10.0.0.9:50000 cgroup:/system.slice/ssh.service", undefined],
    ["", undefined],
  ])("%s", (line, port) => {
    expect(parseSshListener(line)).toBe(port);
  });
});
