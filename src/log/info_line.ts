/** A line of the log at info whose text is finished. Its form is that of the logger's formatters. */
import { escapeControlCharacters } from "../domain/text.ts";
import { timestamp } from "../domain/time.ts";
import type { Room } from "./log_settings.ts";

export class InfoLine {
  readonly room: Room;
  /** Milliseconds since 1970. */
  readonly at: number;
  readonly text: string;

  constructor(room: Room, at: number, text: string) {
    this.room = room;
    this.at = at;
    this.text = text;
  }
}

export function formatInfoLine({ room, at, text }: InfoLine, json: boolean): string {
  const logger = `kme.${room}`;
  if (!json) return `${timestamp(at)} [INFO] ${logger}: ${escapeControlCharacters(text)}\n`;
  return `${JSON.stringify({ "@timestamp": timestamp(at), level: "INFO", message: text, logger })}\n`;
}
