"""The library of seqres: every stage reads HDF5 artifacts and writes one; usable without the command line."""

__version__ = "0.1.0"
