/** Completion for shells, made from the descriptions of the commands. */
import { type CommandDescription, HELP_OPTION, type Operand } from "./description.ts";

type Commands = readonly CommandDescription[];

/** The script of each shell. */
export const COMPLETION_SCRIPTS: ReadonlyMap<string, (commands: Commands) => string> = new Map([
  ["bash", bash],
  ["zsh", zsh],
  ["fish", fish],
]);

/** Values of options that are paths. */
const PATH_VALUES: Readonly<Record<string, "file" | "directory">> = { DIR: "directory", FILE: "file" };

/** Options of all commands that have a value of this kind; `undefined`: no path. */
function optionsWith(commands: Commands, kind: "file" | "directory" | undefined): string[] {
  const names = commands.flatMap(({ options }) => Object.entries(options))
    .filter(([, { value }]) => value !== undefined && PATH_VALUES[value] === kind).map(([name]) =>
      `--${name}`
    );
  return [...new Set(names)];
}

function namesOf(commands: Commands): string[] {
  return commands.flatMap(({ name, aliases = [] }) => [name, ...aliases]);
}

function optionsOf({ options }: CommandDescription): string[] {
  return [...Object.keys(options), "help"].map((name) => `--${name}`);
}

/** Words for `compgen -W`, one a line: the script splits at line ends only, since file names have spaces. */
function wordList(words: readonly string[]): string {
  return `$'${words.join("\\n")}'`;
}

function bash(commands: Commands): string {
  const words = (operand: Operand | undefined): string => {
    if (operand === undefined) return ":";
    const { actions, ...others } = operand;
    const { complete } = others;
    if (actions !== undefined) {
      return `if ((COMP_CWORD == 2)); then ${words({ ...others, complete: actions })}
      else ${words(others)}
      fi`;
    }
    if (complete === "file") return 'COMPREPLY=($(compgen -f -- "$word"))';
    if (complete === "directory") return 'COMPREPLY=($(compgen -d -- "$word"))';
    const list = complete === "command" ? namesOf(commands) : complete;
    return `COMPREPLY=($(compgen -W ${wordList(list)} -- "$word"))`;
  };
  const cases = commands.map((command) => {
    const { name, aliases = [], operand } = command;
    return `    ${[name, ...aliases].join("|")})
      if [[ $word == -* ]]; then COMPREPLY=($(compgen -W ${wordList(optionsOf(command))} -- "$word"))
      else ${words(operand)}
      fi ;;`;
  });
  const [files, directories, others] = (["file", "directory", undefined] as const)
    .map((kind) => optionsWith(commands, kind).join("|"));
  return `# Completion of kme for bash.
_kme() {
  local IFS=$'\\n' word=\${COMP_WORDS[COMP_CWORD]}
  COMPREPLY=()
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ${
    wordList([...namesOf(commands), "--help", "--version"])
  } -- "$word") $(compgen -f -- "$word"))
    return
  fi
  case \${COMP_WORDS[COMP_CWORD - 1]} in
    ${files}) COMPREPLY=($(compgen -f -- "$word")); return ;;
    ${directories}) COMPREPLY=($(compgen -d -- "$word")); return ;;
    ${others}) return ;;
  esac
  case \${COMP_WORDS[1]} in
${cases.join("\n")}
  esac
}
complete -o filenames -F _kme kme`;
}

function zsh(commands: Commands): string {
  const quote = (text: string) => `'${text.replaceAll("'", "'\\''")}'`;
  const plain = (text: string) => text.replaceAll(/[[\]:\\]/g, "\\$&");
  const action = (complete: Operand["complete"] | undefined) => {
    if (complete === "file") return "_files";
    if (complete === "directory") return "_files -/";
    if (complete === undefined || complete.length === 0) return "";
    return `(${(complete === "command" ? namesOf(commands) : complete).join(" ")})`;
  };
  const pathAction = (value: string) => action(PATH_VALUES[value]);
  const cases = commands.map(({ name, aliases = [], operand, options }) => {
    const specs = Object.entries(options).map(([option, { value, description }]) =>
      quote(
        `--${option}[${plain(description)}]` +
          (value === undefined ? "" : `:${value}:${pathAction(value)}`),
      )
    );
    specs.push(quote("--help[print this help]"));
    if (operand !== undefined) {
      const { actions } = operand;
      if (actions !== undefined) specs.push(quote(`1:action:${action(actions)}`));
      const times = operand.many ? "*" : "1";
      specs.push(quote(`${times}:${plain(operand.what)}:${action(operand.complete)}`));
    }
    return `    ${[name, ...aliases].join("|")}) _arguments ${specs.join(" ")} ;;`;
  });
  const described = commands.flatMap(({ name, aliases = [], summary }) =>
    [name, ...aliases].map((name) => quote(`${plain(name)}:${plain(summary)}`))
  );
  return `#compdef kme
# Completion of kme for zsh.
_kme() {
  if ((CURRENT == 2)); then
    local -a commands=(${described.join(" ")})
    _describe -t commands command commands
    _files
    return
  fi
  local command=$words[2]
  shift words
  ((CURRENT--))
  case $command in
${cases.join("\n")}
  esac
}
# As a file of $fpath, this is the body of the function at its first call. It can also be sourced.
if [[ $funcstack[1] == _kme ]]; then
  _kme "$@"
else
  compdef _kme kme
fi`;
}

function fish(commands: Commands): string {
  const quote = (text: string) => `'${text.replaceAll("\\", "\\\\").replaceAll("'", "\\'")}'`;
  const lines = ["# Completion of kme for fish."];
  for (const { name, aliases = [], summary, operand, options } of commands) {
    const names = [name, ...aliases];
    for (const name of names) {
      lines.push(`complete -c kme -n __fish_use_subcommand -a ${name} -d ${quote(summary)}`);
    }
    const condition = `-n ${quote(`__fish_seen_subcommand_from ${names.join(" ")}`)}`;
    for (
      const [option, { value, description }] of Object.entries({ ...options, help: HELP_OPTION })
    ) {
      const argument = value === undefined ? "" : PATH_VALUES[value] !== undefined ? " -r" : " -x";
      lines.push(`complete -c kme ${condition} -l ${option}${argument} -d ${quote(description)}`);
    }
    if (operand?.actions !== undefined) {
      lines.push(`complete -c kme ${condition} -a ${quote(operand.actions.join(" "))}`);
    }
    const complete = operand?.complete;
    if (complete === "directory") {
      lines.push(`complete -c kme ${condition} -f -a '(__fish_complete_directories)'`);
    } else if (complete !== "file") {
      const words = complete === undefined ? [] : complete === "command" ? namesOf(commands) : complete;
      lines.push(
        `complete -c kme ${condition} -f${words.length === 0 ? "" : ` -a ${quote(words.join(" "))}`}`,
      );
    }
  }
  return lines.join("\n");
}
