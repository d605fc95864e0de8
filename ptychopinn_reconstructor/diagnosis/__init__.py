"""What is wrong with a scan: looks at its data, short trial reconstructions, and which cause comes first."""
