/**
 * `mesh-agent demo`: shows a visitor what the mesh does, on one machine, in about a minute. `demo.ts` is the story,
 * `calls.ts` what is typed in it, `render.ts` how it looks, `golden.ts` the arithmetic of the golden metrics. Uses the
 * lab. Start reading in `demo.ts`.
 */
export { type DemoOptions, runDemo } from "./demo.ts";
export { Progress } from "./progress.ts";
export type { DemoReport } from "./report.ts";
export { styleFor } from "./style.ts";
