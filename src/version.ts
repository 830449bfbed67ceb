/** Version of the program, shown by `kme --version`. */
export const VERSION = "0.1.0";
