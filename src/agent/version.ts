/** The release, kept equal to package.json by a test. */
export const VERSION = "0.1.0";

/** Labels of `proxy_build_info`. Builds are reproducible: neither when nor from what commit one was made is in it. */
export const BUILD_INFO = {
  date: "",
  git_sha: "",
  profile: "release",
  vendor: "mesh-agent",
  version: VERSION,
} as const;
