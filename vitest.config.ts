import { defineConfig } from "vitest/config";

/** Suites that own the machine for a while (ports, namespaces, containers): one file after the other, generous limits. */
function alone(name: string, testTimeoutMs: number, setupFiles: string[] = []) {
  return {
    test: {
      name,
      include: [`test/${name}/**/*.test.ts`],
      setupFiles,
      pool: "forks" as const,
      fileParallelism: false,
      testTimeout: testTimeoutMs,
      hookTimeout: testTimeoutMs,
    },
  };
}

export default defineConfig({
  test: {
    passWithNoTests: true,
    // Dots for a person who watches; one line per file for a log.
    reporters: [process.stdout.isTTY ? "dot" : "default"],
    maxWorkers: 2,
    // A property's failure prints its seed: rerun with it instead of hoping.
    sequence: { shuffle: false },
    projects: [
      {
        test: {
          name: "unit",
          include: ["unit", "property", "playbook", "vectors", "rings"].map((folder) => `test/${folder}/**/*.test.ts`),
          pool: "forks",
          testTimeout: 10_000,
        },
      },
      alone("integration", 60_000),
      alone("netns", 120_000),
      alone("conformance", 120_000),
      alone("fuzz", 180_000, ["test/fuzz/coverage.ts"]),
      alone("packaging", 900_000),
    ],
  },
});
