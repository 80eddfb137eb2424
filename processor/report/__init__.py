"""The report of a run: one page that shows what was trained, where it fails, and which body parts carry each action."""
