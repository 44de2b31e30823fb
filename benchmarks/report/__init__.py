"""What is made of results: `table` (Markdown), `document` (the page, and JSON beside it), `plot` (a picture)."""
