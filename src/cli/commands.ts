/** All commands of the program. Each loads what it needs when it runs, so that help and version are quick. */
import { auditCommand } from "./audit_command.ts";
import { burnCommand } from "./burn_command.ts";
import { certsCommand } from "./certs_command.ts";
import { checkCommand } from "./check_command.ts";
import type { Command } from "./command.ts";
import { completionCommand } from "./completion_command.ts";
import { healthCommand } from "./health_command.ts";
import { helpCommand } from "./help_command.ts";
import { keysCommand } from "./keys_command.ts";
import { linkCommand } from "./link_command.ts";
import { saeCommand } from "./sae_command.ts";
import { startCommand } from "./start_command.ts";
import { statusCommand } from "./status_command.ts";
import { storeCommand } from "./store_command.ts";
import { versionCommand } from "./version_command.ts";

export const COMMANDS: readonly Command[] = [
  startCommand,
  checkCommand,
  statusCommand,
  healthCommand,
  certsCommand,
  keysCommand,
  burnCommand,
  linkCommand,
  storeCommand,
  auditCommand,
  saeCommand,
  completionCommand(() => COMMANDS),
  helpCommand(() => COMMANDS),
  versionCommand,
];
