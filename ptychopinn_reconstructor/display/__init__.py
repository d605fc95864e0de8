"""How things are shown: pages and fragments of HTML, pictures without a plotting library, a line of progress."""
