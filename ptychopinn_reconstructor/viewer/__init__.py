"""Several results side by side in the browser: linked, what they differ, along a line, as far as they correlate."""
