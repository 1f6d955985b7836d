"""One module a source format; each returns `ReferringTables`, which prepare-data checks against the pictures
and writes."""
