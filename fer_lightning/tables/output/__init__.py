"""How a table is shown: as text, CSV, Markdown, LaTeX, a figure and a page."""
