"""Pictures and pages for people: overlays on photographs, attention panels, charts, one static page."""
