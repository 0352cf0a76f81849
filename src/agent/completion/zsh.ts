import { allCommands, type CommandNode, type OptionNode } from "./tree.ts";

/** A file for a folder of `fpath`. */
export function zshCompletion(root: CommandNode): string {
  const commands = allCommands(root);
  const paths = commands.filter(({ path }) => path !== "").map(({ path }) => path);
  return `#compdef mesh-agent
# zsh completion of mesh-agent; made from its command line.
local at= i
local -a names options
# Which command the cursor stands in: the longest chain of names so far.
for ((i = 2; i < CURRENT; i++)); do
  case "$at/$words[i]" in
    ${paths.join(" | ")}) at=$at/$words[i] ;;
  esac
done
case "$at $words[CURRENT - 1]" in
${commands.flatMap(valueCases).join("\n")}
esac
case $at in
${commands.map(wordCase).join("\n")}
esac
if (( $#names )); then _describe -t commands command names; fi
if [[ $words[CURRENT] == -* ]] || (( ! $#names )); then _describe -o -t options option options; fi
if (( ! $#names )) && [[ $words[CURRENT] != -* ]]; then _files; fi
`;
}

function valueCases({ path, options }: CommandNode): string[] {
  return options
    .filter(({ takesValue }) => takesValue)
    .map(({ long, short, choices }) => {
      const names = short === undefined ? [long] : [short, long];
      const what = choices.length === 0 ? "_files" : `_values value ${choices.map(quoted).join(" ")}`;
      return `  ${names.map((name) => quoted(`${path} ${name}`)).join(" | ")}) ${what}; return ;;`;
    });
}

function wordCase({ path, commands, options, choices }: CommandNode): string {
  const names = [...commands.map(({ name, description }) => described(name, description)), ...choices.map(quoted)];
  const flags = options.flatMap((option: OptionNode) =>
    [option.short, option.long].filter((name) => name !== undefined).map((name) => described(name, option.description)),
  );
  return `  ${path === "" ? "''" : path}) names=(${names.join(" ")}); options=(${flags.join(" ")}) ;;`;
}

/** `name:description`, as _describe takes it. */
function described(name: string, description: string): string {
  return quoted(`${name.replaceAll(":", "\\:")}:${description}`);
}

function quoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
