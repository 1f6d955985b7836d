"""Neural networks: point-sequence model (SeqTR family) and its parts; one short file a concept."""
