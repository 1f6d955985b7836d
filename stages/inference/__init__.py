"""Running a model: encode once an image, decode, answer; scores of validation sentences; what is worth annotating."""
