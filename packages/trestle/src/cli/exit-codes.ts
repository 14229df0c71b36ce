/** Exit codes of every command; docs/reference/cli.md explains them, and none ever changes its meaning. */
export const exitCodes = {
  ok: 0,
  /** What was asked for was done, and it found something wrong; or the app failed. */
  problem: 1,
  /** The command line is wrong. Nothing was done. */
  usage: 2,
  /** This machine does not let it run: Node, ports, directories, permissions. */
  environment: 3,
  /** The store or the node cannot be reached. */
  unreachable: 4,
  /** Ended by Ctrl-C. */
  interrupted: 130,
} as const;
export type ExitCode = (typeof exitCodes)[keyof typeof exitCodes];
