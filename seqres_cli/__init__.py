"""The `seqres` command: flags -> Config -> stages.<stage>.run -> report. Nothing here computes."""
