"""What the report shows, as plain objects: read from the results folder by collect, drawn by page and status_page."""
