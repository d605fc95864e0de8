"""Example scripts, written into a folder by `ptychopinn init`; run them there, they are not for importing."""
