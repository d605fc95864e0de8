"""Widgets of the panel in Ptychodus, the only part that imports Qt; their contents are in panel.py."""
