import { allCommands, type CommandNode, type OptionNode } from "./tree.ts";

/** Needs nothing but bash: no helper functions of the bash-completion package, which a server may lack. */
export function bashCompletion(root: CommandNode): string {
  const commands = allCommands(root);
  const paths = commands.filter(({ path }) => path !== "").map(({ path }) => path);
  return `# bash completion of mesh-agent; made from its command line.
_mesh_agent() {
  local current=\${COMP_WORDS[COMP_CWORD]} previous=\${COMP_WORDS[COMP_CWORD - 1]} at= words= i
  # Which command the cursor stands in: the longest chain of names so far.
  for ((i = 1; i < COMP_CWORD; i++)); do
    case "$at/\${COMP_WORDS[i]}" in
      ${paths.join(" | ")}) at=$at/\${COMP_WORDS[i]} ;;
    esac
  done
  COMPREPLY=()
  case "$at $previous" in
${commands.flatMap(valueCases).join("\n")}
  esac
  case $at in
${commands.map(wordCase).join("\n")}
  esac
  mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -o default -F _mesh_agent mesh-agent
`;
}

/** What may follow an option; without known values the shell's own completion of files goes on. */
function valueCases({ path, options }: CommandNode): string[] {
  return options
    .filter(({ takesValue }) => takesValue)
    .map((option) => {
      const names = spelled(option)
        .map((name) => `"${path} ${name}"`)
        .join(" | ");
      return option.choices.length === 0
        ? `    ${names}) return ;;`
        : `    ${names}) mapfile -t COMPREPLY < <(compgen -W "${option.choices.join(" ")}" -- "$current"); return ;;`;
    });
}

function wordCase({ path, commands, options, choices }: CommandNode): string {
  const words = [...commands.map(({ name }) => name), ...choices, ...options.flatMap(spelled)];
  return `    "${path}") words="${words.join(" ")}" ;;`;
}

function spelled({ long, short }: OptionNode): string[] {
  return short === undefined ? [long] : [short, long];
}
