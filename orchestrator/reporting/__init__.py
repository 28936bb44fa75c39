"""Reports of a rollout: what the journal says of it, as a model and as HTML, JSON, CSV and Markdown text.

Pure: entries in, text out. Whoever wants a file writes one.
"""
