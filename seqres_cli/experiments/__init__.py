"""Experiments as plain data: lists of `seqres` calls that share what they have in common, run side by side."""
