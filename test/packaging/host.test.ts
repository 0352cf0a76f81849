import { afterAll, afterEach, beforeAll } from "vitest";
import { deb as builtDeb } from "./built.ts";
import { confirmation } from "./host/confirm.ts";
import { faults } from "./host/faults.ts";
import { foreign } from "./host/foreign.ts";
import { leaving } from "./host/leave.ts";
import { limits } from "./host/limits.ts";
import { names } from "./host/names.ts";
import { privilege } from "./host/privilege.ts";
import { reboots } from "./host/reboot.ts";
import { soak } from "./host/soak.ts";
import { sessions } from "./host/ssh.ts";
import { upgrades } from "./host/upgrade.ts";
import { MeshedMachine } from "./meshed-machine.ts";

// One machine for all of it: a joined host on which one thing after the other is done, each leaving it meshed.
let deb: string;
let machine: MeshedMachine | undefined;

beforeAll(async () => {
  deb = await builtDeb();
  machine = await MeshedMachine.boot("host-vm", deb);
  await machine.join();
}, 900_000);

afterAll(async () => {
  await machine?.stop();
}, 60_000);

afterEach(() => machine?.endLoads());

const booted = () => {
  if (machine === undefined) throw new Error("the machine did not boot");
  return machine;
};

upgrades(booted, () => deb);
names(booted);
faults(booted);
foreign(booted);
soak(booted);
privilege(booted);
limits(booted);
reboots(booted);
confirmation(booted);
leaving(booted);
sessions(booted, () => deb);
