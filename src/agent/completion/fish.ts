import { allCommands, type CommandNode } from "./tree.ts";

/** A file for fish's vendor_completions.d. */
export function fishCompletion(root: CommandNode): string {
  const commands = allCommands(root);
  const paths = commands.filter(({ path }) => path !== "").map(({ path }) => path);
  return `# fish completion of mesh-agent; made from its command line.
# Is the cursor in this command? The longest chain of names so far decides.
function __mesh_agent_at
    set -l at ''
    for word in (commandline -opc)[2..-1]
        switch "$at/$word"
            case ${paths.map(quoted).join(" ")}
                set at "$at/$word"
        end
    end
    test "$at" = "$argv[1]"
end
${commands.flatMap(lines).join("\n")}
`;
}

function lines({ path, commands, options, choices }: CommandNode): string[] {
  const at = `complete -c mesh-agent -n ${quoted(`__mesh_agent_at ${quoted(path)}`)}`;
  return [
    ...commands.map(({ name, description }) => `${at} -f -a ${quoted(name)} -d ${quoted(description)}`),
    ...(choices.length === 0 ? [] : [`${at} -f -a ${quoted(choices.join(" "))}`]),
    ...options.map(({ long, short, description, takesValue, choices: values }) =>
      [
        at,
        ...(short === undefined ? [] : [`-s ${short.slice(1)}`]),
        `-l ${long.slice(2)}`,
        ...(takesValue ? ["-r"] : []),
        ...(values.length === 0 ? [] : [`-f -a ${quoted(values.join(" "))}`]),
        `-d ${quoted(description)}`,
      ].join(" "),
    ),
  ];
}

/** Single quotes, in which fish knows `\\` and `\'`. */
function quoted(text: string): string {
  return `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
}
