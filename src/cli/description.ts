/** How commands describe themselves: help texts, the man page and shell completion are made from it. */

export interface Option {
  /** Name of its value, like `DIR`; absent: the option has none. */
  readonly value?: string;
  readonly description: string;
}

/** An argument that is not an option. */
export interface Operand {
  readonly name: string;
  /** For messages, like `configuration file`. */
  readonly what: string;
  readonly optional?: boolean;
  readonly many?: boolean;
  /** Words of which the first operand is one. */
  readonly actions?: readonly string[];
  /** What a shell completes it with. */
  readonly complete: "file" | "directory" | "command" | readonly string[];
}

export interface CommandDescription {
  readonly name: string;
  /** Other names. */
  readonly aliases?: readonly string[];
  /** A few words for the list of commands. */
  readonly summary: string;
  /** What follows the name in the usage line. */
  readonly usage: string;
  /** Paragraphs. */
  readonly description: readonly string[];
  readonly operand?: Operand;
  readonly options: Readonly<Record<string, Option>>;
  readonly exitCodes: Readonly<Record<number, string>>;
}

/** The option that every command has. */
export const HELP_OPTION: Option = { description: "print this help" };

export const CONFIG_OPERAND: Operand = { name: "CONFIG", what: "configuration file", complete: "file" };
