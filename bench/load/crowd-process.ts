/**
 * A crowd of simulated hosts in a process of its own: `node crowd-process.ts FILE` with members, mesh and enrollers as
 * JSON. Says on its output, once a second, who is attached where, and why others are not.
 */
import { readFileSync } from "node:fs";
import type { MeshNames } from "../../src/bootstrap/control/index.ts";
import { Crowd, type Member } from "./crowd.ts";

interface Order {
  readonly members: readonly Member[];
  readonly mesh: MeshNames;
  readonly enrollers: readonly string[];
  readonly perSecond: number;
}

const { members, mesh, enrollers, perSecond } = JSON.parse(readFileSync(process.argv[2] ?? "", "utf8")) as Order;
const crowd = new Crowd(members, mesh, enrollers);
setInterval(() => console.log(JSON.stringify({ attached: crowd.attached(), failures: crowd.failures() })), 1000);
process.once("SIGTERM", () => {
  crowd.stop();
  process.exit(0);
});
await crowd.start(perSecond);
