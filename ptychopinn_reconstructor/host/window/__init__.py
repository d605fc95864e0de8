"""What needs Qt: the panel in Ptychodus, and its window on a scan of ours. What the panel says stands in panel.py."""
